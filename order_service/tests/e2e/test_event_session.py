"""Hazard: the documented shell one-liners stop working. Runs the session of the specification verbatim."""

import subprocess

import event_client
from roles_apart import Roles
from waiting import wait_until

SESSION = r"""
event_id=$(curl "$URL/api/v1/events?name=taskEvent&params__taskType=HUMAN_MATCHING&sort=-_id&limit=2" | jq -r '.result[0]._id')
story_id=$(curl -X POST "$URL/api/v1/event_story" -d "id=$event_id" | jq -r '.id')
curl "$URL/api/v1/event_story/$story_id" | jq '.result.produced_tasks[].sandbox_task_id'
"""


def typed(service, lines: str) -> str:
    """What a shell prints."""
    url = f"http://localhost:{service.http_port}"
    shell = ["bash", "-euo", "pipefail", "-c", lines]
    done = subprocess.run(
        shell, env={"URL": url, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_session_of_the_specification(platform):
    service = Roles(platform, "http,tasks")
    client = platform.ledger_client(service)
    config = event_client.on("after-matching", "taskEvent", "noop")
    config["on"][0]["params"] = {"taskType": "HUMAN_MATCHING", "taskStatus": "SUCCESS", "environment": "stable"}
    event_client.put(client, config)
    reported = typed(
        service,
        """curl -X POST "$URL/task/status?taskType=HUMAN_MATCHING&taskStatus=SUCCESS&environment=stable" \
           -H 'Content-Type: application/json' -d '{"date": "2026-11-25"}' | jq -r ._id""",
    )
    (task_id,) = typed(service, SESSION).split()
    task = client.get(f"/api/v1/tasks/{task_id}").ok()
    assert (task["action_config"], task["event_id"]) == ("after-matching", reported.strip())
    wait_until(lambda: client.get(f"/api/v1/tasks/{task_id}").ok()["status"] == "succeeded", 60, "the task")
    statuses = event_client.wait_events(client, 2, name="taskEvent", params__taskType="after-matching")
    assert [event["params"]["taskStatus"] for event in statuses] == ["RUNNING", "SUCCESS"]
    assert all(event["params"]["task_id"] == int(task_id) for event in statuses)
