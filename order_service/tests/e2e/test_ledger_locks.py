"""Promise: a lock is a grant with an id, a fencing token and an expiry; an ended grant is never valid again.

A write under a lock succeeds only while its grant is valid, and lies wholly on the lock's shard.
"""

import datetime
import json
import re
import uuid

import pytest

from ledger_events import LOCK, new_id, outflow, read_time, statuses, utc_now
from ledger_oracle import total_of
from ledger_sharding import ids_on, shard_of
from waiting import wait_until

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
STORAGES = iter(range(20_000, 30_000, 100))  # each test has those from one number to the next


@pytest.fixture
def storage():
    return next(STORAGES)


def attributes(storage_id: int) -> dict:
    return {"storage_id": storage_id}


def granted(client, storage_id: int, mode: str = "exclusive", ttl: int = 30, **more) -> dict:
    return client.lock(LOCK, attributes(storage_id), mode, ttl, **more).ok(201)


def written(client, storage_id: int):
    return total_of(client.balances("storage_outflow", attributes(storage_id)).ok())[0]


def assert_dead(client, lock_id: str, storage_id: int) -> None:
    """Neither writes nor extends, and nothing of the write is there."""
    before = written(client, storage_id)
    client.write([outflow(storage_id)], lock_id).refused(409, "CONFLICT")
    client.extend(lock_id, 60).refused(409, "CONFLICT")
    assert written(client, storage_id) == before


def wait_ended(grant: dict) -> None:
    """Until its `expires_at` has passed by the clock that the service and this test share."""
    end = read_time(grant["expires_at"])
    wait_until(lambda: utc_now() > end, 10, "the end of the grant")


def test_a_grant(ledger, storage):
    before = utc_now()
    grant = granted(ledger, storage, ttl=30, owner="somebody")
    assert isinstance(grant["fencing_token"], int) and isinstance(grant["lock_id"], str)
    expected = before + datetime.timedelta(seconds=30)
    assert abs(read_time(grant["expires_at"]) - expected) < datetime.timedelta(seconds=5)
    seen = ledger.look(grant["lock_id"]).ok()
    assert seen["lock_id"] == grant["lock_id"] and seen["fencing_token"] == grant["fencing_token"]
    assert read_time(seen["expires_at"]) == read_time(grant["expires_at"])
    assert ledger.release(grant["lock_id"]).status in (200, 204)
    again = granted(ledger, storage)
    assert again["lock_id"] != grant["lock_id"] and again["fencing_token"] > grant["fencing_token"]


def test_who_holds_it_and_until_when(ledger, storage):
    grant = granted(ledger, storage, owner="the-night-shift")
    for mode in ("exclusive", "shared"):
        error = ledger.lock(LOCK, attributes(storage), mode, 5, owner="me").refused(423, "LOCKED")
        told = json.dumps(error)
        ends = [read_time(text) for text in TIME.findall(told)]
        assert "the-night-shift" in told, told
        assert any(abs((end - read_time(grant["expires_at"])).total_seconds()) < 1 for end in ends), told
    granted(ledger, storage + 10_000)  # another key is another lock


def test_shared_ones_are_held_together_and_exclude_an_exclusive_one(ledger, storage):
    first, second = granted(ledger, storage, "shared"), granted(ledger, storage, "shared")
    assert first["lock_id"] != second["lock_id"]
    assert statuses(ledger.write([outflow(storage)], first["lock_id"])) == ["created"]
    assert statuses(ledger.write([outflow(storage)], second["lock_id"])) == ["created"]
    ledger.release(first["lock_id"])
    ledger.lock(LOCK, attributes(storage)).refused(423, "LOCKED")
    ledger.release(second["lock_id"])
    exclusive = granted(ledger, storage)
    ledger.lock(LOCK, attributes(storage), "shared").refused(423, "LOCKED")
    assert exclusive["fencing_token"] > max(first["fencing_token"], second["fencing_token"])


@pytest.mark.parametrize("end", ["released", "expired"])
def test_what_has_ended_never_lives_again(ledger, storage, end):
    grant = granted(ledger, storage, ttl=1, request_id=new_id())
    assert statuses(ledger.write([outflow(storage)], grant["lock_id"])) == ["created"]
    if end == "released":
        ledger.release(grant["lock_id"])
    else:
        wait_ended(grant)
    assert_dead(ledger, grant["lock_id"], storage)
    heir = granted(ledger, storage)
    assert heir["fencing_token"] > grant["fencing_token"]
    assert_dead(ledger, grant["lock_id"], storage)
    ledger.release(grant["lock_id"])  # whatever it answers, it is not the heir's lock
    assert statuses(ledger.write([outflow(storage)], heir["lock_id"])) == ["created"]
    ledger.release(heir["lock_id"])
    assert_dead(ledger, grant["lock_id"], storage)


def test_extending(ledger, storage):
    grant = granted(ledger, storage, ttl=1)
    ledger.extend(grant["lock_id"], 30).ok()
    wait_ended(grant)
    longer = ledger.look(grant["lock_id"]).ok()
    assert (read_time(longer["expires_at"]) - utc_now()).total_seconds() > 20
    assert longer["fencing_token"] == grant["fencing_token"]
    assert statuses(ledger.write([outflow(storage)], grant["lock_id"])) == ["created"]
    ledger.lock(LOCK, attributes(storage)).refused(423, "LOCKED")
    for bad in (0, -1, "5", None):
        assert "ttl_seconds" in json.dumps(ledger.extend(grant["lock_id"], bad).refused(400, "VALIDATION_ERROR"))


