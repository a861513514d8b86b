"""Hazard: a repeated write counts twice, or a key reused with other content overwrites or writes partially.

Idempotent by (type, event_id) within the shard. Other content under a stored key is a conflict, and then nothing of
that shard's part is written, while the other shards' parts are.
"""

import collections
import random
import threading

import pytest

from ledger_events import new_id, outflow, statuses
from ledger_oracle import total_of
from ledger_sharding import one_id_per_shard, shard_of

FIRST = 1_000  # the storages of this module
STORAGE_ELSEWHERE = next(n for n in range(2, 100) if shard_of({"storage_id": n}) != shard_of({"storage_id": 1}))


def balance(client, storage_id: int):
    return total_of(client.balances("storage_outflow", {"storage_id": storage_id}).ok())[0]


def listed_ids(client, storage_id: int) -> list[str]:
    return [event["event_id"] for event in client.listing("storage_outflow", {"storage_id": storage_id})]


def test_the_same_write_twice(ledger):
    events = [outflow(FIRST + n % 20, f"{n}.25", product_id=n % 3) for n in range(500)]
    assert set(statuses(ledger.write(events))) == {"created"}
    stored, shards = ledger.events_stored(), [r["shard"] for r in ledger.write(events).ok()["results"]]
    again = ledger.write(events)
    assert again.ok() and set(statuses(again)) == {"duplicate"}
    assert [result["shard"] for result in again.json()["results"]] == shards and set(shards) == set(stored)
    assert ledger.events_stored() == stored


def test_a_duplicate_within_one_call(ledger):
    once, other = outflow(FIRST + 100, "2"), outflow(FIRST + 100, "3")
    answer = ledger.write([once, other, once, once])
    assert answer.ok() and statuses(answer) == ["created", "created", "duplicate", "duplicate"]
    assert balance(ledger, FIRST + 100) == 5 and len(listed_ids(ledger, FIRST + 100)) == 2


EQUAL = {
    "amount": ({"debit": "12.50"}, {"debit": "12.5"}),
    "amount zero": ({"debit": "0"}, {"debit": "0.000"}),
    "offset": ({"dt": "2024-01-01T12:00:00+02:00"}, {"dt": "2024-01-01T10:00:00Z"}),
    "fraction": ({"dt": "2024-01-01T10:00:00.500000Z"}, {"dt": "2024-01-01T10:00:00.5Z"}),
    "null attribute": ({"attributes": {"storage_id": 1}}, {"attributes": {"storage_id": 1, "product_id": None}}),
    "order of info": ({"info": {"a": 1, "b": [2, {}]}}, {"info": {"b": [2, {}], "a": 1}}),
}
OTHER = {
    "amount": ({"debit": "12.50"}, {"debit": "12.51"}),
    "side": ({"debit": "12.50"}, {"debit": None, "credit": "12.50"}),
    "dt": ({"dt": "2024-01-01T10:00:00Z"}, {"dt": "2024-01-01T10:00:00.000001Z"}),
    "attribute": ({}, {"attributes": {"storage_id": 1, "product_id": 2}}),
    "attribute gone": ({}, {"attributes": {"storage_id": 1}}),
    "info": ({"info": {"a": 1}}, {"info": {"a": 2}}),
    "info gone": ({"info": {"a": 1}}, {"info": None}),
}


def variants(change) -> tuple[dict, dict]:
    """One event and the same with a change of spelling or content; None drops a field."""
    event = outflow(1, "7", product_id=1)
    pair = ({**event, **change[0]}, {**event, **change[1]})
    return tuple({name: value for name, value in e.items() if value is not None} for e in pair)


