"""Hazard: the sequencer, aggregator or exporter is killed or paused beyond its lease, under load, while some
transactions commit long after others that began later.

Promise: every acknowledged event is in the feed once, numbered from 1 without gaps, in one order for all readers; it is
exported once and in that order; and all balances are the sums of the events.
"""

import datetime
import json
import threading

import pytest

import exported_files
from background_load import DAYS, FeedReader, OpenTransactions, Writer
from exported_stream import NatsServer
from exporting import assert_replay, shards, verified, wait_exported
from ledger_client import LedgerClient
from ledger_events import INFLOW, OUTFLOW, START, outflow, written_time
from ledger_oracle import Oracle, groups_of
from ledger_sharding import one_id_per_shard
from separate_roles import SHARDS, Pair, RoleProcess, SharedDatabase
from waiting import wait_until

WRITERS, READERS = 8, 3
KEYS = {OUTFLOW: ("storage_id",), INFLOW: ("pickup_point_id",)}


class World:
    """A database, an HTTP process, a pair for each background role, and everybody who uses them."""

    def __init__(self, platform, rounds: int, export_flags=()):
        self.platform = platform
        self.database = SharedDatabase(platform)
        self.front = RoleProcess(platform, "grpc,http,retry", *self.database.flags)
        self.ledger = platform.ledger_client(self.front)
        self.firsts = {shard: outflow(n, "1.25", f"first-{shard}") for shard, n in one_id_per_shard().items()}
        # A month is made when nobody has a transaction open with events; here somebody always has, so all are made first.
        self.months = [
            outflow(n, "1", f"month-{day}-{shard}", START + datetime.timedelta(days=day))
            for shard, n in one_id_per_shard().items()
            for day in range(0, DAYS + 28, 28)
        ]
        self.ledger.write([*self.firsts.values(), *self.months]).ok()
        of_role = {"sequencer": (), "aggregator": (), "exporter": export_flags}
        self.pairs = [Pair(platform, self.database, self.ledger, role, rounds, of_role[role]) for role in of_role]
        self.writers = [Writer(number, self._client()) for number in range(WRITERS)]
        self.late = [OpenTransactions(self.database.server, shard, first) for shard, first in self.firsts.items()]
        self.readers = [FeedReader(number, self._client(), shard) for number in range(READERS) for shard in SHARDS]

    def _client(self) -> LedgerClient:
        return LedgerClient(self.front.http_port, timeout=30)

    def faults_under_load(self, front_kills: int) -> None:
        for thread in (*self.writers, *self.late, *self.readers, *self.pairs):
            thread.start()
        try:
            for _ in range(front_kills):
                self._wait_for_more("calls", 300)
                self.front.kill()
                self._wait_for_more("lost", 1)
                self.front.start()
            for pair in self.pairs:
                pair.join()
                assert pair.failure is None, (pair.role, pair.failure)
        finally:
            for thread in (*self.late, *self.writers):
                thread.finish()

    def _wait_for_more(self, what: str, count: int) -> None:
        """More of what the writers count; not if one of them has failed."""

        def counted() -> int:
            return sum(getattr(writer, what) for writer in self.writers)

        wanted = counted() + count
        wait_until(lambda: counted() >= wanted or any(writer.failure for writer in self.writers), 60, f"more {what}")

    def written(self) -> list[dict]:
        """Every event that is there: what was not answered was repeated until it was."""
        of_threads = [event for thread in (*self.writers, *self.late) for event in thread.events]
        return [*self.firsts.values(), *self.months, *of_threads]

    def assert_one_order_for_all_readers(self) -> None:
        for shard in SHARDS:
            last = shards(self.ledger)[shard]["last_seq"]
            orders = []
            for reader in (reader for reader in self.readers if reader.shard == shard):
                wait_until(
                    lambda reader=reader: len(reader.events) >= last or reader.failure, 30, f"{reader.name} to be done"
                )
                reader.finish()
                orders.append(reader.events)
            assert all(order == orders[0] for order in orders), shard
        seen = [event["event_id"] for reader in self.readers[: len(SHARDS)] for event in reader.events]
        assert sorted(seen) == sorted(event["event_id"] for event in self.written())

    def assert_balances_are_the_sums(self) -> None:
        oracle = Oracle(KEYS)
        for event in self.written():
            assert oracle.add(event) == "created"
        dates = [None, *(written_time(START + datetime.timedelta(days=days, hours=7)) for days in (50, 120))]
        for type_name, key in oracle.accounts():
            for at in dates:
                until = at and datetime.datetime.fromisoformat(at)
                for group_by in ((), ("product_id",)):
                    answer = self.ledger.balances(type_name, key, at, group_by).ok()
                    assert groups_of(answer, group_by) == oracle.groups(type_name, key, None, until, group_by), (key, at)

    def assert_all_is_well(self, read, *export_flags) -> None:
        """`read(shard)`: what a consumer finds."""
        wait_exported(self.ledger)
        self.assert_one_order_for_all_readers()
        exported = assert_replay(self.ledger, read, [event["event_id"] for event in self.written()])
        assert exported == len(self.written())
        wait_until(
            lambda: all(s["aggregated_seq"] == s["last_seq"] for s in shards(self.ledger).values()), 30, "aggregates"
        )
        self.assert_balances_are_the_sums()
        verified(self.front.process, *self.database.flags, *export_flags)
        lost, late = sum(writer.lost for writer in self.writers), sum(len(thread.events) for thread in self.late)
        self._assert_check_finds_only(late)
        assert lost >= self.front.kills and late > 0, "nobody was cut off, or nobody was late"
        faults = ", ".join(f"{pair.role} {pair.kills} kills {pair.pauses} pauses" for pair in self.pairs)
        print(f"{faults}, http {self.front.kills} kills; {exported} events, {late} late, {lost} calls cut off")

    def _assert_check_finds_only(self, late: int) -> None:
        """`ledger check` recomputes everything; what was written straight into the databases has no key of the ledger's."""
        words = ("ledger", "check", "--output", "json", *self.database.flags)
        report = json.loads(self.front.process.command_line(*words, timeout=60).stdout)
        assert report["difference_count"] == late, report["differences"][:5]
        assert all("/late-" in found["what"] and "has no key" in found["what"] for found in report["differences"]), report


