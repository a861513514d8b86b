"""Hazard: a callback for an unknown order is applied to a later order with that id, or disappears unseen."""

import json

import grpc

from client import refusal_of
from foreign_data_manager import first_data


def listed_orphans(service) -> dict:
    """`orders callbacks --orphans`: (order, storage, pickup point) of each."""
    done = service.command_line("orders", "callbacks", "--orphans", "--output", "json")
    assert done.returncode == 0, done.stderr
    orphans = json.loads(done.stdout)["orphans"]
    assert all(orphan["received_at"] for orphan in orphans)
    return {(orphan["order_id"], orphan["storage_id"], orphan["pickup_point_id"]) for orphan in orphans}


def test_an_orphan_is_refused_kept_and_never_applied(platform):
    foreign = platform.foreign_data_manager()
    service = platform.order_service()
    client = platform.client(service)
    assert listed_orphans(service) == set()
    orphans = {(order_id, 900 + i, 700 + i) for i, order_id in enumerate([-5, 0, 17, 2**31 - 1])}
    for orphan in orphans:
        assert refusal_of(client.send_callback, *orphan).code() == grpc.StatusCode.NOT_FOUND
    assert listed_orphans(service) == orphans
    assert not any(client.knows(order_id) for order_id, _, _ in orphans)

    (answer,) = client.process([(17, 1)])
    assert answer.is_processed and (answer.storage_id, answer.pickup_point_id) == first_data(17)
    assert foreign.questions[17] == 1, "the data came from a callback that nobody asked for"

    service.stop()  # the command needs no running service
    assert {orphan for orphan in orphans if orphan[0] != 17} <= listed_orphans(service)


def test_callbacks_that_say_nothing_are_invalid_and_not_kept(platform):
    service = platform.order_service()
    client = platform.client(service)
    for storage_id, pickup_point_id in [(0, 1), (1, 0), (0, 0)]:
        error = refusal_of(client.send_callback, 5, storage_id, pickup_point_id)
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert listed_orphans(service) == set()
    table = service.command_line("orders", "callbacks", "--orphans")
    assert table.returncode == 0, table.stderr
