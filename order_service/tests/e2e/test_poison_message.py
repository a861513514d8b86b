"""Hazard: the database refuses a data manager's message about one order, which blocks all others (poison message)."""

import grpc

from client import FAILED, assert_processed_as_given
from foreign_data_manager import first_data

POISON = (1, 2)


def test_words_that_cannot_be_stored_hurt_nobody_else(platform):
    foreign = platform.foreign_data_manager()
    plain = foreign._answer
    words = {1: "bad \0 nul", 2: "x" * 6000}

    def answer(order_id, context):
        if order_id not in POISON:
            return plain(order_id, context)
        foreign.count(order_id)
        return (grpc.StatusCode.NOT_FOUND, words[order_id])

    foreign._answer = answer
    client = platform.client(platform.order_service())
    refused = client.process([(order_id, 1) for order_id in POISON], timeout=5)
    assert not any(order.is_processed for order in refused) and all(foreign.faults[i] for i in POISON)
    others = client.process([(order_id, 1) for order_id in range(10, 60)], timeout=5)
    assert_processed_as_given(others, {order_id: first_data(order_id) for order_id in range(10, 60)})
    for order_id in POISON:
        order = client.wait_state(order_id, FAILED, timeout=5)
        assert "NotFound" in order.last_error and len(order.last_error) <= 1000
