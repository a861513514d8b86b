"""Hazard: the data manager's fault injection does not do what is configured, so that the tests that rely on it prove
nothing.

Driven against a test order service that only records callbacks; no database.
"""

import random
import time

import grpc
import pytest

import embedded_postgres
from client import refusal_of
from ports import free_port
from recording_order_service import RecordingOrderService
from waiting import elapsed_since, stands_still, wait_until

ORDERS = 200


@pytest.fixture
def recorder(platform):
    recording = RecordingOrderService(platform.order_ports[0])
    platform.closing(recording.close)
    return recording


def started(platform, *flags):
    """Our data manager with these flags on a port of its own, and a client of it."""
    process = platform.data_manager(*flags, port=free_port())
    return process, platform.manager_client(process)


def ask_all(client, ids) -> set[int]:
    """Asks for every order, one after the other; the refused ones."""
    refused = set()
    for order_id in ids:
        try:
            client.ask(order_id)
        except grpc.RpcError:
            refused.add(order_id)
    return refused


def test_by_default_it_calls_back_before_it_returns_and_repeats_itself(platform, recorder):
    process, client = started(platform)
    ids = [-(2**31), -1, 0, 1, 2**31 - 1]
    for order_id in ids:
        client.ask(order_id)
        assert len(recorder.of(order_id)) == 1, "not before the return"
    for order_id in ids:
        client.ask(order_id)
        assert len(recorder.of(order_id)) == 2, "not again"
    assert recorder.data() == client.given() and client.given().keys() == set(ids)
    assert all(0 not in data for data in client.given().values())
    process.stop()


@pytest.mark.parametrize("mode", ["after", "async"])
def test_callback_modes_that_return_first(platform, recorder, mode):
    _, client = started(platform, "--callback-mode", mode, "--callback-delay-ms", "300..400")
    start = time.monotonic()
    client.ask(1)
    assert elapsed_since(start) < 0.25 and not recorder.callbacks, "it called back before it returned"
    wait_until(lambda: recorder.callbacks, 3, "the callback")
    assert 0.25 < recorder.callbacks[0].at - start < 1


def test_callback_delay_before_the_return(platform, recorder):
    _, client = started(platform, "--callback-mode", "before", "--callback-delay-ms", "200..300")
    start = time.monotonic()
    client.ask(1)
    assert 0.2 <= recorder.of(1)[0].at - start < 0.8 and elapsed_since(start) >= 0.2


def test_dropped_callbacks(platform, recorder):
    _, client = started(platform, "--drop-callback-rate", "0.5", "--seed", "7")
    assert ask_all(client, range(ORDERS)) == set(), "a dropped callback is no error"
    dropped = set(range(ORDERS)) - recorder.counts().keys()
    assert ORDERS * 0.25 < len(dropped) < ORDERS * 0.75
    assert client.given().keys() >= recorder.counts().keys()
    for _ in range(30):  # asked again, a dropped one comes at some time
        dropped -= recorder.counts().keys()
        ask_all(client, dropped)
    assert recorder.data().keys() == set(range(ORDERS))


def test_duplicated_callbacks(platform, recorder):
    _, client = started(platform, "--duplicate-callback-rate", "0.5", "--seed", "7")
    ask_all(client, range(ORDERS))
    wait_until(lambda: recorder.counts().total() > ORDERS * 1.25, 3, "duplicates")
    assert ORDERS * 0.25 < sum(count > 1 for count in recorder.counts().values()) < ORDERS * 0.75
    assert recorder.data() == client.given()


def test_refused_questions(platform, recorder):
    _, client = started(platform, "--error-rate", "0.5", "--seed", "7")
    refused = ask_all(client, range(ORDERS))
    assert ORDERS * 0.25 < len(refused) < ORDERS * 0.75
    assert recorder.counts().keys() >= set(range(ORDERS)) - refused


def test_the_seed_makes_it_reproducible(platform, recorder):
    def run(seed):
        recorder.callbacks.clear()
        rates = ("--drop-callback-rate", "0.3", "--duplicate-callback-rate", "0.3", "--error-rate", "0.3")
        process, client = started(platform, "--seed", seed, *rates)
        refused, given = ask_all(client, range(ORDERS)), client.given()
        wait_until(stands_still(lambda: recorder.counts().total(), 0.5), 5, "the last duplicate")
        process.stop()
        return refused, given, recorder.counts()

    first, again, other = run("1"), run("1"), run("2")
    assert first == again
    assert first != other and first[0] and first[2].total() > len(first[2])


def test_once_delivers_until_it_is_answered_and_then_never_again(platform, recorder):
    _, client = started(platform, "--once")
    recorder.refusing = grpc.StatusCode.UNAVAILABLE
    ids = range(20)
    ask_all(client, ids)  # it may wait for a delivery or not: what counts is what arrives
    assert recorder.refused > 0 and not recorder.callbacks
    recorder.refusing = None
    wait_until(lambda: ask_all(client, ids) == set(ids), 10, "every further question is refused")
    wait_until(lambda: recorder.counts().keys() == set(ids), 5, "every callback")
    for order_id in ids:
        error = refusal_of(client.ask, order_id)
        assert error.code() == grpc.StatusCode.UNKNOWN and "already exists" in error.details()
    assert set(recorder.counts().values()) == {1}, "delivered again after it was answered"
    assert recorder.data() == client.given()


def test_a_failed_callback_is_tried_again(platform, recorder):
    _, client = started(platform, "--callback-mode", "after")
    recorder.refusing = grpc.StatusCode.UNAVAILABLE
    client.ask(1)
    wait_until(lambda: recorder.refused >= 2, 5, "a second try")
    recorder.refusing = None
    wait_until(lambda: recorder.of(1), 5, "the callback without another question")
    assert recorder.data() == client.given()


def test_callbacks_alternate_between_two_order_services(platform, recorder):
    other = RecordingOrderService(platform.order_ports[1])
    platform.closing(other.close)
    _, client = started(platform, "--also-order-address", f"localhost:{platform.order_ports[1]}")
    ask_all(client, range(ORDERS))
    here, there = recorder.counts(), other.counts()
    assert not here.keys() & there.keys() and here.keys() | there.keys() == set(range(ORDERS))
    assert abs(here.total() - there.total()) <= ORDERS * 0.1


def test_with_a_database_it_remembers(platform):
    service = platform.order_service()
    embedded_postgres.psql(platform.data_dir, "CREATE DATABASE dm")
    manager = platform.data_manager("--database-url", embedded_postgres.database_url(platform.data_dir, "dm"))
    ids = random.sample(range(-1000, 1000), 50)
    platform.client(service).process([(order_id, 1) for order_id in ids])
    given = platform.manager_client(manager).given()
    manager.kill()
    manager.start()
    assert platform.manager_client(manager).given() == given and given.keys() == set(ids)
