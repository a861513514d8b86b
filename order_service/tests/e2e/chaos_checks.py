"""Invariants at rest, numbered as in the specification: each check raises with the object that violates it."""

import collections
import contextlib
import json
import time

import background_tasks
import exported_files
import posted_units
from chaos_load import CONFIG
from client import FINISHED, result_of
from exporting import assert_replay, verified
from separate_roles import SHARDS
from waiting import wait_until

AT_REST_WITHIN = 60


class Checks:
    """`run()` -> what does not hold."""

    def __init__(self, run):
        self._run, self._ledger, self._client = run, run.ledger, run.client
        self._database = run.world.database
        self._stored = []

    def run(self) -> list[str]:
        problems = []
        for check in (
            self.backlog_is_empty_18,
            self.each_order_ended_once_1_2_15,
            self.asked_again_the_same_2_3,
            self.units_balance_4,
            self.ledger_is_its_events_5,
            self.readers_saw_one_order_7_8,
            self.exported_is_the_feed_10,
            self.one_task_for_each_event_16,
        ):
            try:
                check()
            except Exception as problem:  # noqa: BLE001 - told with all others
                problems.append(f"{check.__name__}: {type(problem).__name__}: {str(problem)[:2000]}")
        return problems

    def backlog_is_empty_18(self) -> None:
        end = time.monotonic() + AT_REST_WITHIN
        left = lambda: max(1.0, end - time.monotonic())  # noqa: E731
        self._client.wait_all_ended(left())

        def followed() -> bool:
            shards = self._ledger.shards().values()
            return all(s["events"] == s["last_seq"] == s["aggregated_seq"] == s["exported_seq"] for s in shards)

        wait_until(followed, left(), "all events numbered, summed up and exported", every=0.3)
        for status in ("waiting", "running"):
            found = lambda status=status: background_tasks.listed(self._ledger, status=status)  # noqa: E731
            with contextlib.suppress(AssertionError):
                wait_until(lambda found=found: not found(), left(), f"no task {status}", every=0.3)
            assert not (tasks := found()), f"{len(tasks)} tasks {status}: {tasks[:3]}"

    def each_order_ended_once_1_2_15(self) -> None:
        self._stored = self._client.list_all()
        self._run.history.check_against(self._stored)
        for order in self._stored:
            given = posted_units.place(order.order_id)
            assert (order.storage_id, order.pickup_point_id) == given, f"order {order.order_id} has {order}, not {given}"

    def asked_again_the_same_2_3(self) -> None:
        some = self._run.chance.sample(self._stored, min(500, len(self._stored)))
        answers = self._client.process([(order.order_id, order.product_id) for order in some], timeout=60)
        for answer, order in zip(answers, some, strict=True):
            assert answer.is_processed and result_of(answer) == result_of(order), f"{answer} of {order}"

    def units_balance_4(self) -> None:
        posted_units.assert_balanced(self._ledger, self._stored)

    def ledger_is_its_events_5(self) -> None:
        service = self._run.world.fronts[0].process
        done = service.command_line("ledger", "check", "--output", "json", *self._database.flags, timeout=300)
        report = json.loads(done.stdout)
        assert report["holds"] and report["difference_count"] == 0, report["differences"][:5]

    def readers_saw_one_order_7_8(self) -> None:
        """Each reader itself saw that no number was left out, or came late."""
        numbered = {name: shard["last_seq"] for name, shard in self._ledger.shards().items()}
        seen = collections.Counter()
        for shard in SHARDS:
            readers = [reader for reader in self._run.readers if reader.shard == shard]
            for reader in readers:
                there = lambda reader=reader: len(reader.events) >= numbered[reader.shard] or reader.failure  # noqa: E731
                wait_until(there, 60, f"{reader.name} to be done")
                reader.finish()
                assert reader.events == readers[0].events, f"{reader.name} and {readers[0].name} differ"
            seen.update((type_name, event_id) for type_name, event_id, _ in readers[0].events)
        doubled = [key for key, count in seen.items() if count > 1]
        assert not doubled, f"numbered twice: {doubled[:5]}"
        written = {(event["type"], event["event_id"]) for event in self._run.written()}
        lost = written - seen.keys()
        assert not lost, f"answered and lost: {sorted(lost)[:5]}"
        posted = 2 * sum(order.state == FINISHED for order in self._stored)
        assert len(seen) == len(written) + posted, f"{len(seen)} events, {len(written)} written, {posted} by orders"

    def exported_is_the_feed_10(self) -> None:
        export = self._run.world.platform.data_dir / "export"
        written = [event["event_id"] for event in self._run.written()]
        assert_replay(self._ledger, lambda shard: exported_files.read(export, shard), written)
        verified(self._run.world.fronts[0].process, *self._database.flags)

    def one_task_for_each_event_16(self) -> None:
        tasks = [task for task in background_tasks.listed(self._ledger) if "action_config" in task]
        started = collections.Counter((task["event_id"], task["action_config"]) for task in tasks)
        wanted = collections.Counter((event_id, CONFIG) for event_id in self._run.events.ids)
        assert started == wanted, f"more: {list((started - wanted).items())[:5]}, fewer: {list((wanted - started).items())[:5]}"
        others = [task for task in tasks if task["status"] != "succeeded"]
        assert not others, f"{len(others)} not succeeded: {others[:3]}"
