"""Hazard: without SQS, over the Postgres queues, a template does not reach the ledger, or only partially."""

import pytest

from configurator_client import ConfiguratorClient
from waiting import wait_until

TYPE = """
type: module
name: global
inputs: [{{name: name, scope: general, required: true}}]
blocks:
  - name: account
    type: integration
    integration: platform.set_account_type
    inputs: [global.name]
    outputs: [{{name: name}}]
    args:
      name: $global.name
      description: from a template
      key_attributes: [{{name: courier_id, type: int}}]
      attributes: [{{name: product_id, type: int}}]
      groupings: {groupings}
      shard_key: [courier_id]
      aggregate: day
{rule}
"""
RULE = """
  - name: rule
    type: integration
    integration: platform.set_posting_rule
    inputs: [account.name]
    args:
      name: couriers
      on: order_process_finished
      events:
        - {type: $account.name, attributes: {courier_id: {from: storage_id}}, debit: "1"}
"""
CONFIG = """
type: module
name: global
inputs: [{{name: name, scope: general}}]
blocks:
  - name: config
    type: integration
    integration: platform.set_action_config
    args:
      name: run-started
      on: [{{event: courierCame}}]
      action:
        task: configurator_run
        params: {{template_name: {template}, env: test, general_inputs: {{name: x}}}}
"""
# Seconds after the end of a run in which the ledger knows what it has made.
WITHIN = 1
EMPTY = "type: module\nname: global\ninputs: [{name: name}]\nblocks: []\n"


@pytest.fixture(scope="module")
def configurator(ledger_service):
    return ConfiguratorClient(ledger_service.http_port)


def account_types(configurator) -> dict:
    status, types = configurator.call("GET", "/v1/types")
    assert status == 200
    return {kind["name"]: kind for kind in types["account_types"]}


def succeeded(configurator, name: str, **given) -> dict:
    status, begun = configurator.begin(name, {"name": "couriers"}, **given)
    assert status == 200, begun
    run = configurator.ended(begun["run_id"])
    assert run["status"] == "succeeded", run
    return run


def test_an_account_type_and_a_rule_come_change_and_go_with_their_blocks(configurator):
    first = TYPE.format(groupings="[]", rule=RULE)
    assert configurator.put_template("couriers", first) == (200, {"name": "couriers", "version": 1, "blocks": 2})
    run = succeeded(configurator, "couriers")
    assert {name: block["action"] for name, block in run["blocks"].items()} == {"account": "create", "rule": "create"}
    wait_until(lambda: "couriers" in account_types(configurator), WITHIN, "the ledger knows the new type")
    export = configurator.export(run["run_id"])
    assert export["blocks"]["account"] == {"state": {"name": "couriers"}}
    assert configurator.call("GET", f"/configurator/v1/export?run_id={run['run_id']}") == (200, export)

    second = TYPE.format(groupings="[[product_id]]", rule=RULE)
    assert configurator.put_template("couriers", second)[1]["version"] == 2
    run = succeeded(configurator, "couriers")
    assert run["blocks"]["account"]["action"] == "update"
    wait_until(lambda: account_types(configurator)["couriers"]["groupings"] == [["product_id"]], WITHIN, "it has changed")

    run = succeeded(configurator, "couriers", template=EMPTY)
    assert {name: block["action"] for name, block in run["blocks"].items()} == {"account": "delete", "rule": "delete"}
    wait_until(lambda: "couriers" not in account_types(configurator), WITHIN, "it has gone")


def test_a_renamed_block_keeps_its_type_and_a_renamed_type_takes_the_former_one_away(configurator):
    first = TYPE.format(groupings="[]", rule="")
    run = succeeded(configurator, "renamed", template=first)
    assert run["blocks"]["account"]["action"] == "create"
    wait_until(lambda: "couriers" in account_types(configurator), WITHIN, "the ledger knows the type")

    renamed = first.replace("name: account\n", "name: courier_type\n")
    run = succeeded(configurator, "renamed", template=renamed)
    assert {name: block["action"] for name, block in run["blocks"].items()} == {
        "courier_type": "create",
        "account": "delete",
    }
    kept = lambda: [kind for kind in account_types(configurator) if kind.startswith("couriers")]  # noqa: E731
    assert kept() == ["couriers"]

    said = renamed.replace("name: courier_type\n", "name: type_of_couriers\n    renamed_from: courier_type\n")
    run = succeeded(configurator, "renamed", template=said)
    assert {name: block["action"] for name, block in run["blocks"].items()} == {"type_of_couriers": "update"}
    assert kept() == ["couriers"]

    twice = said + said[said.index("  - name: type_of_couriers") :].replace("type_of_couriers", "again").replace(
        "    renamed_from: courier_type\n", ""
    )
    succeeded(configurator, "renamed", template=twice)
    run = succeeded(configurator, "renamed", template=said)
    assert run["blocks"]["again"]["action"] == "delete" and kept() == ["couriers"], run

    status, begun = configurator.begin("renamed", {"name": "couriers_new"}, template=said)
    assert status == 200 and configurator.ended(begun["run_id"])["status"] == "succeeded"
    wait_until(lambda: kept() == ["couriers_new"], WITHIN, "the type has another name")
    succeeded(configurator, "renamed", template=EMPTY)
    wait_until(lambda: kept() == [], WITHIN, "it has gone")


