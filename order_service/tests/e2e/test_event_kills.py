"""Hazard: a kill at any moment loses an acknowledged event, matches it twice, or starts no task for it."""

import concurrent.futures
import random
import time

import pytest

import background_tasks
import event_client
from embedded_postgres import psql
from ledger_client import LostAnswer
from roles_apart import Roles
from waiting import wait_until

CLIENTS, EVENTS, KILLS = 16, 300, 10
CONFIGS = ("one", "two", "three")


class Sender:
    """Sends its events one by one, each until it is answered, under a key of its own."""

    def __init__(self, client, numbers):
        self.client, self.numbers, self.unknown = client, numbers, 0

    def run(self) -> dict[int, str]:
        return {number: self.send(number) for number in self.numbers}

    def send(self, number: int) -> str:
        body = {"name": "e", "params": {"n": number}, "event_key": f"key-{number}"}
        while True:
            try:
                answer = self.client.call("POST", event_client.EVENTS, body)
                if answer.status in (200, 201):
                    return answer.json()["_id"]
                assert answer.status == 503, answer.body
            except (LostAnswer, OSError):
                self.unknown += 1
            time.sleep(0.02)


def send_all(client, while_sending=lambda: None) -> tuple[dict[int, str], int]:
    """Every event's id, and how many calls had an unknown outcome."""
    senders = [Sender(client, range(n, EVENTS, CLIENTS)) for n in range(CLIENTS)]
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        sending = [pool.submit(sender.run) for sender in senders]
        while_sending()
        ids = {number: event_id for sent in sending for number, event_id in sent.result().items()}
    return ids, sum(sender.unknown for sender in senders)


def check_one_task_each(platform, client, ids: dict[int, str]) -> None:
    assert len(ids) == len(set(ids.values())) == EVENTS
    stored = event_client.events(client, name="e", limit=1000)
    assert {event["params"]["n"]: event["_id"] for event in stored} == ids and len(stored) == EVENTS
    wait_until(lambda: not background_tasks.listed(client, status="waiting"), 90, "no task waits", every=0.3)
    wait_until(lambda: not background_tasks.listed(client, status="running"), 60, "no task runs", every=0.3)
    tasks = [task for task in background_tasks.listed(client) if "action_config" in task]
    pairs = [(task["event_id"], task["action_config"]) for task in tasks]
    assert sorted(pairs) == sorted((event_id, config) for event_id in ids.values() for config in CONFIGS)
    assert {task["status"] for task in tasks} == {"succeeded"}
    told = psql(
        platform.data_dir,
        "SELECT count(*), count(DISTINCT (params->>'task_id', params->>'taskStatus')) FROM events WHERE name = 'taskEvent'",
    )
    assert told == f"{2 * len(tasks)}|{2 * len(tasks)}"


def test_three_hundred_events_of_sixteen_clients_start_one_task_for_each_config(platform):
    client = platform.ledger_client(Roles(platform, "http,tasks"))
    for name in CONFIGS:
        event_client.put(client, event_client.on(name, "e", "noop"))
    ids, _ = send_all(client)
    check_one_task_each(platform, client, ids)


@pytest.mark.timeout(300)
@pytest.mark.long
def test_the_same_under_ten_kills(platform):
    service = Roles(platform, "http,tasks")
    client = platform.ledger_client(service)
    for name in CONFIGS:
        event_client.put(client, event_client.on(name, "e", "noop"))
    kills = []

    def kill():
        for _ in range(KILLS):
            # Each hits a service that has answered meanwhile, in the midst of events or of their tasks.
            stored = len(event_client.events(client, name="e", limit=1000))
            wait_until(
                lambda stored=stored: stored == EVENTS
                or len(event_client.events(client, name="e", limit=1000)) > stored,
                60,
                "events after the restart",
            )
            time.sleep(random.uniform(0.0, 0.2))  # not a wait: the moment of the kill is what is random here
            kills.append(service.process.is_running())
            service.kill()
            service.start()

    ids, unknown = send_all(client, kill)
    print(f"{len(kills)} kills, {unknown} calls of unknown outcome")
    assert all(kills) and len(kills) == KILLS and unknown > 0
    check_one_task_each(platform, client, ids)


@pytest.mark.parametrize("point", ["action_events_written", "action_tasks_enqueued", "task_begun", "task_done", "task_ended"])
@pytest.mark.full
@pytest.mark.long
def test_dying_at_any_point_loses_and_doubles_nothing(platform, point):
    service = Roles(platform, "http,tasks", start=False, debug=True)
    service.start()
    client = platform.ledger_client(service)
    event_client.put(client, event_client.on("one", "e", "noop"))
    service.stop()
    service.start(fail_point=f"{point}:2")
    sender = Sender(client, [])
    for number in range(3):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            sent = pool.submit(sender.send, number)
            wait_until(lambda sent=sent: sent.done() or not service.process.is_running(), 60, "an answer or the death")
            if not service.process.is_running():
                service.start()
            sent.result()
    if service.process.env["FAIL_POINT"]:
        wait_until(lambda: not service.process.is_running(), 60, f"the death at {point}")
        service.start()
    tasks = [task for task in background_tasks.listed(client) if "action_config" in task]
    assert len(tasks) == 3
    for task in tasks:
        assert background_tasks.wait_ended(client, task["id"])["status"] == "succeeded"
    told = [event["params"]["taskStatus"] for event in event_client.events(client, name="taskEvent", limit=100)]
    assert sorted(told) == ["RUNNING"] * 3 + ["SUCCESS"] * 3
