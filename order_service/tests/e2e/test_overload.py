"""Hazard: overload grows memory or latency instead of being refused with RESOURCE_EXHAUSTED."""

import itertools
import statistics
import threading
import time

import grpc
import pytest

from client import FINISHED, assert_processed_as_given, refusal_of, request_of
from foreign_data_manager import Behaviour, first_data
from waiting import elapsed_since, wait_until

pytestmark = pytest.mark.alone

MOST_GROWTH_MIB = 200


def test_what_does_not_fit_is_refused_at_once_and_whole(platform):
    foreign = platform.foreign_data_manager(default=Behaviour.AFTER)
    foreign.delay = 1.5
    client = platform.client(platform.order_service("--max-in-flight-orders", "200"))
    calls = [
        client.stub.ProcessOrders.future(request_of((i, 1) for i in range(first, first + 100)), timeout=20)
        for first in (0, 100)
    ]
    wait_until(lambda: client.knows(0) and client.knows(100), 1, "both accepted", every=0.01)
    start = time.monotonic()
    refused = refusal_of(client.process, [(1000, 1)], timeout=5)
    assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and elapsed_since(start) < 0.5
    assert not client.knows(1000)
    expected = {order_id: first_data(order_id) for order_id in range(200)}
    for call in calls:
        assert_processed_as_given(call.result().processed_orders, expected)
    assert client.process([(1000, 1)])[0].is_processed, "it did not recover"
    too_large = refusal_of(client.process, [(order_id, 1) for order_id in range(5000, 5201)], timeout=5)
    assert too_large.code() == grpc.StatusCode.INVALID_ARGUMENT and not client.knows(5000)


class Flood:
    """Threads that send batches of 500 new orders as fast as they are answered or refused."""

    def __init__(self, platform, service, seconds: float):
        self._batches, self._end = itertools.count(), time.monotonic() + seconds
        self.accepted, self.refusal_seconds, self.other_codes = [], [], []
        clients = [platform.client(service) for _ in range(12)]
        self.threads = [threading.Thread(target=self._send, args=(client,)) for client in clients]

    def _send(self, client):
        while time.monotonic() < self._end:
            first, start = next(self._batches) * 500, time.monotonic()
            pairs = [(order_id, 1) for order_id in range(first, first + 500)]
            try:
                client.process(pairs, timeout=15)
                self.accepted.append(first)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
                    self.refusal_seconds.append(elapsed_since(start))
                else:
                    self.other_codes.append((error.code(), error.details()))


def test_a_flood_leaves_the_memory_bounded(platform):
    platform.data_manager("--callback-mode", "after", "--callback-delay-ms", "300..600")
    service = platform.order_service("--max-in-flight-orders", "2000")
    client = platform.client(service)
    client.process([(-1, 1)])
    before, most = service.resident_mib(), 0.0
    flood = Flood(platform, service, seconds=6)
    for thread in flood.threads:
        thread.start()
    while any(thread.is_alive() for thread in flood.threads):
        most = max(most, service.resident_mib())
        time.sleep(0.1)  # not a wait: how often the memory is looked at
    assert not flood.other_codes, flood.other_codes[:3]
    assert flood.accepted and len(flood.refusal_seconds) > 20, "nothing was refused: not a flood"
    assert statistics.median(flood.refusal_seconds) < 0.2 and max(flood.refusal_seconds) < 2
    assert most - before < MOST_GROWTH_MIB, f"grew by {most - before:.0f} MiB"
    client.wait_all_ended(timeout=20)
    stored = {order.order_id: order.state for order in client.list_all()}
    assert len(stored) == 1 + 500 * len(flood.accepted), "a refused batch was taken, or an accepted one lost"
    assert set(stored.values()) == {FINISHED}
