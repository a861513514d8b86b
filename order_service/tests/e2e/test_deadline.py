"""Hazard: a data manager that never answers blocks clients forever, or their orders are lost.

The answer leaves 200 ms before the client's deadline (10% of it if that is shorter; 10 s without one) with the outcomes
known so far; the other orders continue in the background and finish when the data manager recovers.
"""

import threading
import time

import pytest

from client import FINISHED, UNFINISHED, assert_processed_as_given
from foreign_data_manager import Behaviour, first_data
from waiting import elapsed_since, wait_until

pytestmark = pytest.mark.alone


def timed_call(client, pairs, deadline, took: dict, answers: dict):
    start = time.monotonic()
    answers[deadline] = client.process(pairs, timeout=deadline)
    took[deadline] = elapsed_since(start)


@pytest.mark.parametrize(
    ("kind", "batch"),
    # The last: one order holds up the return of a whole batch, whose other callbacks have come long ago.
    [(Behaviour.SILENT, False), (Behaviour.HANGING, False), (Behaviour.HANGING, True)],
    ids=["silent", "hanging", "hanging batch"],
)
def test_an_answer_before_the_deadline_and_the_rest_in_the_background(platform, kind, batch):
    foreign = platform.foreign_data_manager(batch=batch)
    stuck = set(range(0, 20, 2))
    foreign.plans = dict.fromkeys(stuck, kind)
    client = platform.client(platform.order_service())
    pairs = [(order_id, 5) for order_id in range(20)]
    start = time.monotonic()
    answers = client.process(pairs, timeout=4)
    assert 3.3 < elapsed_since(start) < 4
    assert {answer.order_id for answer in answers if not answer.is_processed} == stuck
    for order_id in stuck:
        stored = client.get(order_id)
        assert stored.state in UNFINISHED and stored.attempts >= 1 and stored.last_error, stored
    assert foreign.faults[kind] >= len(stuck)

    foreign.plans = {}  # it comes back
    client.wait_all_ended(timeout=15)
    for stored in client.list_all():
        assert stored.state == FINISHED and (stored.storage_id, stored.pickup_point_id) == first_data(stored.order_id)
        assert not stored.last_error and not stored.HasField("next_attempt_at")
    again = client.process(pairs, timeout=4)
    assert_processed_as_given(again, {order_id: first_data(order_id) for order_id, _ in pairs})


def test_short_deadlines_and_none_at_all(platform):
    foreign = platform.foreign_data_manager(default=Behaviour.SILENT)
    client = platform.client(platform.order_service())
    took, answers = {}, {}
    # A deadline of None: the service's own 10 s.
    calls = {0.5: [(1, 1)], 1.0: [(2, 1)], 2.0: [(3, 1)], None: [(4, 1), (5, 1)]}
    threads = [
        threading.Thread(target=timed_call, args=(client, pairs, deadline, took, answers))
        for deadline, pairs in calls.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    assert took.keys() == calls.keys(), "a call ended with an error instead of an answer"
    for deadline, seconds in took.items():
        limit = deadline or 10
        earliest = limit - 2 * min(0.2, limit / 10) - 0.1
        assert earliest < seconds < limit, f"deadline {deadline}: answered after {seconds:.3f} s"
    assert not any(answer.is_processed for listed in answers.values() for answer in listed)
    assert all(client.get(order_id).state in UNFINISHED for order_id in range(1, 6))
    assert foreign.faults[Behaviour.SILENT] >= 5


def test_the_same_order_again_while_it_waits_is_tried_at_once(platform):
    foreign = platform.foreign_data_manager(default=Behaviour.SILENT)
    client = platform.client(platform.order_service("--callback-timeout", "300ms"))
    (first,) = client.process([(11, 1)], timeout=4)
    assert not first.is_processed and foreign.faults[Behaviour.SILENT] > 0
    foreign.default = Behaviour.BEFORE
    start = time.monotonic()
    (second,) = client.process([(11, 1)], timeout=5)
    assert second.is_processed and elapsed_since(start) < 1


def test_the_same_order_again_while_it_is_tried_does_not_wait_out_its_earlier_failures(platform):
    foreign = platform.foreign_data_manager(default=Behaviour.SILENT)
    client = platform.client(platform.order_service("--callback-timeout", "300ms"))
    (first,) = client.process([(11, 1)], timeout=2)
    assert not first.is_processed
    # The fifth attempt has asked and will fail; what its earlier failures would let it wait then is 3.2 s.
    wait_until(lambda: foreign.faults[Behaviour.SILENT] >= 5, 10, "the fifth question", every=0.01)
    foreign.default = Behaviour.BEFORE
    start = time.monotonic()
    (second,) = client.process([(11, 1)], timeout=5)
    assert second.is_processed and 0.2 < elapsed_since(start) < 1
