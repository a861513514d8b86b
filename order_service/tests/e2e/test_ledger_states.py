"""Hazard: a compare-and-set on a state is lost or applied twice, or a read is stale.

64 clients increment one state with `If-Match`; the history must be linearizable: each version made by exactly one
successful PUT, no gap, no stale read. Also the guarantees for a single caller.
"""

import json
import threading
import time

import pytest

from bad_events import nested
from ledger_client import LedgerClient
from ledger_events import STATE
from state_history import READ, REFUSED, WRITE, Operation, StateHistory

CLIENTS, SUCCESSES_EACH = 64, 3
STORAGES = iter(range(40_000, 50_000))  # each test has a state of its own


@pytest.fixture
def key():
    return {"storage_id": next(STORAGES)}


def put(client, key, state, if_match) -> int:
    """The version that a PUT which must succeed made."""
    return client.put_state(STATE, key, state, if_match).ok(200, 201)["version"]


def read(client, key) -> tuple:
    body = client.state(STATE, key).ok()
    return body["state"], body["version"]


def compare_and_set(port: int, key, name: int, history: StateHistory, barrier) -> None:
    """Until this client has succeeded often enough: read, then replace exactly what was read."""
    client, done = LedgerClient(port), 0
    barrier.wait(30)
    while done < SUCCESSES_EACH:
        invoked = time.monotonic()
        state, version = read(client, key)
        history.add(Operation(READ, version, json.dumps(state), invoked, time.monotonic()))
        mine = {"by": name, "nth": done, "after": version}
        invoked = time.monotonic()
        answer = client.put_state(STATE, key, mine, version)
        returned = time.monotonic()
        if answer.status == 409:
            history.add(Operation(REFUSED, version, None, invoked, returned))
            continue
        done += 1
        history.add(Operation(WRITE, answer.ok()["version"], json.dumps(mine), invoked, returned, version))
    client.close()


def test_sixty_four_clients_compare_and_set(ledger, key):
    first = put(ledger, key, None, 0)
    history, barrier = StateHistory(first, json.dumps(None)), threading.Barrier(CLIENTS)
    args = [(ledger.port, key, name, history, barrier) for name in range(CLIENTS)]
    threads = [threading.Thread(target=compare_and_set, args=each) for each in args]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    print(f"{history.count(WRITE)} writes, {history.count(REFUSED)} refused, {history.count(READ)} reads")
    assert history.count(WRITE) == CLIENTS * SUCCESSES_EACH and history.count(REFUSED) > 0, "nobody met anybody"
    assert history.problems() == [], history.problems()[:3]
    assert read(ledger, key)[1] == first + CLIENTS * SUCCESSES_EACH


