"""Hazard: an independent data manager that answers early, late, twice, wrongly or not at the first question.

In every case every order ends processed, with the first data sent; with and without the batch rpc.
"""

import time

import grpc
import pytest

from client import FAILED, FINISHED, assert_processed_as_given, result_of
from foreign_data_manager import BATCH, SINGLE, Behaviour, first_data
from waiting import elapsed_since, wait_until

KINDS = [
    Behaviour.BEFORE,
    Behaviour.AFTER,
    Behaviour.TWICE,
    Behaviour.NOT_FIRST,
    Behaviour.UNAVAILABLE_TWICE,
    Behaviour.LATE_ONCE,
]
FAULTS = KINDS[2:]


@pytest.mark.parametrize("batch", [False, True], ids=["single", "batch"])
def test_every_order_ends_with_the_first_data(platform, batch):
    foreign = platform.foreign_data_manager(batch=batch)
    pairs = [(order_id, order_id * 3) for order_id in range(-30, 30)]
    foreign.plans = {order_id: KINDS[order_id % len(KINDS)] for order_id, _ in pairs}
    client = platform.client(platform.order_service())
    answers = client.process(pairs, timeout=20)
    assert_processed_as_given(answers, {order_id: first_data(order_id) for order_id, _ in pairs})
    assert {kind: foreign.faults[kind] >= 10 for kind in FAULTS} == dict.fromkeys(FAULTS, True)
    assert foreign.calls[BATCH if batch else SINGLE] > 0 and not (batch and foreign.calls[SINGLE])
    twice = sum(plan is Behaviour.TWICE for plan in foreign.plans.values())
    wait_until(lambda: sum(foreign.accepted_by.values()) >= len(pairs) + 2 * twice, 5, "doubles answered Empty")
    assert [result_of(client.get(answer.order_id)) for answer in answers] == list(map(result_of, answers))


@pytest.mark.long
def test_a_callback_later_than_the_answer_wakes_the_order(platform):
    foreign = platform.foreign_data_manager(default=Behaviour.LATE_ONCE)
    foreign.late = 5.0
    client = platform.client(platform.order_service())
    start = time.monotonic()
    answers = client.process([(order_id, 1) for order_id in range(1, 9)], timeout=3)
    assert elapsed_since(start) < 3 and not any(answer.is_processed for answer in answers)
    assert all(client.get(answer.order_id).last_error for answer in answers)
    wait_until(lambda: sum(foreign.accepted_by.values()) == 8, 8, "the late callbacks answered")
    client.wait_all_ended(timeout=1)  # "wakes a waiting order at once"
    for stored in client.list_all():
        assert stored.state == FINISHED and (stored.storage_id, stored.pickup_point_id) == first_data(stored.order_id)
    assert foreign.faults[Behaviour.LATE_ONCE] == 8


def test_callbacks_that_nobody_needs_are_answered_and_ignored(platform):
    foreign = platform.foreign_data_manager()
    client = platform.client(platform.order_service())
    (answer,) = client.process([(7, 70)])
    for storage_id in (1, 2, 3):
        client.send_callback(7, storage_id, 999)
    assert result_of(client.get(7)) == result_of(answer) and client.get(7).state == FINISHED
    assert list(map(result_of, client.process([(7, 70)]))) == [result_of(answer)]
    assert foreign.questions[7] == 1, "a finished order was asked for again"


PERMANENT = [
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
]


@pytest.mark.parametrize("batch", [False, True], ids=["single", "batch"])
def test_a_permanent_refusal_fails_its_order_at_once_and_no_other(platform, batch):
    foreign = platform.foreign_data_manager(batch=batch)
    codes = PERMANENT[:-1] if batch else PERMANENT
    foreign.plans = dict(enumerate(codes))
    client = platform.client(platform.order_service())
    start = time.monotonic()
    answers = client.process([(order_id, 1) for order_id in range(20)])
    assert elapsed_since(start) < 5
    assert [answer.is_processed for answer in answers] == [order_id >= len(codes) for order_id in range(20)]
    for order_id, code in enumerate(codes):
        stored = client.get(order_id)
        assert stored.state == FAILED and stored.attempts == 1, (code, stored)
        assert f"refused by plan: {order_id}" in stored.last_error and foreign.questions[order_id] == 1
        assert not stored.HasField("next_attempt_at") and foreign.faults[code] == 1
