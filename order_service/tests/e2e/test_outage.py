"""Hazard: an outage of the data manager fails orders, uses up their attempts, or its end is noticed late.

Down for 10 s: orders wait, none fails, all finish within 2 s of its return without being sent again.
"""

import threading
import time

import pytest

from client import FAILED, FINISHED, assert_processed_as_given
from waiting import elapsed_since, wait_until

OUTAGE = 10.0


@pytest.mark.long
def test_ten_seconds_without_the_data_manager(platform):
    manager, service = platform.data_manager(), platform.order_service()
    client, answers = platform.client(service), []
    client.process([(order_id, 1) for order_id in range(10)])
    manager.kill()
    start = time.monotonic()

    def send(first):
        pairs = [(order_id, 1) for order_id in range(first, first + 50)]
        answers.extend(client.process(pairs, timeout=2))

    threads = []
    for first in range(1000, 1400, 50):  # orders of every age, up to the last second
        threads.append(threading.Thread(target=send, args=(first,)))
        threads[-1].start()
        wait_until(lambda: len(client.list_all()) > len(threads) * 50, 5, "accepted without the data manager")
        wait_until(lambda: elapsed_since(start) > len(threads) * 1.1, 5, "the next wave")
    for thread in threads:
        thread.join(10)
    assert len(answers) == 400 and not any(answer.is_processed for answer in answers)
    assert not client.page(FAILED).orders, "an outage failed an order"
    wait_until(lambda: elapsed_since(start) >= OUTAGE, OUTAGE, "ten seconds down")

    manager.start()
    client.wait_all_ended(timeout=2)
    stored = client.list_all()
    assert len(stored) == 410 and all(order.state == FINISHED for order in stored)
    again = client.process([(order_id, 1) for order_id in range(1000, 1400)])
    assert_processed_as_given(again, platform.manager_client(manager).given())


def test_an_order_of_before_its_first_start(platform):
    service, manager = platform.order_service(), platform.data_manager(start=False)
    client = platform.client(service)
    (answer,) = client.process([(3, 1)], timeout=1)
    assert not answer.is_processed
    manager.start()
    stored = client.wait_state(3, FINISHED, timeout=2)
    assert platform.manager_client(manager).given()[3] == (stored.storage_id, stored.pickup_point_id)
