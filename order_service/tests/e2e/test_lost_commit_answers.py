"""Hazard: commit outcome unknown: the answer is lost, the repeated write conflicts with the first one, and the caller
is told that nothing was written.

The answer is then the truth or 503, never a definite refusal; the write is stored once.
"""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from client import FAILED
from fault_proxy import FaultProxy
from ledger_events import LOCK, STATE
from own_postgres import OwnPostgres
from platform_under_test import ORDER_SERVICE_BIN
from processes import run_command
from roles_apart import Roles
from waiting import wait_until

DELAY = 1500  # ms by which the repetition is held up, so that something happens before it
KEY = {"storage_id": 5}


@pytest.fixture
def proxy(platform):
    postgres = OwnPostgres(platform.home / "own", "control")
    platform.closing(postgres.stop)
    done = run_command([ORDER_SERVICE_BIN, "migrate", "--database-url", postgres.url("control"), "--initial-shards", "4"], timeout=60)
    assert done.returncode == 0, done.stderr
    with FaultProxy(f"127.0.0.1:{postgres.port}") as proxy:
        yield proxy


@pytest.fixture
def service(platform, proxy):
    return platform.order_service("--database-url", proxy.url("control"))


@pytest.fixture
def somebody_else(platform, proxy, service):
    """A ledger's client whose service has a way of its own to the database."""
    url = f"postgres://postgres@{proxy.upstream}/control"
    return platform.ledger_client(Roles(platform, "http", "--database-url", url))


def assert_not_denied(answer) -> None:
    """What was written is not called unwritten: the truth, or that it is unknown."""
    if answer.status != 200:
        answer.refused(503, "UNAVAILABLE")


def lose_answer(proxy, at: dict, call, meanwhile, first_statement: str):
    """The answer of `call`, whose reply at `at` is lost; before its repetition, which begins with `first_statement`, `meanwhile`."""
    lost = proxy.inject(at, "cut_reply")
    held_up = proxy.inject({"statement": first_statement}, {"delay_ms": DELAY}, skip=1)
    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(call)
        wait_until(lambda: proxy.injected(lost) == 1, 10, "the answer is lost", every=0.01)
        meanwhile()
        answer = calling.result(20)
    assert proxy.injected(held_up) == 1, "it was not repeated"
    return answer


@pytest.mark.long
def test_a_state_that_was_put_is_not_called_stale(platform, proxy, service, somebody_else):
    ledger = platform.ledger_client(service)
    ledger.put_state(STATE, KEY, {"n": 1}, 0).ok(200, 201)

    def by_somebody_else():
        assert somebody_else.put_state(STATE, KEY, {"n": 3}, 2).ok()["version"] == 3

    put = lambda: ledger.put_state(STATE, KEY, {"n": 2}, 1)  # noqa: E731
    assert_not_denied(lose_answer(proxy, {"statement": "put_states"}, put, by_somebody_else, "put_states"))
    assert ledger.state(STATE, KEY).ok()["version"] == 3
    ledger.put_state(STATE, KEY, {"n": 4}, 1).refused(409, "CONFLICT")


@pytest.mark.long
def test_a_write_under_a_lock_is_not_called_unwritten(platform, proxy, service):
    ledger = platform.ledger_client(service)
    lock = ledger.lock(LOCK, KEY).ok(200, 201)["lock_id"]
    state = {"type": STATE, "attributes": KEY, "state": {"n": 1}, "expected_version": 0}
    write = lambda: ledger.batch([], [state], lock_id=lock)  # noqa: E731
    answer = lose_answer(proxy, {"commit_of": "put_states"}, write, lambda: ledger.release(lock), "lock_alive")
    assert_not_denied(answer)
    assert ledger.state(STATE, KEY).ok()["version"] == 1


@pytest.mark.long
def test_an_order_that_was_revived_is_not_called_busy(platform, proxy, service):
    platform.foreign_data_manager(default=grpc.StatusCode.INVALID_ARGUMENT)
    client = platform.client(service)
    client.process([(1, 1)])
    client.wait_state(1, FAILED, 10)
    fault = proxy.inject({"commit_of": "revive_orders"}, "cut_reply")
    try:
        client.retry(1)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
    assert proxy.injected(fault) == 1
    client.wait_state(1, FAILED, 10)
