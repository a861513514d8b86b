"""Hazard: two order services on one data dir, and the callback arrives at the replica that did not ask.

The waiting replica gets the data promptly (at most 100 ms more), nothing is lost, and the orders of a stopped replica
are continued by the other.
"""

import statistics
import threading
import time

import pytest

from client import FINISHED, assert_processed_as_given, request_of, result_of
from foreign_data_manager import Behaviour, first_data
from waiting import elapsed_since, wait_until

pytestmark = pytest.mark.alone

ASKING, OTHER = 0, 1


def seconds_per_order(client, order_ids) -> list[float]:
    """One order at a time, as nothing else would show the added latency of each."""
    seconds = []
    for order_id in order_ids:
        start = time.monotonic()
        (answer,) = client.process([(order_id, 1)], timeout=10)
        seconds.append(elapsed_since(start))
        assert answer.is_processed
    return sorted(seconds)


def test_a_callback_at_the_wrong_replica_adds_less_than_100_ms(platform):
    foreign = platform.foreign_data_manager()
    client = platform.client(platform.order_service())
    platform.order_service(replica=OTHER)
    seconds_per_order(client, range(1000, 1010))  # connections, plans and caches are warm
    right = seconds_per_order(client, range(0, 30))
    foreign.route = lambda _order_id: OTHER
    wrong = seconds_per_order(client, range(30, 60))
    assert foreign.accepted_by[OTHER] == 30, "no callback arrived at the wrong one"
    assert statistics.median(wrong) - statistics.median(right) < 0.1
    assert wrong[-2] - statistics.median(right) < 0.1, f"slowest: {wrong[-3:]}"
    for stored in client.list_all():
        assert (stored.storage_id, stored.pickup_point_id) == first_data(stored.order_id)
    assert sum(foreign.questions.values()) == 70, "an order was asked for twice"


def test_our_own_manager_alternating_between_two_busy_replicas(platform):
    manager = platform.data_manager("--also-order-address", f"localhost:{platform.order_ports[OTHER]}")
    services = [platform.order_service(), platform.order_service(replica=OTHER)]
    clients, answers = [platform.client(service) for service in services], []

    def send(client, order_ids):
        for start in range(0, len(order_ids), 50):
            answers.extend(client.process([(order_id, 1) for order_id in order_ids[start : start + 50]]))

    shares = [range(0, 1000), range(1000, 2000)]
    threads = [threading.Thread(target=send, args=pair) for pair in zip(clients, shares, strict=True)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 2000 and elapsed_since(start) < 30
    assert_processed_as_given(answers, platform.manager_client(manager).given())
    assert [result_of(order) for order in clients[OTHER].list_all()] == sorted(map(result_of, answers))


def test_the_same_orders_at_both_replicas_at_once(platform):
    foreign = platform.foreign_data_manager(default=Behaviour.AFTER)
    clients = [platform.client(platform.order_service(replica=replica)) for replica in (ASKING, OTHER)]
    pairs, answers = [(order_id, 2) for order_id in range(-50, 50)], {}

    def send(replica):
        answers[replica] = client_answers = clients[replica].process(pairs, timeout=15)
        assert len(client_answers) == len(pairs)

    threads = [threading.Thread(target=send, args=(replica,)) for replica in (ASKING, OTHER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert list(map(result_of, answers[ASKING])) == list(map(result_of, answers[OTHER]))
    assert_processed_as_given(answers[OTHER], {order_id: first_data(order_id) for order_id, _ in pairs})
    assert foreign.accepted_by[ASKING] >= 100


def test_what_a_killed_replica_accepted_is_carried_on_by_the_other(platform):
    foreign = platform.foreign_data_manager(default=Behaviour.HANGING)
    doomed, heir = platform.order_service(), platform.order_service(replica=OTHER)
    doomed_client, client = platform.client(doomed), platform.client(heir)
    pairs, unknown = [(order_id, 1) for order_id in range(1, 21)], []
    call = doomed_client.stub.ProcessOrders.future(request_of(pairs), timeout=30)
    call.add_done_callback(lambda done: unknown.append(done.code()))
    wait_until(lambda: foreign.faults[Behaviour.HANGING] >= 10, 10, "the doomed one waits for the data manager")
    doomed.kill()
    wait_until(lambda: unknown, 5, "the client's call ended")
    foreign.default, foreign.route = Behaviour.BEFORE, lambda _order_id: OTHER
    wait_until(lambda: len(client.list_all(FINISHED)) == len(pairs), 25, "taken over and finished", every=0.2)
    assert client.process([(99, 1)])[0].is_processed
