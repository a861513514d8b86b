"""Hazard: the roles run apart; exporters are killed and paused beyond their lease, the broker is killed and put back to
an older copy, under load.

A consumer of another make must find every event in the JetStream stream once, in order, 1 to N per shard; and where
that cannot be had, the exporter must have stopped and said why.
"""

import json
import os
import shutil
import signal
import time
import urllib.request

import pytest

from exported_stream import NatsServer
from exporting import SHARDS, Writing, assert_replay, shards, verified, wait_exported, write
from roles_apart import Roles
from waiting import wait_until

LEASE_SECONDS = 8


@pytest.fixture
def server(platform):
    started = NatsServer(platform.home / "nats")
    platform.closing(started.stop)
    return started


def read(server):
    def of(shard: str) -> list[dict]:
        messages = server.read(shard)
        assert [name for name, _ in messages] == [f"{shard}-1-{body['seq']}" for _, body in messages]
        return [body for _, body in messages]

    return of


@pytest.mark.timeout(300)
def test_exporters_and_the_broker_are_killed_and_paused_under_load(platform, server):
    to_nats = ["--export-engine", "nats", "--nats-url", server.url]
    writer = Roles(platform, "http,sequencer")
    exporters = [Roles(platform, "exporter", *to_nats) for _ in range(2)]
    ledger = platform.ledger_client(writer)

    def exported() -> int:
        return sum(shard["exported_seq"] for shard in shards(ledger).values())

    def goes_on() -> None:
        seen = exported()
        wait_until(lambda: exported() > seen + 200, 60, "exporting goes on")

    kills = pauses = 0
    with Writing(ledger, "e") as writing:
        goes_on()
        for turn in range(3):
            victim = exporters[turn % 2]
            victim.process.kill()
            kills += 1
            goes_on()
            victim.start()
            server.kill()
            server.start()
            goes_on()
        for sleeper in exporters:
            os.kill(sleeper.process.pid, signal.SIGSTOP)
            try:
                time.sleep(LEASE_SECONDS + 2)  # the hazard itself: longer than the lease
                goes_on()
            finally:
                os.kill(sleeper.process.pid, signal.SIGCONT)
            pauses += 1
            goes_on()
    wait_exported(ledger)
    events = assert_replay(ledger, read(server), writing.written)
    verified(writer.process, *to_nats)
    print(f"{kills} kills, {pauses} pauses, {server.kills} kills of the broker, {events} events exported")


def test_a_broker_put_back_stops_the_exporter_until_it_is_told_to_go_on(platform, server):
    to_nats = ["--export-engine", "nats", "--nats-url", server.url]
    service = platform.order_service(*to_nats)
    ledger = platform.ledger_client(service)
    written = write(ledger, 400, "before")
    wait_exported(ledger)
    server.kill()
    shutil.copytree(server.folder / "store", server.folder / "older")
    server.start()
    written += write(ledger, 400, "lost")
    wait_exported(ledger)
    server.kill()
    shutil.rmtree(server.folder / "store")
    shutil.copytree(server.folder / "older", server.folder / "store")
    server.start()
    written += write(ledger, 100, "after")

    def alarmed() -> bool:
        return all(shard["export_alarm"] for shard in shards(ledger).values())

    wait_until(alarmed, 60, "alarms")
    before = {shard: len(server.read(shard)) for shard in SHARDS}
    assert sum(before.values()) == 400, "nothing is sent"
    for name, shard in shards(ledger).items():
        assert f"ends with number {before[name]} of epoch 1" in shard["export_alarm"], shard
    with urllib.request.urlopen(f"http://127.0.0.1:{service.http_port}/metrics", timeout=5) as metrics:
        assert 'ledger_export_alarm{shard="s0"} 1' in metrics.read().decode()
    said = [line for line in service.log_tail(400).splitlines() if "export stopped" in line]
    assert any('"code":"CONSISTENCY_ERROR"' in line and "resume s0 --from-broker" in line for line in said), said
    done = service.command_line("export", "verify", *to_nats)
    assert done.returncode == 1 and "the broker is behind what it once held" in done.stdout
    refused = service.command_line("export", "new-epoch", "s0", *to_nats)
    assert refused.returncode == 1 and "it is the broker that is behind" in refused.stderr
    for shard in SHARDS:
        done = service.command_line("export", "resume", shard, "--from-broker", "--output", "json", *to_nats)
        assert done.returncode == 0, done.stderr
        decided = json.loads(done.stdout)
        assert decided["again"][0] == before[shard] + 1 and decided["epoch"] == 1
    wait_exported(ledger)
    assert_replay(ledger, read(server), written)
    verified(service, *to_nats)