def test_what_the_integration_refuses_is_said(configurator):
    bundles = TYPE.format(groupings="[[courier_id]]", rule="")
    status, begun = configurator.begin("refused", {"name": "couriers2"}, template=bundles)
    assert status == 200, begun
    run = configurator.ended(begun["run_id"])
    error = run["blocks"]["account"]["error"]
    assert (run["status"], error["code"]) == ("failed", "VALIDATION_ERROR") and "groupings" in error["args"]["field"]
    nameless = EMPTY.replace("blocks: []", "blocks: [{name: a, type: integration, integration: platform.set_action_config}]")
    status, begun = configurator.begin("nameless", {"name": "x"}, template=nameless)
    run = configurator.ended(begun["run_id"])
    error = run["blocks"]["a"]["error"]
    assert (run["status"], error["code"], error["args"]["field"]) == ("failed", "VALIDATION_ERROR", "params.name")


def tasks_of(configurator, event_id: str) -> list:
    """The tasks that an event has started, once they have ended."""
    form = f"id={event_id}".encode()
    status, story = configurator.call("POST", "/api/v1/event_story", form, "application/x-www-form-urlencoded")
    assert status == 200, story
    _, story = configurator.call("GET", f"/api/v1/event_story/{story['id']}")
    tasks = story["result"]["produced_tasks"]
    return tasks if all(task["status"] in ("succeeded", "failed") for task in tasks) else []


def test_a_template_sets_an_action_config_whose_task_runs_another_template(configurator):
    assert configurator.put_template("started", EMPTY)[0] == 200
    config = CONFIG.format(template="started")
    succeeded(configurator, "configs", template=config)
    status, stored = configurator.call("GET", "/api/v1/action_configs/run-started")
    assert status == 200 and stored["owner"] == "configurator", stored
    _, event = configurator.call("POST", "/api/v1/events", {"name": "courierCame", "params": {"courier": 7}})
    (task,) = wait_until(lambda: tasks_of(configurator, event["_id"]), 30, "the task has ended")
    assert task["status"] == "succeeded", task
    _, task = configurator.call("GET", f"/api/v1/tasks/{task['sandbox_task_id']}")
    _, run = configurator.call("GET", f"/configurator/v1/runs/{task['outcome']['run_id']}")
    assert (run["status"], run["template_name"]) == ("succeeded", "started"), run

    succeeded(configurator, "configs", template=CONFIG.format(template="nowhere"))
    _, event = configurator.call("POST", "/api/v1/events", {"name": "courierCame", "params": {"courier": 8}})
    (task,) = wait_until(lambda: tasks_of(configurator, event["_id"]), 30, "the task has ended")
    assert task["status"] == "failed", task

    succeeded(configurator, "configs", template=EMPTY)
    assert configurator.call("GET", "/api/v1/action_configs/run-started")[0] == 404


@pytest.mark.long
def test_runs_of_one_template_that_events_start_at_once_wait_for_their_turn(configurator):
    """Four runs of 6 s each: the last one waits longer than five attempts would take."""
    nobody = "blocks: [{name: a, type: integration, integration: nobody.does, block_timeout: 6}]"
    assert configurator.put_template("in_turn", EMPTY.replace("blocks: []", nobody))[0] == 200
    config = CONFIG.format(template="in_turn").replace("run-started", "run-in-turn").replace("courierCame", "turnCame")
    succeeded(configurator, "turns", template=config)
    events = [
        configurator.call("POST", "/api/v1/events", {"name": "turnCame", "params": {"courier": n}})[1] for n in range(4)
    ]
    tasks = [wait_until(lambda: tasks_of(configurator, event["_id"]), 60, "the task ends")[0] for event in events]
    # Nobody answers their blocks: each task fails with a run of its own, and none because of another's.
    runs = set()
    for task in tasks:
        _, task = configurator.call("GET", f"/api/v1/tasks/{task['sandbox_task_id']}")
        words = task["error"].split()
        assert task["status"] == "failed" and task["error"].endswith("has failed"), task
        assert task["attempts"] == 1, task
        runs.add(words[-3])
    assert len(runs) == 4, runs
    succeeded(configurator, "turns", template=EMPTY)


