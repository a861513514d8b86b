"""Hazard: a slow exchange blocks other orders.

Each worker fans out its external stage (10 at a time by default), so seven slow orders take the time of one.
"""

import threading
import time

import pytest

from client import assert_processed_as_given
from foreign_data_manager import BATCH, SINGLE, Behaviour, first_data
from waiting import elapsed_since, wait_until

pytestmark = pytest.mark.alone

SEVEN = [(order_id, 1) for order_id in range(1, 8)]
ONE_WORKER = ("--workers", "1", "--callback-timeout", "7s")


@pytest.mark.parametrize("batch", [False, True])
def test_seven_calls_of_five_seconds_side_by_side(platform, batch):
    foreign = platform.foreign_data_manager(default=Behaviour.SLOW_CALL, batch=batch)
    client = platform.client(platform.order_service(*ONE_WORKER))
    start = time.monotonic()
    answers = client.process(SEVEN)
    assert 5 <= elapsed_since(start) < 8
    assert_processed_as_given(answers, {order_id: first_data(order_id) for order_id, _ in SEVEN})
    assert foreign.faults[Behaviour.SLOW_CALL] == 7
    assert (foreign.calls[BATCH] > 0) == batch and (foreign.calls[SINGLE] == 0) == batch


def test_seven_callbacks_of_our_own_manager_after_five_seconds(platform):
    manager = platform.data_manager("--callback-mode", "after", "--callback-delay-ms", "5000..5000")
    client = platform.client(platform.order_service(*ONE_WORKER))
    start = time.monotonic()
    answers = client.process(SEVEN)
    assert 5 <= elapsed_since(start) < 8
    assert_processed_as_given(answers, platform.manager_client(manager).given())


def test_fast_orders_overtake_slow_ones_and_the_fan_limit_holds(platform):
    foreign = platform.foreign_data_manager()
    foreign.slow = 3.0
    slow, fast = [(order_id, 1) for order_id in (1, 2)], [(order_id, 1) for order_id in range(10, 40)]
    foreign.plans = {order_id: Behaviour.SLOW_CALL for order_id, _ in slow}
    service = platform.order_service("--workers", "1", "--fan-limit", "3", "--callback-timeout", "7s")
    client, outcome = platform.client(service), []
    thread = threading.Thread(target=lambda: outcome.extend(client.process(slow)))
    thread.start()
    wait_until(lambda: foreign.faults[Behaviour.SLOW_CALL] == 2, 5, "both slow orders asked for")
    start = time.monotonic()
    assert all(answer.is_processed for answer in client.process(fast))
    assert elapsed_since(start) < 2, "fast orders waited for slow ones"
    thread.join(15)
    assert [answer.is_processed for answer in outcome] == [True, True]
    assert 2 < foreign.most_at_once <= 3, "1 worker x fan limit 3"