def test_sixty_four_clients_create_one_state(ledger, key):
    barrier, answers = threading.Barrier(CLIENTS), []

    def create(name: int):
        client = LedgerClient(ledger.port)
        barrier.wait(30)
        answers.append((client.put_state(STATE, key, {"by": name}, 0), name))
        client.close()

    threads = [threading.Thread(target=create, args=(name,)) for name in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    created = [name for answer, name in answers if answer.status in (200, 201)]
    refused = [answer.code() for answer, _ in answers if answer.status == 409]
    assert len(created) == 1 and refused == ["CONFLICT"] * (CLIENTS - 1)
    assert read(ledger, key)[0] == {"by": created[0]}


def test_the_life_of_a_state(ledger, key):
    ledger.state(STATE, key).refused(404, "NOT_FOUND")
    ledger.put_state(STATE, key, {"n": 1}, 1).refused(409, "CONFLICT")
    first = put(ledger, key, {"n": 1}, 0)
    assert read(ledger, key) == ({"n": 1}, first)
    second = put(ledger, key, {"n": 2}, first)
    third = put(ledger, key, {"n": 3}, f'"{second}"')
    assert (second, third) == (first + 1, first + 2) and read(ledger, key) == ({"n": 3}, third)
    for stale in (0, first, '"0"', f'"{first}"', third + 1, 2**62):
        ledger.put_state(STATE, key, {"n": 9}, stale).refused(409, "CONFLICT")
    assert read(ledger, key) == ({"n": 3}, third)
    other = {"storage_id": key["storage_id"] + 10_000}
    ledger.state(STATE, other).refused(404, "NOT_FOUND")


def test_a_repeat_of_the_write_that_made_the_current_version(ledger, key):
    first = put(ledger, key, {"a": 1, "b": [1, 2]}, 0)
    assert put(ledger, key, {"b": [1, 2], "a": 1}, 0) == first, "the same JSON in another order"
    second = put(ledger, key, {"n": 2}, first)
    assert put(ledger, key, {"n": 2}, first) == second
    ledger.put_state(STATE, key, {"n": 3}, first).refused(409, "CONFLICT")
    ledger.put_state(STATE, key, {"a": 1, "b": [1, 2]}, 0).refused(409, "CONFLICT")  # made an older version
    assert put(ledger, key, {"n": 2}, second) == second + 1, "the same state again is a new write"
    assert read(ledger, key) == ({"n": 2}, second + 1)


@pytest.mark.parametrize(
    "value",
    [None, True, False, 0, -1, 1.5, 10**15, "", "text", 'ü\N{MONEY BAG}\n"\\', [], {}, [[], {"": [None]}], nested(32)],
    ids=lambda value: json.dumps(value)[:12],
)
def test_any_json_value(ledger, key, value):
    version = put(ledger, key, value, 0)
    assert read(ledger, key) == (value, version)


@pytest.mark.parametrize("value", ["a\0b", {"a\0": 1}, 10**40, 1e300], ids=["zero", "zero in a key", "10^40", "1e300"])
def test_odd_json_is_kept_as_it_is_or_refused(ledger, key, value):
    answer = ledger.put_state(STATE, key, value, 0)
    if answer.status == 200:
        assert read(ledger, key)[0] == value
    else:
        answer.refused(400, "VALIDATION_ERROR")


def raw_put(client, key, body: bytes, if_match="0", kind="application/json"):
    headers = {"If-Match": if_match, "Content-Type": kind}
    return client.call("PUT", f"/v1/states/{STATE}?storage_id={key['storage_id']}", body, headers)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"{} {}", b"nul", b'"\xff"', b'"\\ud800"', b"NaN", json.dumps(nested(33)).encode(), b"[" * 100_000],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_no_json_or_nested_too_deep(ledger, key, body):
    raw_put(ledger, key, body).refused(400, "VALIDATION_ERROR")
    ledger.state(STATE, key).refused(404, "NOT_FOUND")


@pytest.mark.parametrize("if_match", ["-1", "one", '"', '"1', "*", "1.0", "", "1, 2", str(2**64)])
def test_a_version_that_is_none(ledger, key, if_match):
    error = raw_put(ledger, key, b"{}", if_match).refused(400, "VALIDATION_ERROR")
    assert "if-match" in json.dumps(error).lower()
    ledger.state(STATE, key).refused(404, "NOT_FOUND")


BAD_KEYS = {
    "no attribute": ({}, "storage_id"),
    "an attribute of another type": ({"storage_id": "one"}, "storage_id"),
    "an unknown attribute": ({"storage_id": 1, "colour": "red"}, "colour"),
}


@pytest.mark.parametrize(("bad", "word"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_attributes_are_validated(ledger, bad, word):
    for answer in (ledger.state(STATE, bad), ledger.put_state(STATE, bad, {}, 0)):
        assert word in json.dumps(answer.refused(400, "VALIDATION_ERROR"))
    assert "taxi" in json.dumps(ledger.put_state("taxi", {"storage_id": 1}, {}, 0).refused(400, "VALIDATION_ERROR"))
    assert 400 <= raw_put(ledger, {"storage_id": 1}, b"{}", kind="text/plain").status < 500
    too_large = raw_put(ledger, {"storage_id": 1}, b'"' + b"x" * (8 * 1024 * 1024) + b'"')
    too_large.refused(413, "TOO_LARGE")
