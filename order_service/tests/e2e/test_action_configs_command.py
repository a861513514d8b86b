"""Hazard: drift between action configs in git and in the service, or a reconcile that changes objects of another owner.
"""

import json
import shutil

import pytest

import event_client
from ledger_bundle import Bundle
from roles_apart import Roles

SCHEMA = "/events/action-config-1.yml"


@pytest.fixture
def service(platform):
    return Roles(platform, "http,tasks")


@pytest.fixture
def client(platform, service):
    return platform.ledger_client(service)


def bundle_of(platform, *configs: dict) -> Bundle:
    folder = platform.home / "bundle"
    if folder.exists():
        shutil.rmtree(folder)
    bundle = Bundle(folder)
    for config in configs:
        path = folder / "actions" / f"{config['name']}.yaml"
        path.parent.mkdir(exist_ok=True)
        lines = [f"{name}: {json.dumps(value)}" for name, value in {"$schema": SCHEMA, **config}.items()]
        path.write_text("\n".join(lines) + "\n")
    return bundle


def synced(platform, service, *words, url: bool, code: int = 0):
    command = ["action-configs", "--bundle", str(platform.home / "bundle"), *words]
    if url:
        command += ["--url", f"http://localhost:{service.http_port}"]
    done = service.process.command_line(*command)
    assert done.returncode == code, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("url", [False, True], ids=["database", "http"])
def test_the_first_sync_prints_every_change_and_the_second_only_unchanged(platform, service, client, url):
    one, two = event_client.on("one", "e", "noop"), event_client.on("two", "e", "noop")
    own = event_client.on("own", "e", "noop")
    event_client.put(client, own)
    bundle_of(platform, one, two)
    assert synced(platform, service, "--dry-run", url=url) == ["created one", "created two"]
    assert [config["name"] for config in client.get(event_client.CONFIGS).ok()["result"]] == ["own"]
    assert synced(platform, service, url=url) == ["created one", "created two"]
    assert synced(platform, service, url=url) == ["unchanged one", "unchanged two"]
    stored = {config["name"]: config["owner"] for config in client.get(event_client.CONFIGS).ok()["result"]}
    assert stored == {"one": "bundle", "two": "bundle", "own": "api"}
    bundle_of(platform, {**one, "action": {"task": "noop", "priority": 3}}, event_client.on("three", "e", "noop"))
    lines = synced(platform, service, url=url)
    assert lines == ["updated one", "    action.priority: (nothing) -> 3", "created three", "deleted two"] or lines == [
        "updated one",
        "    action.params: {} -> (nothing)",
        "    action.priority: (nothing) -> 3",
        "created three",
        "deleted two",
    ] or sorted(line for line in lines if not line.startswith(" ")) == ["created three", "deleted two", "updated one"]
    assert any(line.strip() == "action.priority: (nothing) -> 3" for line in lines), lines
    assert synced(platform, service, url=url) == ["unchanged one", "unchanged three"]
    # Somebody else's is left alone, and said.
    bundle_of(platform, one, own | {"enabled": False})
    lines = synced(platform, service, url=url, code=1)
    assert any(line.startswith("refused own: it belongs to api") for line in lines), lines
    lines = synced(platform, service, "--take-over", url=url)
    assert "updated own" in lines
    # A running service goes by them.
    event = event_client.send(client, "e")
    assert [task["action_config"] for task in event_client.story(client, event)["produced_tasks"]] == ["one"]


@pytest.mark.parametrize("url", [False, True], ids=["database", "http"])
def test_which_of_the_latest_events_would_start_other_tasks(platform, service, client, url):
    one = event_client.on("one", "e", "noop")
    bundle_of(platform, one)
    synced(platform, service, url=url)
    sent = [event_client.send(client, "e", {"n": n}) for n in range(4)]
    other = event_client.send(client, "f")
    event_client.wait_events(client, 8, name="taskEvent")
    changed = {**one, "on": [{"event": "e", "params": {"n": {"in": [0, 1]}}}]}
    bundle_of(platform, changed, event_client.on("two", "f", "noop"))
    lines = synced(platform, service, "--dry-run", "--history", "1000", url=url)
    assert [line for line in lines if line.startswith("event ")] == [
        f"event {sent[2]} e: would not start one",
        f"event {sent[3]} e: would not start one",
        f"event {other} f: would start two",
    ]
    assert lines[-1].startswith("3 of the latest 13 events"), lines


def test_a_config_that_is_wrong_is_refused_with_its_line(platform, service):
    bundle_of(platform, {**event_client.on("one", "e", "nop"), "join": ["a"]})
    command = ["action-configs", "--bundle", str(platform.home / "bundle")]
    done = service.process.command_line(*command)
    assert done.returncode == 1 and "did you mean `noop`" in done.stderr and "one.yaml:4" in done.stderr, done.stderr
