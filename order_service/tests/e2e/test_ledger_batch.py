"""Hazard: a batch is written partially.

`/v1/batch` is one transaction on one shard: each kind of part fails in turn, and neither an event nor a state is stored
afterwards; repeating the whole batch is safe.
"""

import json
import threading

import pytest

from ledger_client import LedgerClient, LostAnswer
from ledger_events import LOCK, STATE, outflow, read_time, utc_now
from ledger_sharding import ids_on, shard_of
from waiting import wait_until

KILLS = 3
STORAGES = iter(range(60_000, 90_000, 100))  # each test has those from one number to the next


def state_part(storage_id: int, value, expected=None) -> dict:
    part = {"type": STATE, "attributes": {"storage_id": storage_id}, "state": value}
    return part if expected is None else {**part, "expected_version": expected}


class Parts:
    """A batch that would succeed: two events, two states of one shard, all under a lock."""

    def __init__(self, client):
        self.client, self.storage = client, next(STORAGES)
        self.beside = next(ids_on(self.shard, start=self.storage + 1))
        self.third = next(ids_on(self.shard, start=self.beside + 1))
        self.elsewhere = next(n for n in range(1, 99) if shard_of({"storage_id": n}) != self.shard)
        self.version = client.put_state(STATE, {"storage_id": self.storage}, "before", 0).ok(200, 201)["version"]
        self.lock_id = client.lock(LOCK, {"storage_id": self.storage}).ok(201)["lock_id"]
        self.events = [outflow(self.storage, "1"), outflow(self.beside, "2")]
        self.states = [state_part(self.storage, "after", self.version), state_part(self.beside, {"new": 1}, 0)]

    @property
    def shard(self) -> str:
        return shard_of({"storage_id": self.storage})

    def send(self):
        return self.client.batch(self.events, self.states, self.lock_id)

    def stored(self) -> tuple:
        """What is there of it: event ids and both states."""
        listed = [self.client.listing("storage_outflow", {"storage_id": n}) for n in (self.storage, self.beside)]
        states = [self.client.state(STATE, {"storage_id": n}) for n in (self.storage, self.beside)]
        values = [state.json()["state"] if state.status == 200 else None for state in states]
        return sorted(event["event_id"] for events in listed for event in events), values

    def assert_whole(self) -> None:
        assert self.stored() == (sorted(event["event_id"] for event in self.events), ["after", {"new": 1}])


@pytest.fixture
def parts(ledger):
    return Parts(ledger)


def test_all_of_it_and_the_whole_repeated(ledger, parts):
    body = parts.send().ok()
    assert [(r["status"], r["shard"]) for r in body["results"]] == [("created", parts.shard)] * 2
    versions = [state["version"] for state in body["states"]]
    assert versions[0] == parts.version + 1
    parts.assert_whole()
    again = parts.send().ok()
    assert [result["status"] for result in again["results"]] == ["duplicate"] * 2
    assert [state["version"] for state in again["states"]] == versions
    parts.assert_whole()


def bad_event(parts):
    parts.events.append({**outflow(parts.storage), "debit": "-1"})
    return 400, "VALIDATION_ERROR", "debit"


def conflicting_event(parts):
    taken = outflow(parts.third, "5")
    parts.client.write([taken]).ok()
    parts.events.insert(0, {**taken, "debit": "6"})
    return 409, "CONFLICT", taken["event_id"]


def stale_version(parts):
    parts.states.reverse()
    parts.states[1]["expected_version"] = parts.version + 5
    return 409, "CONFLICT", ""


def state_that_must_not_exist(parts):
    parts.states[0]["expected_version"] = 0
    return 409, "CONFLICT", ""


def bad_state(parts):
    parts.states[1]["attributes"] = {"storage_id": "x"}
    return 400, "VALIDATION_ERROR", "storage_id"


def unknown_field(parts):
    parts.states[1]["colour"] = "red"
    return 400, "VALIDATION_ERROR", "colour"


def released_lock(parts):
    parts.client.release(parts.lock_id)
    return 409, "CONFLICT", ""


def expired_lock(parts):
    parts.client.release(parts.lock_id)
    grant = parts.client.lock(LOCK, {"storage_id": parts.storage}, ttl=1).ok(201)
    wait_until(lambda: utc_now() > read_time(grant["expires_at"]), 5, "the end of the grant")
    parts.lock_id = grant["lock_id"]
    return 409, "CONFLICT", ""


