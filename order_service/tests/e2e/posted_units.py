"""Comparison of the ledger's postings with the orders.

`place` gives every order one of a few storages and pickup points, so that many orders share an account.
"""

import collections
import threading

import grpc

from client import FINISHED
from ledger_client import LostAnswer
from ledger_events import INFLOW, OUTFLOW
from ledger_oracle import ZEROS, groups_of

STORAGES, POINTS = [1, 2, 3, 4, 5, -6, -7], [11, 12, -13]


def place(order_id: int) -> tuple[int, int]:
    """Storage and pickup point of an order."""
    return STORAGES[order_id % len(STORAGES)], POINTS[order_id // 2 % len(POINTS)]


def _by(client, type_name: str, key_name: str, places: list, grouping: tuple) -> dict:
    """(place, values of the grouping…) -> (debit, credit), over all places."""
    found = {}
    for number in places:
        body = client.balances(type_name, {key_name: number}, group_by=grouping).ok()
        found.update({(number, *values): sums for values, sums in groups_of(body, grouping).items()})
    return {key: sums for key, sums in found.items() if sums != ZEROS}


def units_out(client, *grouping: str) -> dict:
    """What left each storage; everything that `storage_outflow` holds here is a debit."""
    sums = _by(client, OUTFLOW, "storage_id", STORAGES, grouping)
    assert all(credit == 0 for _, credit in sums.values()), sums
    return {key: debit for key, (debit, _) in sums.items()}


def units_in(client, *grouping: str) -> dict:
    """What came to each pickup point."""
    sums = _by(client, INFLOW, "pickup_point_id", POINTS, grouping)
    assert all(debit == 0 for debit, _ in sums.values()), sums
    return {key: credit for key, (_, credit) in sums.items()}


def full_units_out(client) -> dict:
    """(storage, product, pickup point) -> units."""
    return units_out(client, "product_id", "pickup_point_id")


def full_units_in(client) -> dict:
    """The same key, from the other side."""
    into = units_in(client, "product_id", "storage_id")
    return {(storage, product, point): units for (point, product, storage), units in into.items()}


def processed_orders(orders) -> collections.Counter:
    """(storage, product, pickup point) -> finished orders."""
    return collections.Counter((o.storage_id, o.product_id, o.pickup_point_id) for o in orders if o.state == FINISHED)


def assert_balanced(ledger, stored_orders) -> None:
    """At rest: units out = units in = orders processed, for every storage, pickup point and product."""
    wanted = dict(processed_orders(stored_orders))
    assert full_units_out(ledger) == wanted, "units out of storages"
    assert full_units_in(ledger) == wanted, "units into pickup points"
    for sums, position in ((units_out(ledger), 0), (units_in(ledger), 2)):
        by_place = collections.Counter()
        for key, count in wanted.items():
            by_place[key[position]] += count
        assert {key[0]: units for key, units in sums.items()} == dict(by_place)


class Watcher(threading.Thread):
    """While orders run: processed <= each of the two sums <= accepted, at every sample.

    Processed is read first and accepted last, as all three only grow.
    """

    def __init__(self, client, ledger):
        super().__init__()
        self._client, self._ledger, self._stop_asked = client, ledger, threading.Event()
        self.samples, self.missed, self.problems = [], 0, []

    def run(self) -> None:
        while not self._stop_asked.wait(0.05):
            try:
                self._sample()
            except (grpc.RpcError, LostAnswer):
                self.missed += 1  # the service was away
            except BaseException as problem:  # noqa: BLE001 - raised by `finish`
                self.problems.append(problem)

    def _sample(self) -> None:
        processed = len(self._client.list_all(FINISHED))
        out, into = sum(units_out(self._ledger).values()), sum(units_in(self._ledger).values())
        accepted = len(self._client.list_all())
        self.samples.append((processed, out, into, accepted))
        if not (processed <= out <= accepted and processed <= into <= accepted):
            self.problems.append(self.samples[-1])

    def finish(self) -> None:
        self._stop_asked.set()
        self.join(60)
        assert not self.problems, self.problems[:3]
        print(f"{len(self.samples)} samples, {self.missed} while the service was away")