@pytest.mark.alone  # its bounds are for a machine that does nothing else
@pytest.mark.timeout(300)
def test_everything_once_and_in_order_through_kills_and_pauses_of_every_role(platform):
    world = World(platform, rounds=3)
    world.faults_under_load(front_kills=3)
    assert all((pair.kills, pair.pauses) == (6, 3) for pair in world.pairs)
    world.assert_all_is_well(lambda shard: exported_files.read(platform.data_dir / "export", shard))


@pytest.mark.alone  # its bounds are for a machine that does nothing else
@pytest.mark.timeout(300)
def test_the_same_into_a_broker_that_is_killed_as_well(platform):
    """Away for longer than it remembers message ids, every other time."""
    window = 1
    server = NatsServer(platform.home / "nats", window)
    platform.closing(server.stop)
    to_nats = ("--export-engine", "nats", "--nats-url", server.url)
    world = World(platform, rounds=1, export_flags=to_nats)
    over = threading.Event()

    def kill_the_broker() -> None:
        while not over.wait(3):
            server.kill()
            over.wait(0 if server.kills % 2 else 3 * window)
            server.start()

    killing = threading.Thread(target=kill_the_broker)
    killing.start()
    try:
        world.faults_under_load(front_kills=1)
    finally:
        over.set()
        killing.join()
    world.assert_all_is_well(server.bodies, *to_nats)
    print(f"{server.kills} kills of the broker")
    assert server.kills >= 2, "it was never away for long"
