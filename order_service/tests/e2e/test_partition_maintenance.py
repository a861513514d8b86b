"""Hazard: partitions are created and dropped under writers and readers, and the maintenance is killed anywhere: a write
fails, an event is lost or counted twice, a reader sees a part.
"""

import random
import time

import pytest

import background_tasks
import exported_files
from embedded_postgres import psql
from ledger_months import ALL_BUT_TASKS, MAINTAINING, PARTITIONS, dropped, maintain, months_ahead, partitions, settle
from ledger_sharding import DEFAULT_RANGES
from pairs_load import PairsLoad
from roles_apart import Roles
from waiting import wait_until

# Where a maintenance may die, as by kill -9: between any two of its steps, and around its task's.
POINTS = [
    "task_begun",
    "months_planned",
    "months_created",
    "month_beyond",
    "month_dropped",
    "month_dropped:5",
    "drops_noted",
    "task_done",
    "task_ended",
]
RANDOM_KILLS = 5


def dies_at_each_point(worker, client) -> list[int]:
    """The tasks that were posted; each makes another month as well, after those that a service begins with."""
    posted = []
    for ahead, point in enumerate(POINTS, 4):
        posted.append(background_tasks.post(client, PARTITIONS, {"ahead": ahead}).ok(201)["id"])
        worker.start(fail_point=point)
        wait_until(lambda: not worker.process.is_running(), 30, f"the maintenance to die at {point}")
    return posted


def dies_at_random(worker, client) -> list[int]:
    posted = []
    for _ in range(RANDOM_KILLS):
        worker.start()
        posted += [background_tasks.post(client, PARTITIONS).ok(201)["id"] for _ in range(2)]
        time.sleep(random.uniform(0, 0.15))  # not a wait: the moment of the kill is what is random here
        worker.kill()
    return posted


@pytest.mark.timeout(180)
@pytest.mark.full
@pytest.mark.long
def test_no_error_no_lost_event_and_no_part_however_the_maintenance_dies(platform):
    service = platform.order_service(*ALL_BUT_TASKS)
    client = platform.ledger_client(service)
    worker = Roles(platform, *MAINTAINING, start=False, debug=True)
    with PairsLoad(service.http_port) as load:
        posted = dies_at_each_point(worker, client) + dies_at_random(worker, client)
        worker.start()
        ended = [background_tasks.wait_ended(client, task_id) for task_id in posted]
    attempts = [task["attempts"] for task in ended]
    assert [task["status"] for task in ended] == ["succeeded"] * len(posted), ended
    assert sum(attempts) > len(posted), "no kill met a running task"
    settle(client)
    gone = [dropped(task["outcome"]) for task in ended] + [dropped(maintain(client, ahead=13))]
    months = sum(map(len, gone))
    print(
        f"{len(load.events)} events, {load.whole} wholes read, {load.refused} refused, {months} months dropped, "
        f"{len(POINTS) + RANDOM_KILLS} kills, {sum(attempts)} attempts, slowest call {load.slowest:.3f} s"
    )
    assert months > 0 and load.whole > 50 and load.refused > 0 and len(load.events) > 500
    load.check(client)
    checked = service.command_line("ledger", "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for shard in DEFAULT_RANGES:
        there = partitions(platform, shard)
        assert there == set(months_ahead(13)), "what is old is gone, what is ahead is there, and nothing else"
        tables = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname ~ '^events_[0-9]' AND pg_table_is_visible(oid)"
        assert int(psql(platform.data_dir, tables, shard=shard)) == len(there), "one is left over"
        # Whatever was dropped had been exported: each event once.
        exported = [entry["event_id"] for entry in exported_files.read(platform.data_dir / "export", shard)]
        assert len(exported) == len(set(exported)) == client.events_stored()[shard]


def test_months_are_made_ahead_once_and_none_is_dropped_without_a_retention(platform):
    service = platform.order_service()
    client = platform.ledger_client(service)
    # A service that has just begun has them already.
    assert all(partitions(platform, shard) == set(months_ahead(3)) for shard in DEFAULT_RANGES)
    assert {tuple(shard["created"]) for shard in maintain(client).values()} == {()}
    ancient = {"type": "storage_outflow", "dt": "1970-01-01T00:00:00Z", "debit": "1", "attributes": {"storage_id": 1}}
    client.write([{**ancient, "event_id": "ancient"}]).ok()
    settle(client)
    for done in maintain(client, ahead=4).values():
        assert done == {"created": months_ahead(4)[-1:], "dropped": [], "kept": {}}
    assert all(shard["horizon"] is None for shard in client.shards().values())
    assert client.listing("storage_outflow", {"storage_id": 1})[0]["event_id"] == "ancient"
