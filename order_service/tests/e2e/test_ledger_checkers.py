"""Hazard: a checker that accepts everything. Each must find the fault injected into a valid history.

No service is started here; the oracle, too, is compared with results computed by hand.
"""

import dataclasses
from decimal import Decimal

import pytest

from ledger_events import INFLOW, OUTFLOW, inflow, outflow, read_time
from ledger_oracle import Oracle, groups_of
from ledger_sharding import canonical, sha1_hex, shard_of
from lock_history import EXCLUSIVE, SHARED, Hold, LockHistory, displacement
from state_history import READ, REFUSED, WRITE, Operation, StateHistory


def lock_history(*holds: Hold) -> LockHistory:
    history = LockHistory()
    for hold in holds:
        history.add(hold)
    return history


FIRST, SECOND = Hold(EXCLUSIVE, 1, 0, 1, 2), Hold(EXCLUSIVE, 2, 0.5, 2, 3)
READERS = (Hold(SHARED, 3, 0, 3, 5), Hold(SHARED, 4, 0, 3.5, 4))


def test_a_good_lock_history():
    history = lock_history(FIRST, SECOND, *READERS)
    history.check(4)
    assert history.shared_together() == 1 and displacement(lock_history(FIRST, SECOND)) == 0


@pytest.mark.parametrize(
    "bad",
    [
        Hold(EXCLUSIVE, 9, 0, 1.5, 1.6),
        Hold(SHARED, 9, 0, 1.5, 1.6),
        Hold(EXCLUSIVE, 9, 0, 4.5, 6),
        Hold(EXCLUSIVE, 2, 0, 6, 7),
        Hold(SHARED, 1, 0, 6, 7),
    ],
)
def test_a_bad_hold_is_found(bad):
    with pytest.raises(AssertionError):
        lock_history(FIRST, SECOND, *READERS, bad).check(5)


def test_an_unfair_line_is_measured():
    arrivals = [Hold(EXCLUSIVE, token, asked, 10 + token, 11 + token) for asked, token in enumerate((3, 1, 2, 0))]
    assert displacement(lock_history(*arrivals)) == 3


GOOD = (
    Operation(WRITE, 1, "a", 1, 3, 0),
    Operation(READ, 0, None, 0, 2),
    Operation(READ, 1, "a", 2, 4),
    Operation(REFUSED, 0, None, 2, 3),
    Operation(WRITE, 2, "b", 4, 6, 1),
    Operation(READ, 2, "b", 5, 7),
    Operation(REFUSED, 1, None, 5, 5.5),
)


def state_history(*operations: Operation) -> StateHistory:
    history = StateHistory(0, None)
    for operation in operations:
        history.add(operation)
    return history


def test_a_good_state_history():
    assert state_history(*GOOD).problems() == []


@pytest.mark.parametrize(
    "bad",
    [
        Operation(WRITE, 2, "c", 4, 6, 1),  # one version, two writes
        Operation(WRITE, 4, "c", 8, 9, 3),  # a gap
        Operation(WRITE, 3, "c", 8, 9, 1),  # a lost update: it had expected version 1
        Operation(READ, 2, "a", 8, 9),  # another write's value
        Operation(READ, 3, "c", 8, 9),  # what nobody wrote
        Operation(READ, 1, "a", 8, 9),  # stale: version 2 had been answered before
        Operation(READ, 2, "b", 1, 2),  # read before its write began
        Operation(REFUSED, 2, None, 8, 9),  # refused, and the version was the current one
        Operation(REFUSED, 1, None, 3, 3.5),  # refused before anybody replaced that version
        Operation(WRITE, 3, "c", 0, 0.5, 2),  # made before the one that it replaced
    ],
)
def test_a_bad_operation_is_found(bad):
    assert state_history(*GOOD, bad).problems()


def test_a_reader_that_goes_back_is_found():
    early = dataclasses.replace(GOOD[5], invoked=4.1, returned=4.2)
    late = Operation(READ, 1, "a", 4.3, 4.4)
    assert state_history(*GOOD, early).problems() == [] and state_history(*GOOD, early, late).problems()


def test_the_oracle_by_hand():
    oracle = Oracle({OUTFLOW: ("storage_id",), INFLOW: ("pickup_point_id",)})
    first = outflow(1, "0.1", at="2026-01-02T00:00:00+02:00", product_id=7)
    second = outflow(1, "0.2", at="2026-01-02T00:00:00Z")
    third = outflow(1, "5", at="2026-01-03T00:00:00Z", product_id=7)
    added = [oracle.add(event) for event in (third, first, second, first, inflow(1, "3"))]
    assert added == ["created", "created", "created", "duplicate", "created"] and len(oracle) == 4
    key, at = {"storage_id": 1}, read_time("2026-01-03T00:00:00Z")
    assert oracle.groups(OUTFLOW, key, until=at) == {(): (Decimal("0.3"), 0)}
    assert oracle.groups(OUTFLOW, key, read_time("2026-01-02T00:00:00Z"), at) == {(): (Decimal("0.2"), 0)}
    by_product = oracle.groups(OUTFLOW, key, group_by=("product_id",))
    assert by_product == {(None,): (Decimal("0.2"), 0), (7,): (Decimal("5.1"), 0)}
    assert oracle.groups(OUTFLOW, key, filters={"product_id": 8}) == {(): (0, 0)}
    assert [entry.written for entry in oracle.listing(OUTFLOW, key)] == [first, second, third]
    with pytest.raises(AssertionError):
        groups_of({"groups": [{"attributes": {}, "debit": "2", "credit": "1", "balance": "2"}]})


def test_the_canonical_form_by_hand():
    assert canonical({"b": "ü/~ ", "a": -1, "c": True}) == "a=-1&b=%C3%BC%2F~%20&c=true"
    # printf 'storage_id=1' | sha1sum
    assert sha1_hex({"storage_id": 1}) == "f7472f782b15acede6456f7d6fcc97bc4b3bf780"
    assert sha1_hex({"label": "ü/~ "}) == "d06d09baf0f392ffb22051d3f7abd9469e9c358d"
    assert shard_of({"storage_id": 1}) == "s3"
