"""Hazard: the broker is killed under load and loses its message ids for deduplication; the service dies between
publishing and recording; the broker's store, or the ledger, is restored from an older backup.

An independent consumer must find every event in the JetStream stream once, in order, 1 to N per shard; where that is
impossible, the exporter must have stopped with the reason, without sending anything.
"""

import json
import shutil
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

import exported_files
from exported_stream import NatsServer
from exporting import (
    SHARDS,
    Writing,
    assert_replay,
    dies_there,
    exports_more,
    feed,
    shards,
    verified,
    wait_exported,
    write,
)
from own_postgres import OwnPostgres, shard_map
from platform_under_test import ORDER_SERVICE_BIN, Platform
from processes import run_command
from waiting import wait_until

WINDOW = 1  # seconds for which the server remembers message ids
# Each point, and the time it is passed at which the process dies.
POINTS = [("export_published", 1), ("export_published", 40), ("exported", 10), ("export_recording", 9)]


@pytest.fixture
def server(platform):
    started = NatsServer(platform.home / "nats", WINDOW)
    platform.closing(started.stop)
    return started


def to(server) -> tuple:
    return "--export-engine", "nats", "--nats-url", server.url


@pytest.mark.long
def test_a_broker_killed_under_load_and_away_for_longer_than_it_remembers(platform, server):
    service = platform.order_service(*to(server))
    ledger = platform.ledger_client(service)
    with Writing(ledger, "e") as writing:
        for turn in range(4):
            exports_more(ledger, 300)
            server.kill()
            if turn % 2:
                time.sleep(3 * WINDOW)  # the hazard itself
            server.start()
        exports_more(ledger, 300)
    wait_exported(ledger)
    events = assert_replay(ledger, server.bodies, writing.written)
    verified(service, *to(server))
    print(f"{server.kills} kills of the broker, {events} events exported")


def leaves_an_exact_stream(point: str, count: int) -> None:
    """One case on a platform of its own. The dead process's leases outlast the server's memory."""
    platform = Platform()
    try:
        server = NatsServer(platform.home / "nats", WINDOW)
        platform.closing(server.stop)
        service = platform.order_service(*to(server), start=False)
        ledger = platform.ledger_client(service)
        written = dies_there(service, ledger, point, count)
        assert_replay(ledger, server.bodies, written)
        verified(service, *to(server))
    finally:
        platform.close()


@pytest.mark.long
def test_dying_between_publishing_and_recording_leaves_an_exact_stream(debug_build):
    with ThreadPoolExecutor(4) as pool:
        cases = {point: pool.submit(leaves_an_exact_stream, *point) for point in POINTS}
    failed = {point: repr(case.exception()) for point, case in cases.items() if case.exception()}
    assert not failed, failed


@pytest.mark.long
def test_a_broker_put_back_stops_the_exporter_until_it_is_told_to_go_on(platform, server):
    service = platform.order_service(*to(server))
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

    wait_until(lambda: all(shard["export_alarm"] for shard in shards(ledger).values()), 60, "alarms")
    before = {shard: len(server.read(shard)) for shard in SHARDS}
    assert sum(before.values()) == 400, "something was sent"
    for name, shard in shards(ledger).items():
        assert f"ends with number {before[name]} of epoch 1" in shard["export_alarm"], shard
    assert_said(service, "resume s0 --from-broker")
    done = service.command_line("export", "verify", *to(server))
    assert done.returncode == 1 and "the broker is behind what it once held" in done.stdout
    refused = service.command_line("export", "new-epoch", "s0", *to(server))
    assert refused.returncode == 1 and "it is the broker that is behind" in refused.stderr

    for shard in SHARDS:
        decided = decide(service, "resume", shard, "--from-broker", *to(server))
        assert decided["again"][0] == before[shard] + 1 and decided["epoch"] == 1
    wait_exported(ledger)
    assert_replay(ledger, server.bodies, written)
    verified(service, *to(server))


def assert_said(service, advice: str) -> None:
    """In the metrics, and once in the log, as an error with what to do."""
    with urllib.request.urlopen(f"http://127.0.0.1:{service.http_port}/metrics", timeout=5) as metrics:
        assert 'ledger_export_alarm{shard="s0"} 1' in metrics.read().decode()
    said = [json.loads(line) for line in service.log.read_text().splitlines() if '"export stopped"' in line]
    of_shard = [line for line in said if line["shard"] == "s0"]
    assert len(of_shard) == 1 and of_shard[0]["code"] == "CONSISTENCY_ERROR" and advice in of_shard[0]["advice"], said


