"""Hazard: the event of an order's end is missing or duplicated, or its postings cannot be traced back to their cause.
"""

import grpc

import background_tasks
import event_client
from client import FAILED


def test_each_end_of_an_order_is_one_event_also_when_it_failed_and_was_retried(platform):
    foreign = platform.foreign_data_manager()
    service = platform.order_service()
    events, orders = platform.ledger_client(service), platform.client(service)
    for name in ("orderFailed", "orderProcessed"):
        config = event_client.on(f"after-{name}", name, "noop", {"note": "{{ event.params.order_id }}"})
        config["on"][0]["params"] = {"order_id": 41}
        event_client.put(events, config)
    assert all(order.is_processed for order in orders.process([(n, 7) for n in range(1, 41)]))
    foreign.plans = {41: grpc.StatusCode.NOT_FOUND}
    orders.process([(41, 7)])
    orders.wait_state(41, FAILED, 60)
    (failed,) = event_client.wait_events(events, 1, name="orderFailed")
    assert failed["params"]["order_id"] == 41 and failed["params"]["attempts"] == 1, failed
    assert failed["params"]["reason"], failed
    foreign.plans = {}
    orders.retry(41)
    processed = event_client.wait_events(events, 41, name="orderProcessed")
    assert sorted(event["params"]["order_id"] for event in processed) == list(range(1, 42))
    assert all(event["params"]["storage_id"] and event["params"]["pickup_point_id"] for event in processed)
    assert len(event_client.events(events, name="orderFailed")) == 1
    # Each of its two ends has started its task, once, and the stories say so.
    (revived,) = [event for event in processed if event["params"]["order_id"] == 41]
    assert failed["_id"] < revived["_id"]
    for end in (failed, revived):
        task = event_client.only_task(events, end["_id"])
        assert (task["status"], task["action_config"]) == ("succeeded", f"after-{end['name']}"), task
        assert task["params"] == {"note": 41}
    other = next(event for event in processed if event["params"]["order_id"] == 1)
    (reason,) = event_client.story(events, other["_id"])["not_fired"]
    assert reason["reason"] == "condition failed: params.order_id: expected 41, actual 1", reason


def test_from_an_event_to_orders_and_from_the_ledger_back(platform):
    platform.foreign_data_manager()
    service = platform.order_service()
    client = platform.ledger_client(service)
    orders = [{"order_id": "{{ event.params.first }}", "product_id": 4}, {"order_id": 901, "product_id": 4}]
    event_client.put(client, event_client.on("place", "stockArrived", "process_orders", {"orders": orders}))
    event_client.put(client, event_client.on("sums", "orderProcessed", "ledger.aggregates"))
    event_id = event_client.send(client, "stockArrived", {"first": 900})
    placed = event_client.only_task(client, event_id)
    assert placed["status"] == "succeeded", placed
    storage = placed["outcome"]["orders"][0]["storage_id"]
    # From a ledger event: its id names the order, the order its task, the task its event.
    (posted,) = client.get("/v1/events/storage_outflow", storage_id=storage, limit=10).ok()["events"][:1]
    order_id = posted["event_id"].split("/")[1]
    (task,) = client.get(background_tasks.PATH, order_id=order_id).ok()["result"]
    assert (task["id"], task["event_id"]) == (placed["id"], event_id)
    # And on from the order: its end is an event of that task, and starts what is next.
    ends = event_client.wait_events(client, 2, name="orderProcessed")
    assert {end["params"]["order_id"] for end in ends} == {900, 901}
    story = event_client.story(client, event_id)
    (produced,) = story["produced_tasks"]
    assert {end["_id"] for end in ends} <= set(produced["events"]), story
    assert produced["effects"] == ["order/900", "order/901"]
    assert event_client.only_task(client, ends[0]["_id"])["status"] == "succeeded"
    assert event_client.story(client, ends[0]["_id"])["caused_by"][0]["event_id"] == event_id