def event_elsewhere(parts):
    parts.events.append(outflow(parts.elsewhere))
    return 400, "VALIDATION_ERROR", "shard"


def state_elsewhere(parts):
    parts.states.append(state_part(parts.elsewhere, 1))
    return 400, "VALIDATION_ERROR", "shard"


def lock_elsewhere(parts):
    grant = parts.client.lock(LOCK, {"storage_id": parts.elsewhere}, ttl=2, wait_seconds=10).ok(201)
    parts.lock_id = grant["lock_id"]
    return 400, "VALIDATION_ERROR", "shard"


FAILURES = [bad_event, conflicting_event, stale_version, state_that_must_not_exist, bad_state, unknown_field]
FAILURES += [released_lock, expired_lock, event_elsewhere, state_elsewhere, lock_elsewhere]


@pytest.mark.parametrize("fail", FAILURES, ids=lambda fail: fail.__name__)
def test_nothing_of_it_when_a_part_fails(ledger, fail):
    parts = Parts(ledger)
    events, states, lock_id = list(parts.events), json.loads(json.dumps(parts.states)), parts.lock_id
    status, code, word = fail(parts)
    answer = parts.send()
    answer.refused(status, code)
    assert word in answer.body.decode()
    assert parts.stored() == ([], ["before", None])
    if "lock" in fail.__name__:
        ledger.release(lock_id)
        lock_id = ledger.lock(LOCK, {"storage_id": parts.storage}, wait_seconds=5).ok(201)["lock_id"]
    parts.events, parts.states, parts.lock_id = events, states, lock_id
    parts.send().ok()
    parts.assert_whole()


def test_the_same_batch_from_sixteen_clients_at_once(ledger, parts):
    barrier, answers = threading.Barrier(16), []

    def send():
        client = LedgerClient(ledger.port)
        barrier.wait(20)
        answers.append(client.batch(parts.events, parts.states, parts.lock_id))
        client.close()

    threads = [threading.Thread(target=send) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    bodies = [answer.ok() for answer in answers]
    statuses = sorted(tuple(result["status"] for result in body["results"]) for body in bodies)
    assert statuses == [("created", "created")] + [("duplicate", "duplicate")] * 15
    assert len({json.dumps(body["states"]) for body in bodies}) == 1
    parts.assert_whole()


def test_only_events_or_only_states(ledger):
    storage = next(STORAGES)
    ledger.batch([outflow(storage)], []).ok()
    assert ledger.batch([], [state_part(storage, 1)]).ok()["states"][0]["version"] >= 1
    assert ledger.batch([], []).status in (200, 400), "nothing is neither too much nor a failure"


class Counter:
    """A state and, for each of its values, an event of that name: written together or not at all."""

    def __init__(self, client):
        self.client, self.key, self.value, self.version = client, {"storage_id": 1}, 0, 0

    def count_up(self) -> None:
        """One more; a repeat after a `LostAnswer` is the same batch again."""
        event, state = outflow(1, event_id=f"value-{self.value + 1:06}"), state_part(1, self.value + 1, self.version)
        self.version = self.client.batch([event], [state]).ok()["states"][0]["version"]
        self.value += 1

    def count_until_killed(self) -> int:
        """The count of the calls without an answer: one."""
        while True:
            try:
                self.count_up()
            except LostAnswer:
                return 1

    def stored(self) -> tuple[int, list]:
        listed = self.client.listing("storage_outflow", self.key)
        return self.client.state(STATE, self.key).ok()["state"], [event["event_id"] for event in listed]


def test_kills_leave_all_or_nothing(platform):
    service = platform.order_service()
    counter, unknown, outcomes = Counter(platform.ledger_client(service)), 0, []
    for _ in range(KILLS):
        for _ in range(20):
            counter.count_up()
        killer = threading.Timer(0.2, service.kill)
        killer.start()
        unknown += counter.count_until_killed()
        killer.join()
        service.start()
        state, events = counter.stored()
        assert events == [f"value-{n + 1:06}" for n in range(state)], "a part of a batch is there"
        assert state in (counter.value, counter.value + 1), "an answered batch is lost"
        outcomes.append(state - counter.value)
        counter.count_up()
    print(f"{KILLS} kills, {unknown} unknown, of which {sum(outcomes)} had happened")
    assert unknown == KILLS and counter.stored()[0] == counter.value > 20 * KILLS
