"""Hazard: a rolling restart drops calls that were already received, hangs, or leaves leases behind.

SIGTERM: not ready immediately, no new work, orders in flight finish (which needs the callbacks still to come), leases
are released, exit 0. A second signal exits immediately.
"""

import http.client
import threading
import time

import grpc
import pytest

import embedded_postgres
from client import FINISHED, assert_processed_as_given, refusal_of, request_of
from foreign_data_manager import Behaviour, first_data
from history import OK, REFUSED, UNKNOWN
from load import Load
from raw_http import get
from waiting import elapsed_since, wait_until


def calls_in_flight(client, foreign, count: int):
    """`count` calls of one order each, all of them asked for at the data manager; (threads, their outcomes)."""
    outcomes = {}

    def call(order_id):
        try:
            outcomes[order_id] = client.process([(order_id, 1)], timeout=12)[0]
        except grpc.RpcError as error:
            outcomes[order_id] = error

    threads = [threading.Thread(target=call, args=(order_id,)) for order_id in range(1, count + 1)]
    for thread in threads:
        thread.start()
    wait_until(lambda: sum(foreign.questions.values()) >= count, 10, "all orders asked for", every=0.01)
    return threads, outcomes


def is_ready(service) -> bool:
    try:
        return get(service.http_port, "/readyz").status == 200
    except (OSError, http.client.HTTPException):
        return False


def test_every_call_received_is_answered(platform):
    foreign = platform.foreign_data_manager(default=Behaviour.AFTER)
    foreign.delay = 1.5
    service = platform.order_service()
    client, late_client = platform.client(service), platform.client(service)
    assert is_ready(service)
    threads, outcomes = calls_in_flight(client, foreign, 20)
    service.terminate()
    wait_until(lambda: not is_ready(service) and not service.is_serving(), 1, "not ready at once")
    assert not outcomes, "the calls ended before the signal: nothing was shown"
    refused = refusal_of(late_client.process, [(1000, 1)], timeout=5)
    assert refused.code() == grpc.StatusCode.UNAVAILABLE
    for thread in threads:
        thread.join(15)
    assert service.wait_exit(35) == 0
    errors = [outcome for outcome in outcomes.values() if isinstance(outcome, grpc.RpcError)]
    assert len(outcomes) == 20 and not errors, f"{len(errors)} received and not answered: {errors[:1]}"
    # "In-flight finished": the callbacks that came meanwhile were let in.
    assert_processed_as_given(outcomes.values(), {order_id: first_data(order_id) for order_id in outcomes})
    assert embedded_postgres.wait_stopped(platform.data_dir), "the cluster outlived its last service"


@pytest.mark.long
def test_five_restarts_under_load_answer_all_they_accepted(platform):
    platform.data_manager()
    service = platform.order_service()
    with Load(service.port, clients=4) as load:
        for _ in range(5):
            seen = load.history.count(OK)
            wait_until(lambda seen=seen: load.history.count(OK) > seen + 50, 20, "load")
            service.stop()
            service.start()
    history, client = load.history, platform.client(service)
    client.wait_all_ended(timeout=15)
    history.check_against(client.list_all())
    # A call that was never received may say UNAVAILABLE; if its order is stored, it was received.
    unanswered = [e.order_id for e in history.entries if e.outcome == UNKNOWN and client.knows(e.order_id)]
    assert not unanswered, f"{len(unanswered)} accepted and not answered: {unanswered[:5]} {dict(history.codes)}"
    unprocessed = [entry for entry in history.entries if entry.outcome == OK and not entry.processed]
    assert not unprocessed and history.count(REFUSED) == 0, unprocessed[:3]


@pytest.mark.long
def test_leases_are_given_back(platform):
    foreign = platform.foreign_data_manager(default=Behaviour.SILENT)
    service = platform.order_service("--callback-timeout", "500ms")
    client = platform.client(service)
    answers = client.process([(order_id, 1) for order_id in range(1, 31)], timeout=1)
    assert not any(answer.is_processed for answer in answers) and foreign.faults[Behaviour.SILENT] >= 30
    service.stop()
    foreign.default = Behaviour.BEFORE
    service.start()
    # Sooner than a lease that has to expire first.
    wait_until(lambda: len(client.list_all(FINISHED)) == 30, 5, "the waiting orders finished after the restart")


def test_idle_with_connected_clients_it_ends_at_once(platform):
    platform.data_manager()
    service = platform.order_service()
    clients = [platform.client(service) for _ in range(5)]
    for order_id, client in enumerate(clients):
        client.process([(order_id, 1)])
    start = time.monotonic()
    service.stop(timeout=10)
    assert elapsed_since(start) < 5


@pytest.mark.long
def test_a_second_signal_exits_now_and_loses_nothing(platform):
    foreign = platform.foreign_data_manager(default=Behaviour.HANGING)
    service = platform.order_service("--callback-timeout", "25s")
    client = platform.client(service)
    call = client.stub.ProcessOrders.future(request_of([(5, 1)]), timeout=28)
    wait_until(lambda: foreign.questions[5], 5, "the order asked for")
    service.terminate()
    wait_until(lambda: not is_ready(service), 2, "the first signal seen")
    assert service.is_running(), "it did not wait for what is in flight"
    service.terminate()
    service.wait_exit(2)
    call.cancel()
    foreign.default = Behaviour.BEFORE
    service.start()
    client.wait_state(5, FINISHED, timeout=25)


@pytest.mark.long
def test_a_call_that_outlasts_the_stop_is_answered_before_the_exit(platform):
    foreign = platform.foreign_data_manager(default=Behaviour.SILENT)
    service = platform.order_service("--shutdown-timeout", "3s", "--callback-timeout", "20s")
    client, answers = platform.client(service), []
    waiting = threading.Thread(target=lambda: answers.extend(client.process([(1, 1)], timeout=60)))
    waiting.start()
    wait_until(lambda: foreign.questions[1], 10, "the order asked for")
    service.terminate()
    assert service.wait_exit(6) == 0
    waiting.join(5)
    assert [answer.is_processed for answer in answers] == [False]
    foreign.default = Behaviour.BEFORE
    service.start()
    client.wait_state(1, FINISHED, timeout=15)
