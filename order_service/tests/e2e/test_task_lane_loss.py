"""Hazard: a worker loses its lane while it starts a task, and starts it although another worker already has it.

The first worker has released it, and the second finds that its attempt is not the latest: the task must not be
orphaned.
"""

import pytest

import background_tasks
import event_client
from fault_proxy import FaultProxy
from roles_apart import Roles
from separate_roles import SharedDatabase
from waiting import wait_until

LANES = "WHERE class = 'lane/actions'"
# Longer than the second worker and the news of the lost lane take; shorter than a transaction may be idle.
DELAY = {"delay_ms": 4800}


@pytest.fixture
def database(platform):
    return SharedDatabase(platform)


def worker(platform, database) -> tuple[Roles, FaultProxy]:
    """Behind a proxy of its own; not started."""
    proxy = FaultProxy(f"127.0.0.1:{database.server.port}")
    platform.closing(proxy.close)
    return Roles(platform, "tasks", "--database-url", proxy.url("control"), start=False), proxy


def lanes(database) -> str:
    """The epochs under which they are held."""
    return database.server.psql(f"SELECT array_agg(epoch ORDER BY lease_id) FROM leases {LANES}", "control")


@pytest.mark.long
def test_a_task_that_is_begun_without_its_lane_is_not_left_to_nobody(platform, database):
    client = platform.ledger_client(Roles(platform, "http", *database.flags))
    event_client.put(client, event_client.on("one", "e", "noop"))
    (first, before), (second, behind) = worker(platform, database), worker(platform, database)
    first.start()
    begins = before.inject({"statement": "begin_task"}, DELAY)
    ends = behind.inject({"statement": "end_task"}, DELAY)
    silent = before.inject({"statement": "renew_leases"}, "cut_request", times=1000)
    event_client.send(client, "e")
    wait_until(lambda: before.matched(begins) == 1, 10, "the first worker begins the task", every=0.01)
    epochs = lanes(database)
    database.server.psql(f"UPDATE leases SET expires_at = now() {LANES}", "control")
    second.start()
    wait_until(lambda: lanes(database) != epochs, 5, "it takes the lanes over", every=0.01)
    # The first one may hear of it.
    before.remove(silent)
    wait_until(lambda: behind.matched(ends) == 1, 5, "the second worker is at it", every=0.01)
    assert before.injected(begins) == 0, "the first one has begun before"
    (task,) = [task for task in background_tasks.listed(client) if "action_config" in task]
    assert background_tasks.wait_ended(client, task["id"], 30)["status"] == "succeeded"
