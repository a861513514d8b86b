"""Recovery time: until a new order is processed, and new events of every shard are numbered, aggregated and exported.
"""

import concurrent.futures
import itertools
import time

import grpc

from client import OrderClient
from history import History
from ledger_client import LostAnswer
from ledger_events import outflow
from ledger_sharding import one_id_per_shard
from waiting import elapsed_since, wait_until

RECOVERED_WITHIN = 60
# An order whose callback is lost is asked for again after 2 s.
PATIENCE = 4
FIRST_ORDER = 10**9
ACCOUNTS = one_id_per_shard(start=201)
FIGURES = {"numbered": "last_seq", "summed": "aggregated_seq", "exported": "exported_seq"}


class Probe:
    """`seconds(since)` after a fault that began at `since`, a `time.monotonic()`."""

    def __init__(self, addresses: list[str], ledger, history: History):
        self._clients, self._ledger, self._history = [OrderClient(a) for a in addresses], ledger, history
        self._orders, self._events, self._turn = itertools.count(FIRST_ORDER), itertools.count(), 0
        self._pool = concurrent.futures.ThreadPoolExecutor(2)
        self.written: list[dict] = []
        self.unknown = 0

    def seconds(self, since: float) -> dict[str, float]:
        """By what works again; raises if it does not."""
        order, events = self._pool.submit(self._order, since), self._pool.submit(self._numbered, since)
        return {"order": order.result(), **events.result()}

    def _order(self, since: float) -> float:
        wait_until(self._processed, RECOVERED_WITHIN, "a fresh order to be processed", every=0.1)
        return elapsed_since(since)

    def _processed(self) -> bool:
        pairs, client = [(next(self._orders), 1)], self._clients[self._turn % len(self._clients)]
        try:
            answers = client.process(pairs, timeout=PATIENCE)
        except grpc.RpcError as error:
            self._turn += 1
            self.unknown += error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            self._history.failed(pairs, error.code())
            return False
        self._history.answered(answers)
        return answers[0].is_processed

    def _numbered(self, since: float) -> dict[str, float]:
        """Of all events that are committed once the fresh ones are."""
        events = [outflow(n, "1", f"probe-{next(self._events)}-{shard}") for shard, n in ACCOUNTS.items()]
        wait_until(lambda: self._asked(self._ledger.write, events), RECOVERED_WITHIN, f"{events[0]} to be written", every=0.1)
        self.written += events
        shards = wait_until(self._shards, RECOVERED_WITHIN, "the figures of all shards", every=0.1)
        wanted, seconds = {shard["name"]: shard["events"] for shard in shards}, {}
        end = time.monotonic() + RECOVERED_WITHIN
        while len(seconds) < len(FIGURES):
            shards = self._shards()
            for name, figure in FIGURES.items() if shards else ():
                if name not in seconds and all(shard[figure] >= wanted[shard["name"]] for shard in shards):
                    seconds[name] = elapsed_since(since)
            missing = FIGURES.keys() - seconds.keys()
            assert not missing or time.monotonic() < end, f"not {missing} within {RECOVERED_WITHIN} s: {shards}, {wanted}"
            time.sleep(0.05)
        return seconds

    def _shards(self) -> list[dict] | None:
        """The figures of all shards; None while one does not tell its own."""
        body = self._asked(self._ledger.get, "/v1/shards")
        return body["shards"] if body and all("events" in shard for shard in body["shards"]) else None

    def _asked(self, ask, *args):
        """The answer's body, or None while there is none."""
        try:
            answer = ask(*args)
        except LostAnswer:
            return None
        return None if answer.status == 503 else answer.ok()

    def close(self) -> None:
        self._pool.shutdown()
        for client in self._clients:
            client.close()
