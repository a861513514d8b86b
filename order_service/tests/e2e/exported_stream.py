"""A nats-server per test, and an independent reader of its stream (nats-py)."""

import asyncio
import json
import os
import pathlib
import shutil
import subprocess

import nats

from ports import free_port, is_open
from stubs import REPOSITORY
from waiting import wait_until


def _program() -> str:
    installed = REPOSITORY / "target" / "nats-venv" / "bin" / "nats-server"
    found = os.environ.get("NATS_SERVER") or (str(installed) if installed.exists() else shutil.which("nats-server"))
    assert found, "no nats-server on this machine: scripts/init-repo.sh --test installs it"
    return found


class NatsServer:
    """Running when it is constructed; `stop` it at the end.

    With a `window` the stream is there already, as an operator may make it, and message ids are remembered for so many
    seconds only. Otherwise whoever exports first makes it.
    """

    def __init__(self, folder: pathlib.Path, window: float | None = None):
        self.folder, self.port, self.kills = folder, free_port(), 0
        folder.mkdir()
        self._config = folder / "nats.conf"
        self._config.write_text(f'max_payload: 9000000\njetstream {{ store_dir: "{folder / "store"}" }}\n')
        self._process: subprocess.Popen | None = None
        self.start()
        if window is not None:
            asyncio.run(self._make_stream(window))

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [_program(), "-c", self._config, "-a", "127.0.0.1", "-p", str(self.port)]
        with (self.folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: is_open(self.port), 20, "nats-server to listen")

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait(10)
        self.kills += 1

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    async def _make_stream(self, window: float) -> None:
        client = await nats.connect(self.url)
        try:
            await client.jetstream().add_stream(name="LEDGER", subjects=["ledger.events.*"], duplicate_window=window)
        finally:
            await client.close()

    def read(self, shard: str) -> list[tuple[str, dict]]:
        """(message id, body) of everything on the shard's subject, in the stream's order."""
        return asyncio.run(self._read(f"ledger.events.{shard}"))

    def bodies(self, shard: str, epoch: int = 1) -> list[dict]:
        """What a consumer finds on the shard's subject, all of one epoch; each under its own message id."""
        messages = self.read(shard)
        assert [name for name, _ in messages] == [f"{shard}-{epoch}-{body['seq']}" for _, body in messages]
        return [body for _, body in messages]

    async def _read(self, subject: str) -> list[tuple[str, dict]]:
        client = await nats.connect(self.url)
        try:
            stream = client.jetstream()
            subscription = await stream.subscribe(subject, stream="LEDGER", ordered_consumer=True)
            info = await subscription.consumer_info()
            wanted = info.num_pending + info.delivered.consumer_seq
            messages = [await subscription.next_msg(timeout=10) for _ in range(wanted)]
            return [(message.headers["Nats-Msg-Id"], json.loads(message.data)) for message in messages]
        finally:
            await client.close()