def test_the_same_request_is_the_same_grant(ledger, storage):
    request_id = new_id()
    first = granted(ledger, storage, request_id=request_id, owner="me")
    again = ledger.lock(LOCK, attributes(storage), request_id=request_id, owner="me").ok(200, 201)
    assert (again["lock_id"], again["fencing_token"]) == (first["lock_id"], first["fencing_token"])
    ledger.lock(LOCK, attributes(storage), request_id=new_id()).refused(423, "LOCKED")
    other = ledger.lock(LOCK, attributes(storage), "shared", request_id=request_id, owner="me")
    assert other.status == 409 or other.json()["lock_id"] == first["lock_id"], "one request, two grants"
    ledger.release(first["lock_id"])
    after = ledger.lock(LOCK, attributes(storage), request_id=request_id, owner="me")
    if after.status < 300:  # the old grant may be shown again, but as a dead one
        assert after.json()["lock_id"] == first["lock_id"]
    assert_dead(ledger, first["lock_id"], storage)


def test_a_write_lies_wholly_on_the_locks_shard(ledger, storage):
    shard = shard_of(attributes(storage))
    beside = next(n for n in ids_on(shard, start=storage + 1))
    elsewhere = next(n for n in range(1, 100) if shard_of(attributes(n)) != shard)
    lock_id = granted(ledger, storage)["lock_id"]
    before = [written(ledger, n) for n in (storage, beside, elsewhere)]
    error = ledger.write([outflow(storage), outflow(elsewhere)], lock_id).refused(400, "VALIDATION_ERROR")
    assert "lock" in json.dumps(error) or "shard" in json.dumps(error)
    assert [written(ledger, n) for n in (storage, beside, elsewhere)] == before
    assert statuses(ledger.write([outflow(storage), outflow(beside)], lock_id)) == ["created"] * 2


def test_a_repeated_write_under_a_lock(ledger, storage):
    lock_id, events = granted(ledger, storage)["lock_id"], [outflow(storage), outflow(storage)]
    assert statuses(ledger.write(events, lock_id)) == ["created"] * 2
    assert statuses(ledger.write(events, lock_id)) == ["duplicate"] * 2
    ledger.write([{**events[0], "debit": "7"}], lock_id).refused(409, "CONFLICT")


def test_a_lock_that_nobody_has(ledger, storage):
    nobody = str(uuid.uuid4())
    ledger.look(nobody).refused(404, "NOT_FOUND")
    assert ledger.extend(nobody, 5).code() in ("NOT_FOUND", "CONFLICT")
    assert ledger.write([outflow(storage)], nobody).code() in ("NOT_FOUND", "CONFLICT", "VALIDATION_ERROR")
    for odd in ("x", "%00", "..", "a" * 3000):
        assert ledger.look(odd).status in (400, 404, 405, 414, 431), odd
    assert written(ledger, storage) == 0


def test_grants_outlive_a_kill(platform):
    service = platform.order_service()
    client = platform.ledger_client(service)
    kept = granted(client, 1, ttl=60, owner="somebody", request_id="kept")
    released = granted(client, 2, ttl=60)
    client.release(released["lock_id"])
    service.kill()
    service.start()
    assert statuses(client.write([outflow(1)], kept["lock_id"])) == ["created"]
    client.lock(LOCK, attributes(1)).refused(423, "LOCKED")
    again = client.lock(LOCK, attributes(1), ttl=60, owner="somebody", request_id="kept").ok(200, 201)
    assert again["lock_id"] == kept["lock_id"]
    assert_dead(client, released["lock_id"], 2)
    assert granted(client, 2)["fencing_token"] > released["fencing_token"]


BAD = {
    "an unknown type": ({"type": "taxi"}, "type"),
    "an account type": ({"type": "storage_outflow"}, "type"),
    "no attribute": ({"attributes": {}}, "storage_id"),
    "an unknown attribute": ({"attributes": {"storage_id": 1, "colour": 1}}, "colour"),
    "an attribute of another type": ({"attributes": {"storage_id": "1"}}, "storage_id"),
    "an attribute that is null": ({"attributes": {"storage_id": None}}, "storage_id"),
    "an unknown mode": ({"mode": "mine"}, "mode"),
    "no mode": ({"mode": None}, "mode"),
    "no ttl": ({"ttl_seconds": None}, "ttl_seconds"),
    "ttl 0": ({"ttl_seconds": 0}, "ttl_seconds"),
    "ttl below 0": ({"ttl_seconds": -1}, "ttl_seconds"),
    "ttl as text": ({"ttl_seconds": "5"}, "ttl_seconds"),
    "ttl without an end": ({"ttl_seconds": 10**18}, "ttl_seconds"),
    "waiting below 0": ({"wait_seconds": -1}, "wait_seconds"),
    "waiting as text": ({"wait_seconds": "5"}, "wait_seconds"),
    "a numeric owner": ({"owner": 5}, "owner"),
    "an unknown field": ({"colour": "red"}, "colour"),
}


@pytest.mark.parametrize(("change", "word"), BAD.values(), ids=BAD)
def test_a_bad_request_names_the_field(ledger, change, word):
    good = {"type": LOCK, "attributes": {"storage_id": 1}, "mode": "exclusive", "ttl_seconds": 5}
    body = {name: value for name, value in {**good, **change}.items() if value is not None}
    error = ledger.call("POST", "/v1/locks", body).refused(400, "VALIDATION_ERROR")
    assert word in json.dumps(error), error
