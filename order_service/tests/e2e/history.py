"""History of the load clients: one entry per order sent, and the checks over it.

Outcomes: `ok` (answered), `unknown` (the call ended without an answer: commit outcome unknown), `refused` (the service
refused it: it must not be stored).
"""

import collections
import dataclasses
import threading

import grpc

from client import FINISHED, result_of

OK, UNKNOWN, REFUSED = "ok", "unknown", "refused"
UNKNOWN_CODES = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
}


@dataclasses.dataclass(frozen=True)
class Entry:
    order_id: int
    product_id: int
    outcome: str
    processed: bool = False
    result: tuple | None = None


class History:
    """Written by many threads, read at the end."""

    def __init__(self):
        self._lock = threading.Lock()
        self.entries: list[Entry] = []
        self.codes = collections.Counter()

    def answered(self, answers) -> None:
        entries = [Entry(a.order_id, a.product_id, OK, a.is_processed, result_of(a)) for a in answers]
        with self._lock:
            self.entries.extend(entries)

    def failed(self, pairs, code: grpc.StatusCode) -> None:
        outcome = UNKNOWN if code in UNKNOWN_CODES else REFUSED
        with self._lock:
            self.codes[code] += 1
            self.entries.extend(Entry(order_id, product_id, outcome) for order_id, product_id in pairs)

    def count(self, outcome: str) -> int:
        return sum(entry.outcome == outcome for entry in self.entries)

    def ids(self) -> list[int]:
        return [entry.order_id for entry in self.entries]

    def check_against(self, stored_orders) -> None:
        """Every answered order is stored and finished, no answered result changed, nothing else is stored."""
        stored = {order.order_id: order for order in stored_orders}
        sent = {entry.order_id: entry for entry in self.entries}
        assert len(sent) == len(self.entries), "the test itself sent an order twice"
        assert stored.keys() <= sent.keys(), "orders that nobody sent"
        unfinished = [order_id for order_id, order in stored.items() if order.state != FINISHED]
        assert not unfinished, f"{len(unfinished)} not finished: {[str(stored[i]) for i in unfinished[:3]]}"
        for entry in self.entries:
            order = stored.get(entry.order_id)
            if entry.outcome == OK:
                assert order is not None, f"answered and lost: {entry}"
                assert not entry.processed or result_of(order) == entry.result, f"changed: {entry} now {order}"
            if entry.outcome == REFUSED:
                assert order is None, f"refused and stored: {entry}"
            if order is not None:
                assert order.product_id == entry.product_id and order.storage_id and order.pickup_point_id