@pytest.mark.parametrize("change", EQUAL.values(), ids=EQUAL)
@pytest.mark.parametrize("together", [False, True], ids=["two calls", "one call"])
def test_another_spelling_of_the_same_content(ledger, change, together):
    first, second = variants(change)
    if together:
        assert statuses(ledger.write([first, second])) == ["created", "duplicate"]
    else:
        assert statuses(ledger.write([first])) + statuses(ledger.write([second])) == ["created", "duplicate"]


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_the_same_key_with_other_content(ledger, change):
    """With bystanders of the same shard before and after it, and of another shard."""
    first, second = variants(change)
    ledger.write([first]).ok()
    same, other, last = outflow(1), outflow(STORAGE_ELSEWHERE), outflow(1)
    answer = ledger.write([same, second, other, last])
    answer.refused(409, "CONFLICT")
    assert statuses(answer) == ["not_written", "conflict", "created", "not_written"]
    assert not {same["event_id"], last["event_id"]} & set(listed_ids(ledger, 1))
    assert statuses(ledger.write([first, same, last])) == ["duplicate", "created", "created"]
    assert statuses(ledger.write([other])) == ["duplicate"]


def test_other_content_within_one_call(ledger):
    storage = FIRST + 200
    first, fine = outflow(storage, "1"), outflow(storage, "2")
    answer = ledger.write([first, fine, {**first, "debit": "5"}])
    answer.refused(409, "CONFLICT")
    assert "conflict" in statuses(answer) and "created" not in statuses(answer)
    assert balance(ledger, storage) == 0 and listed_ids(ledger, storage) == []


def test_a_conflict_on_one_shard_leaves_the_others_written(ledger):
    storages = one_id_per_shard(start=FIRST + 300)
    taken = outflow(storages["s2"], "1")
    ledger.write([taken]).ok()
    events = [outflow(storage) for storage in storages.values() for _ in range(25)]
    random.shuffle(events)
    answer = ledger.write([*events, {**taken, "debit": "2"}])
    answer.refused(409, "CONFLICT")
    for result in answer.json()["results"][:-1]:
        assert result["status"] == ("not_written" if result["shard"] == "s2" else "created"), result
    assert [balance(ledger, storages[shard]) for shard in ("s0", "s1", "s2", "s3")] == [25, 25, 1, 25]


def test_one_id_under_two_types_is_two_events(ledger):
    event_id = new_id()
    inflow = {"type": "pickup_point_inflow", "attributes": {"pickup_point_id": 1}, "credit": "1"}
    first = outflow(1, event_id=event_id)
    assert statuses(ledger.write([first, {"event_id": event_id, "dt": first["dt"], **inflow}])) == ["created"] * 2


def test_sixteen_clients_post_the_same_events_at_once(ledger):
    storages = one_id_per_shard(start=FIRST + 400)
    events = [outflow(storage, "0.1") for storage in storages.values() for _ in range(100)]
    counts, barrier = collections.Counter(), threading.Barrier(16)
    answers, lock = [], threading.Lock()

    def post(seed: int):
        mine = random.Random(seed).sample(events, len(events))  # each in an order of its own
        barrier.wait(20)
        for start in range(0, len(mine), 80):
            answer = ledger.write(mine[start : start + 80])
            with lock:
                answers.append(answer.status)
                counts.update((r["event_id"], r["status"]) for r in answer.json().get("results", []))

    threads = [threading.Thread(target=post, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert set(answers) == {200} and len(answers) == 16 * 5
    for event in events:
        assert counts[event["event_id"], "created"] == 1 and counts[event["event_id"], "duplicate"] == 15
    for storage in storages.values():
        assert len(listed_ids(ledger, storage)) == len(set(listed_ids(ledger, storage))) == 100
        assert balance(ledger, storage) == 10


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_repeats_after_a_restart(platform, end):
    service = platform.order_service()
    client = platform.ledger_client(service)
    events = [outflow(n % 8 + 1, "1.5", product_id=n % 3, info={"n": n}) for n in range(300)]
    client.write(events).ok()
    stored = client.events_stored()
    getattr(service, end)()
    service.start()
    again = client.write(events)
    assert again.ok() and set(statuses(again)) == {"duplicate"}
    assert client.write([{**events[0], "debit": "2"}]).code() == "CONFLICT"
    assert client.events_stored() == stored and sum(balance(client, n) for n in range(1, 9)) == 450