def test_a_message_is_buried_by_hand_and_its_block_answered(configurator, ledger_service):
    nobody = EMPTY.replace("blocks: []", "blocks: [{name: a, type: integration, integration: nobodys.does}]")
    status, begun = configurator.begin("buried", template=nobody)
    assert status == 200, begun

    def sent():
        return configurator.run(begun["run_id"])["blocks"]["a"].get("block_id")

    number = str(wait_until(sent, 20, "the block is sent"))
    bury = ["queues", "bury", "--env", "test", "--within", "2s", "nobodys", "--block-id"]
    missing = ledger_service.command_line(*bury, "1")
    assert missing.returncode == 1 and "no message of block_id 1 came" in missing.stderr, missing
    done = ledger_service.command_line(*bury, number)
    assert done.returncode == 0 and "nobodys-test-dead.fifo" in done.stdout, done
    run = configurator.ended(begun["run_id"])
    error = run["blocks"]["a"]["error"]
    assert error["code"] == "INTERNAL_ERROR" and "buried by hand" in error["args"]["reason"], run


def test_the_routes_say_what_is_wrong(configurator):
    status, answer = configurator.put_template("bad", "type: module\nname: global\nblocks:\n  - {name: a}\n")
    assert status == 400 and answer["error"]["args"]["line"] == 4, answer
    assert configurator.put_template("a%20b", EMPTY)[0] == 400
    assert configurator.call("GET", "/configurator/v1/templates/nothing")[0] == 404
    assert configurator.begin("nothing")[0] == 404
    assert configurator.begin("bad", env="stage")[0] == 400
    assert configurator.begin("bad", template=EMPTY, unknown=1)[0] == 400
    for path in ["/configurator/v1/runs/999999", "/configurator/v1/runs/x", "/v1/export?run_id=999999"]:
        status, answer = configurator.call("GET", path)
        assert status == 404 and answer["error"]["code"] == "NOT_FOUND", answer
    assert configurator.call("GET", "/v1/export")[0] == 400
    status, answer = configurator.call("POST", "/configurator/v1/runs/999999/cancel")
    assert status == 404, answer
    run_id = succeeded(configurator, "nothing_to_do", template=EMPTY)["run_id"]
    status, listed = configurator.call("GET", "/configurator/v1/runs?limit=1")
    assert status == 200 and [run["run_id"] for run in listed["result"]] == [run_id]
    status, answer = configurator.call("POST", f"/configurator/v1/runs/{run_id}/cancel")
    assert status == 409 and answer["error"]["code"] == "CONFLICT", answer


def test_one_run_of_an_instance_at_a_time_and_it_can_be_resumed(configurator):
    nobody = "blocks: [{name: a, type: integration, integration: nobody.does, block_timeout: 4}]"
    nobody = EMPTY.replace("blocks: []", nobody)
    status, begun = configurator.begin("alone", template=nobody)
    assert status == 200, begun
    status, answer = configurator.begin("alone", template=nobody)
    error = answer["error"]
    assert (status, error["code"], error["args"]["run_id"]) == (409, "CONFLICT", begun["run_id"]), answer
    assert configurator.begin("alone", template=EMPTY, env="dev")[0] == 200, "another environment, another instance"
    path = f"/configurator/v1/runs/{begun['run_id']}"
    assert configurator.call("POST", f"{path}/resume")[0] == 409, "it goes on"
    run = configurator.ended(begun["run_id"])
    assert (run["status"], run["blocks"]["a"]["error"]["code"]) == ("failed", "TIMEOUT"), run
    status, run = configurator.call("POST", f"{path}/resume")
    assert (status, run["status"]) == (200, "running"), run
    status, run = configurator.call("POST", f"{path}/cancel")
    assert (status, run["status"]) == (200, "cancelled"), run