def decide(service, *words) -> dict:
    done = service.command_line("export", *words, "--output", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class OwnDatabases:
    """The service over a database for each shard, of which one can be put back to what it was."""

    def __init__(self, platform, *flags):
        self.postgres = OwnPostgres(platform.home / "postgres", "control", *SHARDS)
        platform.closing(self.postgres.stop)
        bounds = [("00", "3f"), ("40", "7f"), ("80", "bf"), ("c0", "ff")]
        places = [(name, *bound, self.postgres.url(name)) for name, bound in zip(SHARDS, bounds, strict=True)]
        map_file = str(shard_map(platform.home / "shards.yaml", places))
        self.flags = ("--database-url", self.postgres.url("control"), "--shards", map_file, *flags)
        done = run_command([ORDER_SERVICE_BIN, "migrate", *self.flags], timeout=60)
        assert done.returncode == 0, done.stderr
        self.service = platform.order_service(*self.flags)

    def put_back(self, shard: str, dump) -> None:
        """By the operator's book: everything that uses it is stopped meanwhile."""
        self.service.stop()
        self.postgres.psql(f"DROP DATABASE {shard}", "postgres")
        self.postgres.psql(f"CREATE DATABASE {shard}", "postgres")
        self.postgres.restore(dump, shard)
        self.service.start()


@pytest.mark.parametrize("engine", ["files", "nats"])
@pytest.mark.long
def test_a_ledger_put_back_stops_the_exporter_until_a_new_epoch_begins(platform, server, engine):
    flags = to(server) if engine == "nats" else ()
    of_files = lambda shard: exported_files.read(platform.data_dir / "export", shard)  # noqa: E731
    of_nats = lambda shard: [body for _, body in server.read(shard)]  # noqa: E731
    read = of_nats if engine == "nats" else of_files
    databases = OwnDatabases(platform, *flags)
    service, postgres = databases.service, databases.postgres
    ledger = platform.ledger_client(service)
    write(ledger, 400, "before")
    wait_exported(ledger)
    common, dump = shards(ledger)["s0"]["last_seq"], platform.home / "older.dump"
    postgres.dump("s0", dump)
    write(ledger, 400, "lost")
    wait_exported(ledger)
    held = read("s0")
    databases.put_back("s0", dump)

    alarm = wait_until(lambda: shards(ledger)["s0"]["export_alarm"], 60, "an alarm")
    ahead = f"it holds number {len(held)} of epoch 1, the ledger ends with number {common} of epoch 1"
    assert alarm == f"the broker is ahead of the ledger: {ahead}"
    assert_said(service, "order_service export new-epoch s0")
    assert len(write(ledger, 100, "after")) == 100, "the ledger goes on"
    refused = service.command_line("export", "resume", "s0", "--from-broker", *databases.flags)
    assert refused.returncode == 1 and "the broker is not behind" in refused.stderr
    done = service.command_line("export", "verify", "--shard", "s0", *databases.flags)
    assert done.returncode == 1 and f"s0 number {common + 1}: " in done.stdout, done.stdout
    would = decide(service, "new-epoch", "s0", "--dry-run", *databases.flags)
    assert (would["epoch"], would["next_seq"], would["void"]) == (2, common + 1, [common + 1, len(held)])
    assert read("s0") == held, "something was sent"

    decided = decide(service, "new-epoch", "s0", *databases.flags)
    assert decided == {**would, "dry_run": False}
    wait_exported(ledger)
    epochs = {name: shard["export_epoch"] for name, shard in shards(ledger).items()}
    assert epochs == {"s0": 2, "s1": 1, "s2": 1, "s3": 1}
    again = [{"shard": "s0", "epoch": 2, **event} for event in feed(ledger, "s0")[common:]]
    assert read("s0") == held + again
    proof = verified(service, *databases.flags)
    (of_s0,) = [shard for shard in proof["shards"] if shard["shard"] == "s0"]
    assert of_s0["void"] == len(held) - common and of_s0["entries"] == len(held) + len(again)
