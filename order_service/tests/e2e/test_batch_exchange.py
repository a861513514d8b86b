"""Hazard: the batch rpcs are used with a peer that lacks them, or not used with one that has them.

Support is detected by UNIMPLEMENTED and remembered per connection, in both directions.
"""

import grpc
import pytest

from client import assert_processed_as_given
from foreign_data_manager import BATCH, SINGLE, first_data
from recording_order_service import RecordingOrderService
from stubs import manager, orders
from waiting import wait_until


def process(client, start: int, count: int) -> None:
    answers = client.process([(order_id, 1) for order_id in range(start, start + count)])
    assert_processed_as_given(answers, {order_id: first_data(order_id) for order_id in range(start, start + count)})


def test_between_our_two_programs(platform):
    manager_process = platform.data_manager()
    client = platform.client(platform.order_service())
    answers = client.process([(order_id, 1) for order_id in range(2000)], timeout=20)
    assert_processed_as_given(answers, platform.manager_client(manager_process).given())


@pytest.mark.alone  # its bounds are for a machine that does nothing else
def test_many_orders_go_in_few_questions(platform):
    foreign = platform.foreign_data_manager(batch=True)
    client = platform.client(platform.order_service())
    process(client, 0, 1000)
    assert foreign.calls[SINGLE] == 0 and 0 < foreign.calls[BATCH] <= 500, foreign.calls
    assert all(foreign.questions[order_id] == 1 for order_id in range(1000))


def test_exchange_single_never_uses_it(platform):
    foreign = platform.foreign_data_manager(batch=True)
    client = platform.client(platform.order_service("--exchange", "single"))
    process(client, 0, 200)
    assert foreign.calls[BATCH] == 0 and foreign.calls[SINGLE] == 200


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "OUT_OF_RANGE", "PERMISSION_DENIED"])
def test_a_refusal_of_a_batch_says_nothing_of_its_orders(platform, code):
    foreign = platform.foreign_data_manager(batch=True)
    foreign.batch_refusal = getattr(grpc.StatusCode, code)
    client = platform.client(platform.order_service())
    process(client, 0, 300)
    refused = foreign.calls[BATCH]
    assert refused > 0, "no batch was refused"
    process(client, 1000, 300)
    assert foreign.calls[BATCH] == refused, "asked again on the same connection"


def test_fall_back_is_remembered_until_the_peer_is_another(platform):
    client = platform.client(platform.order_service())
    old = platform.foreign_data_manager(batch=False)
    process(client, 0, 100)
    tried = old.unimplemented[BATCH]
    assert tried > 0, "the batch rpc was never tried"
    for start in range(100, 600, 100):
        process(client, start, 100)
    assert old.unimplemented[BATCH] == tried, "asked again on the same connection"
    assert old.calls[SINGLE] == 600

    old.close()
    new = platform.foreign_data_manager(batch=True)  # upgraded in place
    process(client, 1000, 100)
    process(client, 2000, 100)
    assert new.calls[BATCH] > 0

    new.close()
    older = platform.foreign_data_manager(batch=False)  # and rolled back
    process(client, 3000, 100)
    assert older.calls[SINGLE] >= 100 and older.unimplemented[BATCH] > 0


@pytest.mark.parametrize("batch", [True, False], ids=["new", "old"])
def test_our_manager_answers_a_batch(platform, batch):
    recorder = RecordingOrderService(platform.order_ports[0], batch=batch)
    platform.closing(recorder.close)
    client = platform.manager_client(platform.data_manager())
    ids = list(range(-100, 100))
    answer = client.stub.GetOrdersDataCallback(manager.GetOrdersDataCallbackRequest(order_ids=ids), timeout=10)
    assert list(answer.errors) == []
    wait_until(lambda: recorder.data().keys() == set(ids), 5, "every callback")
    assert recorder.data() == client.given()
    assert {callback.via for callback in recorder.callbacks} == ({"batch"} if batch else {"single"})


def test_a_batch_of_callbacks_takes_the_good_ones(platform):
    foreign = platform.foreign_data_manager(batch=True)
    client = platform.client(platform.order_service())
    process(client, 1, 3)
    request = orders.SendOrdersDataCallbackRequest()
    for order_id, storage, pickup in [(1, 8, 8), (2, 0, 8), (3, 8, 0), (404, 8, 8)]:
        request.callbacks.add(order_id=order_id, storage_id=storage, pickup_point_id=pickup)
    answer = client.stub.SendOrdersDataCallback(request, timeout=5)
    assert {error.order_id: error.code for error in answer.errors} == {2: 3, 3: 3, 404: 5}
    assert all(error.message for error in answer.errors)
    assert [client.get(order_id).storage_id for order_id in (1, 2, 3)] == [first_data(i)[0] for i in (1, 2, 3)]
    assert foreign.calls[BATCH] > 0
