"""Hazard: a task type that can be posted cannot be started by an event, or its story lacks the result."""

import background_tasks
import event_client
from configurator_client import ConfiguratorClient
from webhook_server import WebhookServer

EMPTY = "type: module\nname: global\ninputs: [{name: name}]\nblocks: []\n"


def test_each_type_of_task_once_on_one_event_with_its_story(platform):
    platform.foreign_data_manager()
    server = WebhookServer()
    platform.closing(server.shutdown)
    service = platform.order_service("--webhook-allow", server.place)
    client, configurator = platform.ledger_client(service), ConfiguratorClient(service.http_port)
    assert configurator.put_template("empty", EMPTY)[0] in (200, 201)
    run = {"template_name": "empty", "env": "test", "general_inputs": {"name": "{{ event.params.name }}"}}
    tasks = {
        "noop": {"seconds": 0.01},
        "emit_event": {"name": "further", "params": {"of": "{{ event._id }}"}},
        "ledger.aggregates": {},
        "ledger.partitions": {"ahead": 1},
        "process_orders": {"orders": [{"order_id": "{{ event.params.order_id }}", "product_id": 4}]},
        "configurator_run": run,
        "http_request": {"url": f"http://{server.place}/hook", "json": {"n": "{{ event.params.order_id }}"}},
    }
    for task_type, params in tasks.items():
        event_client.put(client, event_client.on(f"on-{task_type}", "go", task_type, params))
    event_id = event_client.send(client, "go", {"order_id": -17, "name": "x"})
    produced = {task["task_type"]: task for task in event_client.story(client, event_id)["produced_tasks"]}
    assert produced.keys() == tasks.keys()
    ended = {task["task_type"]: background_tasks.wait_ended(client, task["sandbox_task_id"]) for task in produced.values()}
    assert {task["status"] for task in ended.values()} == {"succeeded"}, ended
    # The story leads on: to the order, the run, the further event; and they lead back.
    produced = {task["task_type"]: task for task in event_client.story(client, event_id)["produced_tasks"]}
    run_id = ended["configurator_run"]["outcome"]["run_id"]
    assert configurator.run(run_id)["status"] == "succeeded"
    assert produced["configurator_run"]["effects"] == [f"run/{run_id}"]
    assert produced["process_orders"]["effects"] == ["order/-17"]
    for query, task_type in (({"run_id": run_id}, "configurator_run"), ({"order_id": -17}, "process_orders")):
        (back,) = client.get(background_tasks.PATH, **query).ok()["result"]
        assert (back["task_type"], back["event_id"]) == (task_type, event_id)
    (further,) = event_client.wait_events(client, 1, name="further")
    assert further["params"] == {"of": event_id} and further["_id"] in produced["emit_event"]["events"]
    assert [body for _, body in server.got["/hook"]] == [b'{"n":-17}'] * 2
    # Each has told of itself, too.
    told = event_client.wait_events(client, 2 * len(tasks), name="taskEvent")
    statuses = sorted((event["params"]["taskType"], event["params"]["taskStatus"]) for event in told)
    assert statuses == sorted((f"on-{task_type}", status) for task_type in tasks for status in ("RUNNING", "SUCCESS"))
