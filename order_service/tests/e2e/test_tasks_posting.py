"""Hazard: a task posted twice runs twice; an impossible task is accepted; a task of a dead worker is lost."""

import concurrent.futures

import pytest

import background_tasks
from roles_apart import Roles

PARTITIONS, AGGREGATES = "ledger.partitions", "ledger.aggregates"


@pytest.fixture(scope="module")
def api(module_platform):
    return Roles(module_platform, "http,tasks")


@pytest.fixture(scope="module")
def client(module_platform, api):
    return module_platform.ledger_client(api)


# What is posted, and the field that the refusal must name with what is allowed.
WRONG = {
    "an unknown type": ({"task_type": "ledger.partition"}, "task_type", "ledger.partitions"),
    "no type": ({"params": {}}, "task_type", "missing"),
    "a type that is no text": ({"task_type": 1}, "task_type", "string"),
    "an unknown param": ({"task_type": PARTITIONS, "params": {"ahed": 1}}, "params.ahed", "`ahead`"),
    "a param of another type": ({"task_type": PARTITIONS, "params": {"ahead": "three"}}, "params.ahead", "three"),
    "a negative number": ({"task_type": PARTITIONS, "params": {"ahead": -1}}, "params.ahead", "-1"),
    "a part of a month": ({"task_type": PARTITIONS, "params": {"ahead": 1.5}}, "params.ahead", "1.5"),
    "too far ahead": ({"task_type": PARTITIONS, "params": {"ahead": 121}}, "params.ahead", "120"),
    "params where none are": ({"task_type": AGGREGATES, "params": {"ahead": 1}}, "params.ahead", "no fields"),
    "params that are a list": ({"task_type": PARTITIONS, "params": [1]}, "params", "map"),
    "an empty key": ({"task_type": PARTITIONS, "task_key": ""}, "task_key", "1 to 256"),
    "a key too long": ({"task_type": PARTITIONS, "task_key": "ü" * 129}, "task_key", "1 to 256"),
    "a key with a NUL": ({"task_type": PARTITIONS, "task_key": "a\0b"}, "task_key", "NUL"),
    "a key that is a number": ({"task_type": PARTITIONS, "task_key": 7}, "task_key", "string"),
    "an unknown member": ({"task_type": PARTITIONS, "when": "now"}, "when", "`task_key`"),
    "a list": ([{"task_type": PARTITIONS}], "body", "object"),
    "a list of the right values": ([PARTITIONS, {}, "key"], "body", "object"),
    "a text": (b'"ledger.partitions"', "body", "string"),
    "half a body": (b'{"task_type": ', "task_type", "EOF"),
    "no UTF-8": (b'{"task_type": "\xff"}', "body", "UTF-8"),
    "nothing": (b"", "body", ""),
    "nesting without end": (b'{"task_type": "ledger.partitions", "params": ' + b'{"a":' * 5000, "params", ""),
}


@pytest.mark.parametrize(("body", "field", "words"), WRONG.values(), ids=WRONG)
def test_a_bad_body_is_refused_by_the_name_of_its_field_and_nothing_is_enqueued(client, body, field, words):
    before = background_tasks.listed(client)
    error = client.call("POST", background_tasks.PATH, body).refused(400, "VALIDATION_ERROR")
    assert field in error["args"] or any(name.startswith(field) for name in error["args"]), error
    assert error["message"].startswith(field) and words in error["message"], error
    assert len(error["message"]) < 1000
    assert background_tasks.listed(client) == before


def test_a_body_must_say_that_it_is_json(client):
    headers = {"Content-Type": "text/plain"}
    answer = client.call("POST", background_tasks.PATH, b'{"task_type": "ledger.partitions"}', headers)
    assert "Content-Type" in answer.refused(400, "VALIDATION_ERROR")["args"]


def test_other_methods_and_ids_that_are_not_there(client):
    assert client.call("PUT", background_tasks.PATH, {}).status == 405
    for task_id in ("0", "-1", "x", "9223372036854775808", "%00"):
        client.get(f"{background_tasks.PATH}/{task_id}").refused(404, "NOT_FOUND")
    for query in ({"status": "done"}, {"limit": 0}, {"limit": "x"}, {"before": "x"}, {"task": 1}):
        assert next(iter(query)) in client.get(background_tasks.PATH, **query).refused(400, "VALIDATION_ERROR")["args"]


def test_a_repeated_key_is_the_same_task_at_every_replica_and_for_ever(module_platform, client):
    first = background_tasks.post(client, PARTITIONS, {"ahead": 5}, "once").ok(201)
    background_tasks.wait_ended(client, first["id"])
    other = module_platform.ledger_client(Roles(module_platform, "http"))
    for replica in (client, other):
        # Also when it has ended, and however the JSON is written.
        assert background_tasks.post(replica, PARTITIONS, {"ahead": 5}, "once").ok(200) == first
        otherwise = b'{"task_key":"once", "params": {"ahead":5},"task_type":"ledger.\\u0070artitions"}'
        assert replica.call("POST", background_tasks.PATH, otherwise).ok(200) == first
        for task_type, params in ((PARTITIONS, {"ahead": 6}), (PARTITIONS, None), (AGGREGATES, None)):
            error = background_tasks.post(replica, task_type, params, "once").refused(409, "CONFLICT")
            assert error["args"] == {"field": "task_key", "id": first["id"]}
    assert [task["id"] for task in background_tasks.listed(client) if task.get("task_key") == "once"] == [first["id"]]


def test_a_key_posted_by_many_at_once_is_one_task(client):
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(background_tasks.post, client, AGGREGATES, None, "at once") for _ in range(48)]
    answers = [call.result() for call in calls]
    assert sorted(answer.status for answer in answers) == [200] * 47 + [201]
    assert len({answer.ok(200, 201)["id"] for answer in answers}) == 1


def test_without_a_key_each_call_is_a_task(client):
    ids = {background_tasks.post(client, AGGREGATES).ok(201)["id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(background_tasks.wait_ended(client, task_id)["status"] == "succeeded" for task_id in ids)


def test_a_task_waits_for_a_worker_and_says_what_it_did(platform):
    client = platform.ledger_client(Roles(platform, "http"))
    # Two months more than a ledger begins with.
    task_id = background_tasks.post(client, PARTITIONS, {"ahead": 5}).ok(201)["id"]
    waiting = background_tasks.look(client, task_id)
    assert (waiting["status"], waiting["attempts"]) == ("waiting", 0)
    Roles(platform, "tasks")
    ended = background_tasks.wait_ended(client, task_id)
    assert (ended["status"], ended["attempts"], ended["error"]) == ("succeeded", 1, None)
    created = {shard: len(done["created"]) for shard, done in ended["outcome"].items()}
    assert created == {"s0": 2, "s1": 2, "s2": 2, "s3": 2}
