"""Load for the background duties: threads of writers that repeat until answered, long transactions and feed readers.

The threads stop when told to; `finish` raises their errors.
"""

import datetime
import random
import subprocess
import threading
import time

from ledger_client import LedgerClient, LostAnswer
from ledger_events import START, inflow, outflow
from own_postgres import OwnPostgres
from waiting import elapsed_since, wait_until

LARGEST_CALL = 200
# From `START` on: the times of the writers' events.
DAYS = 200


class Background(threading.Thread):
    """`step` again and again until told to stop; what it raises ends it."""

    def __init__(self, name: str):
        super().__init__(name=name, daemon=True)
        self.stop, self.failure = threading.Event(), None

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self.step()
            self.end()
        except BaseException as problem:  # noqa: BLE001 - raised by `finish`
            self.failure = problem

    def step(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        pass

    def finish(self, timeout: float = 90) -> None:
        self.stop.set()
        self.join(timeout)
        assert not self.is_alive(), f"{self.name} does not end"
        if self.failure:
            raise self.failure


def some_event(chance: random.Random, event_id: str, first_account: int = 1) -> dict:
    """On one of 40 accounts of each type, some time in `DAYS`."""
    at = START + datetime.timedelta(days=chance.randrange(DAYS), microseconds=chance.randrange(10**9))
    make, amount = chance.choice([outflow, inflow]), f"{chance.randrange(10**6)}.{chance.randrange(100):02}"
    account = first_account + chance.randrange(40)
    return make(account, amount, event_id, at, product_id=chance.choice([1, 2, 3]))


class Writer(Background):
    """Calls of 1 to `largest` new events, each repeated until it is answered 200."""

    def __init__(self, number: int, client: LedgerClient, largest: int = LARGEST_CALL, first_account: int = 1):
        super().__init__(f"writer {number}")
        self.client, self.chance = client, random.Random(number)
        self.largest, self.first_account = largest, first_account
        self.events, self.calls, self.lost, self.slowest = [], 0, 0, 0.0

    def step(self) -> None:
        size, first, begun = self.chance.randrange(1, self.largest + 1), len(self.events), time.monotonic()
        ids = [f"{self.name}-{first + n}" for n in range(size)]
        call = [some_event(self.chance, event_id, self.first_account) for event_id in ids]
        wait_until(lambda: self._try(call), 60, f"events {ids[0]} and on answered 200 in the end")
        self.slowest = max(self.slowest, elapsed_since(begun))
        self.events += call
        self.calls += 1
        # Bursts and quiet times.
        self.stop.wait(self.chance.expovariate(3))

    def _try(self, call: list) -> bool:
        try:
            answer = self.client.write(call)
        except LostAnswer:
            self.lost += 1
            return False
        # A process that has just begun may not have reached every shard yet.
        return answer.status == 200 or not answer.ok(200, 503)

    def end(self) -> None:
        self.client.close()


# A copy of an event that is there, under another id.
COPY = """SELECT count(*) FROM (SELECT * FROM events WHERE event_id = '{original}') e, LATERAL write_events(
    ARRAY[gen_random_uuid()], ARRAY[gen_random_uuid()], ARRAY[1], ARRAY[1], ARRAY[e.dt], ARRAY[e.account_id],
    ARRAY[e.tuple_id], ARRAY['{copy}'], ARRAY[e.debit], ARRAY[e.credit], ARRAY[e.info::text],
    '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}');"""


class OpenTransactions(Background):
    """Writes into one shard's database by transactions that commit only when later ones have long been numbered."""

    def __init__(self, server: OwnPostgres, shard: str, original: dict):
        super().__init__(f"open transactions of {shard}")
        self.server, self.shard, self.original = server, shard, original
        self.events = []

    def step(self) -> None:
        copy = {**self.original, "event_id": f"late-{self.shard}-{len(self.events)}"}
        session = self.server.session("control")
        try:
            session.say(f"SET search_path = {self.shard}; BEGIN;")
            session.say(COPY.format(original=self.original["event_id"], copy=copy["event_id"]))
            before = self._last_seq()
            wait_until(lambda: self._is_late(before) or self.stop.is_set(), 60, "others to be numbered", every=0.3)
            session.say("COMMIT;")
        finally:
            session.close()
        self.events.append(copy)

    def _is_late(self, before: int) -> bool:
        return self._last_seq() > before + LARGEST_CALL

    def _last_seq(self) -> int:
        return int(self.server.psql(f"SELECT last_seq FROM {self.shard}.sequence", "control"))


class FeedReader(Background):
    """Follows a shard's feed from its beginning; every page must go on right after the one before."""

    def __init__(self, number: int, client: LedgerClient, shard: str, kept=lambda event: event):
        """`kept`: what is remembered of an event."""
        super().__init__(f"reader {number} of {shard}")
        self.client, self.chance, self.shard, self.kept = client, random.Random(number), shard, kept
        self.events, self.lost = [], 0

    def step(self) -> None:
        limit, after = self.chance.randrange(1, 1000), len(self.events)
        try:
            answer = self.client.feed(self.shard, after, limit, wait_seconds=2)
        except LostAnswer:
            self.lost += 1
            self.stop.wait(0.1)
            return
        if answer.status == 503:
            return
        page = answer.ok()["events"]
        assert [event["seq"] for event in page] == list(range(after + 1, after + 1 + len(page))), self.name
        self.events += map(self.kept, page)

    def end(self) -> None:
        self.client.close()
