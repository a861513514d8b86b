"""Hazard: a stream of 50,000 orders with a slow reader exhausts memory, or answers an order twice or never."""

import threading
import time

import grpc
import pytest

from client import FINISHED, result_of
from foreign_data_manager import Behaviour
from stubs import orders
from waiting import elapsed_since, stands_still, wait_until

ORDERS = 50_000
SMALL_WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65536))
MOST_GROWTH_MIB = 200


def order(order_id: int, product_id: int = 1):
    return orders.ProcessOrdersRequest.OrderRequest(order_id=order_id, product_id=product_id)


def kept_open(requests, may_close: threading.Event):
    """The request side of a stream that stays open after its last request."""
    yield from requests
    may_close.wait(60)


@pytest.mark.alone  # its bounds are for a machine that does nothing else
def test_fifty_thousand_orders_and_a_slow_reader(platform):
    manager = platform.data_manager()
    service = platform.order_service()
    client = platform.client(service, *SMALL_WINDOW)
    client.process([(-1, 1)])
    before, most = service.resident_mib(), 0.0
    watcher, answered = platform.client(service), {}
    answers = client.stub.ProcessOrderStream(map(order, range(ORDERS)), timeout=110)
    # Nobody reads: the service must come to a stand, long before the last order.
    accepted = stands_still(lambda: sum(watcher.knows(order_id) for order_id in range(0, ORDERS, 1000)))
    wait_until(accepted, 30, "back-pressure")
    assert not watcher.knows(ORDERS - 1), "everything was accepted while nobody read"
    for count, answer in enumerate(answers):
        assert answer.order_id not in answered, f"answered twice: {answer.order_id}"
        answered[answer.order_id] = result_of(answer)
        assert answer.is_processed, answer
        if count % 500 == 0:
            time.sleep(0.01)  # not a wait: the slow reader itself
            most = max(most, service.resident_mib())
    assert answered.keys() == set(range(ORDERS))
    assert most - before < MOST_GROWTH_MIB, f"grew by {most - before:.0f} MiB"
    given = platform.manager_client(manager).given()
    assert all(given[order_id] == result[2:] for order_id, result in answered.items())


@pytest.mark.long
def test_each_order_as_it_finishes(platform):
    foreign = platform.foreign_data_manager()
    foreign.plans = {1: Behaviour.SILENT, 2: Behaviour.AFTER}
    client = platform.client(platform.order_service())
    start = time.monotonic()
    may_close = threading.Event()
    answers = client.stub.ProcessOrderStream(kept_open(map(order, [1, 2, 3]), may_close), timeout=3)
    first, second = next(answers), next(answers)
    assert (first.order_id, second.order_id) == (3, 2) and first.is_processed and second.is_processed
    assert elapsed_since(start) < 1, "an answer waited for the end of the requests"
    may_close.set()
    (third,) = list(answers)
    assert third.order_id == 1 and not third.is_processed and 2 < elapsed_since(start) < 3
    foreign.plans = {}
    client.wait_state(1, FINISHED, timeout=15)
    assert foreign.faults[Behaviour.SILENT] > 0


def test_a_refused_order_ends_the_stream_and_the_others_go_on(platform):
    foreign = platform.foreign_data_manager(default=Behaviour.AFTER)
    foreign.delay = 1.0
    client = platform.client(platform.order_service())
    client.process([(100, 1)])
    may_close = threading.Event()

    def requests():
        yield from map(order, range(10))
        wait_until(lambda: all(map(client.knows, range(10))), 5, "the first ten accepted")
        yield order(100, 2)
        yield order(200)

    try:
        list(client.stub.ProcessOrderStream(kept_open(requests(), may_close), timeout=10))
        raise AssertionError("the stream ended well")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.ALREADY_EXISTS and "100" in error.details()
    finally:
        may_close.set()
    for order_id in range(10):
        client.wait_state(order_id, FINISHED, timeout=5)
    assert not client.knows(200) and client.get(100).product_id == 1 and foreign.questions[100] == 1


def test_the_same_order_twice_in_one_stream_has_one_result(platform):
    foreign = platform.foreign_data_manager()
    client = platform.client(platform.order_service())
    try:
        answers = list(client.stub.ProcessOrderStream(iter([order(1), order(2), order(1)]), timeout=5))
        assert {result_of(answer) for answer in answers} == {result_of(client.get(i)) for i in (1, 2)}
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    client.wait_all_ended(timeout=5)
    assert foreign.questions[1] == 1


def test_a_small_limit_on_orders_in_flight_only_slows_a_stream(platform):
    platform.foreign_data_manager(batch=True)
    client = platform.client(platform.order_service("--max-in-flight-orders", 100))
    answers = list(client.stub.ProcessOrderStream(map(order, range(1000)), timeout=30))
    assert sorted(answer.order_id for answer in answers) == list(range(1000))
    assert all(answer.is_processed for answer in answers)
