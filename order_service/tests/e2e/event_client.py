"""Independent HTTP client that sends events and follows their stories, over a ledger's HTTP port."""

import background_tasks
from waiting import wait_until

EVENTS, CONFIGS, STORIES = "/api/v1/events", "/api/v1/action_configs", "/api/v1/event_story"


def send(client, name: str, params: dict | None = None, key: str | None = None) -> str:
    """A new event's id."""
    body = {"name": name, "params": params or {}}
    return client.call("POST", EVENTS, body if key is None else {**body, "event_key": key}).ok(201)["_id"]


def events(client, **query) -> list[dict]:
    return client.get(EVENTS, **query).ok()["result"]


def put(client, config: dict) -> None:
    client.call("PUT", f"{CONFIGS}/{config['name']}", config).ok(200, 201)


def on(name: str, event: str, task: str, params: dict | None = None, **action) -> dict:
    """A config that starts a task on events of a name."""
    return {"name": name, "on": [{"event": event}], "action": {"task": task, "params": params or {}, **action}}


def story(client, event_id: str) -> dict:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    story_id = client.call("POST", STORIES, f"id={event_id}".encode(), form).ok()["id"]
    return client.get(f"{STORIES}/{story_id}").ok()["result"]


def only_task(client, event_id: str) -> dict:
    """The one task that an event started, once it has ended."""
    (produced,) = story(client, event_id)["produced_tasks"]
    return background_tasks.wait_ended(client, produced["sandbox_task_id"])


def wait_events(client, count: int, timeout: float = 60, **query) -> list[dict]:
    """So many events of a query, the oldest first."""

    def there():
        found = events(client, sort="_id", limit=1000, **query)
        return found if len(found) >= count else None

    return wait_until(there, timeout, f"{count} events of {query}")
