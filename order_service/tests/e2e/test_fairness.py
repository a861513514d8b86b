"""Hazard: head-of-line blocking: 10,000 orders of one client delay all other clients.

Requests take turns, so a single order is answered while large requests are processed, also with few workers, and also
when the backlog of a data manager outage is due all together.
"""

import itertools
import statistics
import threading
import time

import pytest

from client import request_of
from foreign_data_manager import Behaviour
from waiting import elapsed_since, wait_until

pytestmark = pytest.mark.alone

MANY = 10_000


def large(first: int, client, timeout=60):
    """A request of so many orders under way."""
    pairs = [(order_id, 1) for order_id in range(first, first + MANY)]
    return client.stub.ProcessOrders.future(request_of(pairs), timeout=timeout)


def seconds_of_singles(client, ids, count: int) -> list[float]:
    took = []
    for _ in range(count):
        start = time.monotonic()
        assert client.process([(next(ids), 1)], timeout=20)[0].is_processed
        took.append(elapsed_since(start))
    return took


@pytest.mark.parametrize("workers, requests", [(2, 1), (512, 3)])
def test_single_orders_beside_large_requests(platform, workers, requests):
    platform.data_manager()
    service = platform.order_service("--workers", str(workers))
    client, busy, ids = platform.client(service), platform.client(service), itertools.count(1_000_000)
    seconds_of_singles(client, ids, 10)
    quiet = statistics.median(seconds_of_singles(client, ids, 20))
    began, calls = time.monotonic(), [large(n * MANY, busy) for n in range(requests)]
    wait_until(lambda: client.knows(0), 5, "the large ones are accepted", every=0.01)
    took = []
    while not all(call.done() for call in calls):
        took += seconds_of_singles(client, ids, 1)
    all_of_them = elapsed_since(began)
    done = sum(order.is_processed for call in calls for order in call.result().processed_orders)
    print(f"quiet {quiet * 1e3:.1f} ms; beside {len(took)} singles: median {statistics.median(took) * 1e3:.0f} ms, worst {max(took) * 1e3:.0f} ms")
    assert done > 0 and len(took) >= 5, "nothing was beside the singles"
    # In one line for all, a single order comes when the large requests are done.
    assert statistics.median(took) < all_of_them / 4


def test_a_new_order_is_not_the_last_when_the_data_manager_returns(platform):
    service = platform.order_service()
    client, busy = platform.client(service), platform.client(service)
    calls = [large(n * MANY, busy, timeout=4) for n in range(2)]
    for call in calls:
        assert not any(order.is_processed for order in call.result().processed_orders)
    platform.data_manager()
    start = time.monotonic()
    assert client.process([(1_000_000, 1)], timeout=20)[0].is_processed
    took = elapsed_since(start)
    waiting = sum(len(client.list_all(state)) for state in (1, 2, 3))
    print(f"answered after {took * 1e3:.0f} ms, {waiting} orders were still waiting")
    assert took < 10 and waiting > 0, "it came last"
    client.wait_all_ended(60)


def test_a_slow_request_leaves_places_to_others(platform):
    foreign = platform.foreign_data_manager(default=Behaviour.SILENT)
    foreign.plans = {order_id: Behaviour.BEFORE for order_id in range(1_000_000, 1_000_010)}
    service = platform.order_service("--workers", "20", "--callback-timeout", "5s")
    client, busy, outcome = platform.client(service), platform.client(service), []
    call = busy.stub.ProcessOrders.future(request_of((n, 1) for n in range(1000)), timeout=20)
    wait_until(lambda: foreign.questions, 5, "it is asked for")
    time.sleep(0.5)  # not a wait: for as many of them as get a place
    for order_id in range(1_000_000, 1_000_010):
        start = time.monotonic()
        outcome += client.process([(order_id, 1)], timeout=10)
        assert elapsed_since(start) < 2, "all places were taken"
    assert all(order.is_processed for order in outcome)
    call.cancel()
