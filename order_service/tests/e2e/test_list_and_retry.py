"""Hazard: pages skip or repeat orders during concurrent writes, and a failed order cannot be revived."""

import threading
import time

import grpc
import pytest

from client import FAILED, FINISHED, refusal_of, result_of
from foreign_data_manager import Behaviour, first_data
from waiting import elapsed_since, wait_until


def test_pages_stay_stable_under_writes(platform):
    platform.foreign_data_manager(batch=True)
    service = platform.order_service()
    client, writer_client = platform.client(service), platform.client(service)
    there_before = list(range(-400, 400, 2))
    client.process([(order_id, 1) for order_id in there_before])
    stop, written = threading.Event(), []

    def write():
        for order_id in range(399, -400, -2):  # towards the reader, so that it meets some of them
            if stop.is_set():
                return
            writer_client.process([(order_id, 1)])
            written.append(order_id)

    thread = threading.Thread(target=write)
    thread.start()
    listed, pages, token = [], 0, ""
    while pages == 0 or token:
        seen = len(written)
        page = client.page(size=25, token=token)
        assert len(page.orders) <= 25
        listed.extend(order.order_id for order in page.orders)
        token, pages = page.next_page_token, pages + 1
        if thread.is_alive():
            wait_until(lambda seen=seen: len(written) > seen or not thread.is_alive(), 5, "a write between pages")
    stop.set()
    thread.join(10)
    assert written and pages > len(there_before) / 25
    assert listed == sorted(set(listed)), "a page repeated an order or went back"
    assert set(there_before) <= set(listed), "a page skipped an order"


def test_states_and_limits_of_a_page(platform):
    foreign = platform.foreign_data_manager(batch=True)
    foreign.plans = dict.fromkeys(range(0, 130, 13), grpc.StatusCode.NOT_FOUND)
    client = platform.client(platform.order_service())
    client.process([(order_id, 1) for order_id in range(130)])
    assert [order.order_id for order in client.list_all(FAILED, size=3)] == list(range(0, 130, 13))
    assert len(client.list_all(FINISHED, size=7)) == 120
    assert len(client.page().orders) == 100, "0: 100"
    assert [str(order) for order in client.page(size=5).orders] == [str(client.get(i)) for i in range(5)]
    assert [order.order_id for order in client.list_all(size=130)] == list(range(130))
    for bad in ({"token": "not a token"}, {"size": -1}):
        assert refusal_of(client.page, **bad).code() == grpc.StatusCode.INVALID_ARGUMENT


def test_only_retry_order_revives_a_failed_one(platform):
    foreign = platform.foreign_data_manager()
    foreign.plans = {1: grpc.StatusCode.NOT_FOUND}
    client = platform.client(platform.order_service())
    (answer,) = client.process([(1, 10)])
    assert not answer.is_processed and client.get(1).state == FAILED
    foreign.plans = {}
    (again,) = client.process([(1, 10)])
    assert result_of(again) == result_of(answer) and not again.is_processed and foreign.questions[1] == 1

    assert client.retry(1).order_id == 1
    stored = client.wait_state(1, FINISHED, timeout=5)
    assert (stored.storage_id, stored.pickup_point_id) == first_data(1) and foreign.questions[1] == 2
    assert client.process([(1, 10)])[0].is_processed
    assert refusal_of(client.retry, 1).code() == grpc.StatusCode.FAILED_PRECONDITION
    assert refusal_of(client.retry, 2).code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.long
def test_retry_order_tries_a_waiting_one_now(platform):
    foreign = platform.foreign_data_manager(default=grpc.StatusCode.ABORTED)
    client = platform.client(platform.order_service())
    (answer,) = client.process([(8, 1)], timeout=10)
    assert not answer.is_processed

    def seconds_to_the_next_attempt():
        stored = client.get(8)
        return stored.next_attempt_at.ToSeconds() - time.time() if stored.HasField("next_attempt_at") else 0

    wait_until(lambda: seconds_to_the_next_attempt() > 4, 20, "a long pause before the next attempt")
    attempts, foreign.default = client.get(8).attempts, Behaviour.BEFORE
    start = time.monotonic()
    client.retry(8)
    stored = client.wait_state(8, FINISHED, timeout=2)
    assert elapsed_since(start) < 2 and stored.attempts == attempts + 1
    assert foreign.faults[grpc.StatusCode.ABORTED] == attempts
