"""Independent HTTP client for background tasks, over a ledger's HTTP port."""

import collections

from waiting import wait_until

PATH = "/api/v1/tasks"
ENDED = ("succeeded", "failed", "cancelled")


def post(client, task_type: str, params: dict | None = None, task_key: str | None = None):
    """The answer to one posted task."""
    given = {"params": params, "task_key": task_key}
    return client.call("POST", PATH, {"task_type": task_type, **{k: v for k, v in given.items() if v is not None}})


def look(client, task_id: int) -> dict:
    return client.get(f"{PATH}/{task_id}").ok()


def listed(client, **wanted) -> list[dict]:
    """All tasks, the newest first; `wanted`: status, task_type."""
    found, before = [], None
    while page := client.get(PATH, limit=1000, before=before, **wanted).ok()["result"]:
        found += page
        before = page[-1]["id"]
    return found


def wait_ended(client, task_id: int, timeout: float = 60) -> dict:
    def ended():
        task = look(client, task_id)
        return task if task["status"] in ENDED else None

    return wait_until(ended, timeout, f"the end of task {task_id}")


def done(client, task_type: str, params: dict | None = None, timeout: float = 60) -> dict:
    """Posts a task, which must succeed; its outcome."""
    task = wait_ended(client, post(client, task_type, params).ok(201)["id"], timeout)
    assert task["status"] == "succeeded", task
    return task["outcome"]


def by_tick(client, schedule: str) -> dict[str, list[dict]]:
    """Tick -> the tasks it has, of one schedule."""
    ticks = collections.defaultdict(list)
    for task in listed(client):
        if task.get("schedule") == schedule:
            ticks[task["tick"]].append(task)
    return ticks
