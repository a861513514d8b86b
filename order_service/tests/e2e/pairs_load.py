"""Load beside partition maintenance: an account whose balance is zero at every moment, with writers and readers.

Every call writes pairs of a debit and a credit of the same amount on one account, mostly in an old month, in one
transaction. The old month changes over time: each is idle for a while and written to again later.
"""

import collections
import random
import threading
import time
from decimal import Decimal

from ledger_client import LedgerClient
from ledger_events import OUTFLOW, statuses, utc_now
from ledger_oracle import groups_of, total_of
from ledger_sharding import one_id_per_shard

STORAGES = list(one_id_per_shard().values())
OLD = ["1999-12", "2015-01", "2015-02", "2016-02", "2020-07", "2020-08"]
# Later than all events; between the old months and this one.
THE_END, BETWEEN = "2099-01-01T00:00:00Z", "2017-01-01T00:00:00Z"
PAIRS_A_CALL = 8


def pair(event_id: str, storage: int) -> list[dict]:
    old = OLD[int(time.monotonic() / 1.5) % len(OLD)]
    amount = f"{random.randint(1, 10**6)}.{random.randint(0, 99):02}"

    def half(side: str) -> dict:
        month = old if random.random() < 0.7 else utc_now().strftime("%Y-%m")
        dt = f"{month}-{random.randint(1, 28):02}T{random.randint(0, 23):02}:00:00Z"
        attributes = {"storage_id": storage, "product_id": random.randint(1, 3)}
        return {"type": OUTFLOW, "event_id": f"{event_id}/{side}", "dt": dt, "attributes": attributes, side: amount}

    return [half("debit"), half("credit")]


class PairsLoad:
    """From entering the context to leaving it; whatever any of its threads met is raised on leaving."""

    def __init__(self, port: int, writers: int = 3, readers: int = 2):
        self.port, self.events, self.calls, self.whole, self.refused = port, [], 0, 0, 0
        self.slowest = 0.0  # seconds, of any call
        self._stop, self._problems = threading.Event(), []
        work = [(self._write, n) for n in range(writers)] + [(self._read, n) for n in range(readers)]
        self._threads = [threading.Thread(target=self._run, args=part) for part in work]

    def _run(self, does, number: int) -> None:
        client = LedgerClient(self.port, timeout=30)
        try:
            while not self._stop.is_set():
                does(client, number)
        except BaseException as problem:  # noqa: BLE001 - raised by the test
            self._problems.append(problem)
        finally:
            client.close()

    def _timed(self, call):
        began = time.monotonic()
        answer = call()
        self.slowest = max(self.slowest, time.monotonic() - began)
        return answer

    def _write(self, client, number: int) -> None:
        self.calls += 1
        storage, call = random.choice(STORAGES), f"{number}/{random.getrandbits(64)}"
        events = [event for n in range(PAIRS_A_CALL) for event in pair(f"{call}/{n}", storage)]
        in_batch = random.random() < 0.2
        answer = self._timed(lambda: client.batch(events, []) if in_batch else client.write(events))
        answer.ok()
        assert statuses(answer) == ["created"] * len(events)
        self.events += events
        if random.random() < 0.1:
            # Its key outlives it, also when its month is gone by now.
            again = client.write(events)
            again.ok()
            assert statuses(again) == ["duplicate"] * len(events)

    def _read(self, client, _number: int) -> None:
        storage, grouped = {"storage_id": random.choice(STORAGES)}, random.choice(([], ["product_id"]))
        answer = self._timed(lambda: client.balances(OUTFLOW, storage, THE_END, grouped))
        sums = groups_of(answer.ok(), grouped).values()
        assert sum(debit for debit, _ in sums) == sum(credit for _, credit in sums), (storage, answer.json())
        self.whole += 1
        answer = client.balances(OUTFLOW, storage, BETWEEN)
        if answer.status != 200:
            assert "horizon" in answer.refused(400, "VALIDATION_ERROR")["args"]
            self.refused += 1

    def total(self, storage: int) -> dict:
        """Product -> (debit, credit) of everything that was acknowledged."""
        sums = collections.defaultdict(lambda: (Decimal(0), Decimal(0)))
        for event in self.events:
            if event["attributes"]["storage_id"] == storage:
                debit, credit = sums[(event["attributes"]["product_id"],)]
                added = Decimal(event.get("debit", 0)), Decimal(event.get("credit", 0))
                sums[(event["attributes"]["product_id"],)] = debit + added[0], credit + added[1]
        return dict(sums)

    def check(self, client) -> None:
        """At rest: every sum and count is that of what was acknowledged, neither more nor less."""
        for storage in STORAGES:
            wanted, key = self.total(storage), {"storage_id": storage}
            assert groups_of(client.balances(OUTFLOW, key, THE_END, ["product_id"]).ok(), ["product_id"]) == wanted
            both = [sum(figures) for figures in zip(*wanted.values(), strict=True)]
            assert list(total_of(client.balances(OUTFLOW, key, THE_END).ok())) == both
        assert sum(client.events_stored().values()) == len(self.events)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind, *_error):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        if self._problems and kind is None:
            raise self._problems[0]
