"""A PostgreSQL server per test, on a loopback port, that may be killed: stands for a shard on another machine.

As root it runs as the user `postgres`, as PostgreSQL refuses root. Only processes of this server's data folder are ever
signalled. fsync is off: a killed process loses nothing by that, only a power cut would.
"""

import os
import pathlib
import shutil
import signal
import subprocess

from ports import free_port
from waiting import wait_until

OPTIONS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "max_connections": "200"}


def _program(name: str) -> str:
    if found := shutil.which(name):
        return found
    versions = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: float(p.parts[-3]))
    assert versions, f"no {name} on this machine"
    return str(versions[-1])


class SteppedClock:
    """A clock that a server goes by (libfaketime) and that a test sets; time goes on as fast as always."""

    def __init__(self, file: pathlib.Path):
        self._file = file
        self.set(0)

    def set(self, seconds: float) -> None:
        """So far ahead of the machine's clock; negative: behind it."""
        # Renamed: a reader never sees half of it.
        fresh = self._file.with_suffix(".fresh")
        fresh.write_text(f"{seconds:+f}\n")
        fresh.chmod(0o644)
        fresh.rename(self._file)

    def environment(self) -> dict[str, str]:
        (library,) = pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
        clock = {"FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_NO_CACHE": "1"}
        return {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1", **clock}


class OwnPostgres:
    """`OwnPostgres(folder, databases…)` is running when it is constructed; `stop` it at the end. `more`: server settings."""

    def __init__(self, folder: pathlib.Path, *databases: str, clock: SteppedClock | None = None, **more: str):
        self.folder, self.port, self.kills, self.options = folder, free_port(), 0, {**OPTIONS, **more}
        self._environment = {**os.environ, **(clock.environment() if clock else {})}
        self._as = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        folder.mkdir()
        if self._as:
            shutil.chown(folder, "postgres", "postgres")
        self._run(_program("initdb"), "-D", folder, "-U", "postgres", "-A", "trust", "-N", "--locale=C", "-E", "UTF8")
        self._process: subprocess.Popen | None = None
        self.start()
        for database in databases:
            self.psql(f'CREATE DATABASE "{database}"', "postgres")

    def url(self, database: str) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def _run(self, *command) -> str:
        words = [str(word) for word in command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd="/", **self._as)
        assert done.returncode == 0, f"{words[0]}: {done.stderr}"
        return done.stdout

    def psql(self, sql: str, database: str) -> str:
        """The unaligned output of one statement."""
        return self._run(_program("psql"), self.url(database), "-X", "-At", "-c", sql).strip()

    def dump(self, database: str, file: pathlib.Path) -> None:
        with file.open("wb") as dump:
            command = [_program("pg_dump"), "-Fc", "-d", self.url(database)]
            subprocess.run(command, stdout=dump, check=True, timeout=60, cwd="/")

    def restore(self, file: pathlib.Path, database: str) -> None:
        """Into an empty database."""
        with file.open("rb") as dump:
            command = [_program("pg_restore"), "--exit-on-error", "-d", self.url(database)]
            subprocess.run(command, stdin=dump, check=True, timeout=60, cwd="/")

    def session(self, database: str) -> "Session":
        """A connection that stays open, for transactions over several statements."""
        return Session([_program("psql"), self.url(database), "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1"])

    def start(self) -> None:
        """Until it takes connections. After a kill the old server's processes may still be on their way out."""

        def up() -> bool:
            if self._process is None or self._process.poll() is not None:
                self._launch()
            ready = [_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
            return subprocess.run(ready, timeout=10).returncode == 0

        wait_until(up, 30, f"PostgreSQL on port {self.port}: {self.log_tail()}", every=0.1)

    def _launch(self) -> None:
        options = [word for name, value in self.options.items() for word in ("-c", f"{name}={value}")]
        command = [_program("postgres"), "-D", str(self.folder), "-p", str(self.port), *options]
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=self._environment,
                start_new_session=True,
                **self._as,
            )

    def kill(self, sign: signal.Signals = signal.SIGKILL) -> None:
        """Gone at once: SIGKILL of the postmaster, or SIGQUIT (PostgreSQL's `immediate`)."""
        self._process.send_signal(sign)
        self._process.wait(10)
        self.kills += 1

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill(signal.SIGQUIT)

    def log_tail(self) -> str:
        log = self.folder.parent / f"{self.folder.name}.log"
        return log.read_text(errors="replace")[-600:] if log.exists() else "(no log)"


class Session:
    """psql, statement by statement."""

    def __init__(self, command: list):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self._psql = subprocess.Popen(command, text=True, cwd="/", **pipes)

    def say(self, sql: str) -> list[str]:
        """What was answered, line by line; an error ends the session and is raised."""
        self._psql.stdin.write(f"{sql}\n\\echo .\n")
        self._psql.stdin.flush()
        answer = []
        for line in self._psql.stdout:
            if line == ".\n":
                return answer
            answer.append(line.rstrip("\n"))
        raise AssertionError(f"psql ended: {answer}")

    def close(self) -> None:
        """An open transaction is rolled back."""
        self._psql.stdin.close()
        self._psql.stdout.close()
        self._psql.wait(10)


def shard_map(path: pathlib.Path, shards: list[tuple]) -> pathlib.Path:
    """A `--shards` file of `(name, first byte, last byte, url)`."""
    lines = [f'  - {{name: {name}, range: ["{low}", "{high}"], url: "{url}"}}' for name, low, high, url in shards]
    path.write_text("shards:\n" + "\n".join(lines) + "\n")
    return path
