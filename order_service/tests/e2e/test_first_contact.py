"""Hazard: the two programs, started like in the existing scripts, do not do their job.

Single-dash flags only, no database configured, any folder, either first; an independent client gets its orders back in
order, processed, with the data manager's data; a repeated request gets the same answer.
"""

import random

import grpc
import pytest

from client import FINISHED, assert_processed_as_given, field_violations, refusal_of, request_of, result_of
from ports import has_ipv6_loopback
from stubs import orders

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
STATES_OF_A_FINISHED_ORDER = [
    orders.ORDER_STATE_INITIALIZED,
    orders.ORDER_STATE_PROCESS_STARTED,
    orders.ORDER_STATE_FINISHED_EXTERNAL_INTERACTION,
    orders.ORDER_STATE_PROCESS_FINISHED,
]


def five_random_orders():
    return list(zip(random.sample(range(1, INT32_MAX), 5), random.sample(range(1, 1000), 5), strict=True))


def start_both(platform, *order_flags, manager_flags=()):
    """Both with their defaults; (client of the service, client of the manager)."""
    manager = platform.data_manager(*manager_flags)
    service = platform.order_service(*order_flags)
    return platform.client(service), platform.manager_client(manager)


@pytest.mark.parametrize("first", ["order_service", "data_manager"])
def test_bare_flags_in_either_order(platform, first):
    service, manager = platform.order_service(bare=True, start=False), platform.data_manager(start=False)
    for process in (service, manager) if first == "order_service" else (manager, service):
        process.start()
    client, five = platform.client(service), five_random_orders()
    answers = client.process(five)
    assert_processed_as_given(answers, platform.manager_client(manager).given())
    if has_ipv6_loopback():
        again = platform.client(service, host="[::1]").process(five)
        assert list(map(result_of, again)) == list(map(result_of, answers))
    stored = client.get(five[0][0])
    assert [change.state for change in stored.history] == STATES_OF_A_FINISHED_ORDER
    times = [change.at.ToNanoseconds() for change in stored.history]
    assert times == sorted(times) and stored.attempts == 1 and not stored.last_error
    assert not stored.HasField("next_attempt_at")


def test_every_int32_is_an_order_and_a_product(platform):
    client, manager = start_both(platform)
    ids = [INT32_MIN, -1, 0, INT32_MAX]
    pairs = list(zip(ids, [0, INT32_MIN, INT32_MAX, -1], strict=True))
    answers = client.process(pairs)
    assert_processed_as_given(answers, manager.given())
    assert [result_of(client.get(order_id)) for order_id in ids] == [result_of(answer) for answer in answers]
    assert [order.order_id for order in client.list_all()] == sorted(ids)


def test_the_same_again_and_what_is_refused(platform):
    client, manager = start_both(platform)
    answers = client.process([(1, 10), (2, 20)])
    assert list(map(result_of, client.process([(2, 20), (1, 10)]))) == [result_of(a) for a in answers[::-1]]
    assert manager.given().keys() == {1, 2}

    other_product = refusal_of(client.process, [(3, 30), (2, 21), (1, 11)])
    assert other_product.code() == grpc.StatusCode.ALREADY_EXISTS
    assert "1" in other_product.details() and "2" in other_product.details()
    assert not client.knows(3), "part of a refused request was taken"

    twice = refusal_of(client.process, [(4, 40), (5, 50), (4, 40)])
    assert twice.code() == grpc.StatusCode.INVALID_ARGUMENT and field_violations(twice)
    assert not client.knows(4) and not client.knows(5)
    assert manager.given().keys() == {1, 2}
    assert [result_of(client.get(answer.order_id)) for answer in answers] == list(map(result_of, answers))


@pytest.mark.long
def test_limits_of_one_request(platform):
    client, manager = start_both(platform)
    assert list(client.stub.ProcessOrders(request_of([]), timeout=5).processed_orders) == []
    too_many = refusal_of(client.process, [(order_id, 1) for order_id in range(10_001)])
    assert too_many.code() == grpc.StatusCode.INVALID_ARGUMENT and field_violations(too_many)
    assert not client.knows(0)
    ids = random.sample(range(INT32_MIN, INT32_MAX), 10_000)
    answers = client.process([(order_id, order_id % 97) for order_id in ids], timeout=60)
    assert_processed_as_given(answers, manager.given())


def test_a_restart_keeps_everything(platform):
    manager, service = platform.data_manager(), platform.order_service()
    client, five = platform.client(service), five_random_orders()
    answers = client.process(five)
    service.stop()
    manager.stop()
    service.start(ready_within=10)  # without the data manager: what is stored needs no exchange
    again = client.process(five, wait_for_ready=True)
    assert list(map(result_of, again)) == list(map(result_of, answers))
    assert all(order.state == FINISHED for order in client.list_all())
