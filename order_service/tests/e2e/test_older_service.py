"""Hazard: during a rolling update, a newer command fails with an unclear error at a service without its rpc."""

import json
from concurrent import futures

import grpc
import pytest

from platform_under_test import ORDER_SERVICE_BIN
from ports import free_port
from processes import run_command
from stubs import orders


class OlderService:
    """Knows RetryOrder and GetOrder, and not yet RetryOrders. Has the orders 1 to 9; 9 has nothing to be retried."""

    def __init__(self, port: int):
        self.address, self.retried = f"127.0.0.1:{port}", []
        calls = {"RetryOrder": (self._retry, orders.RetryOrderRequest), "GetOrder": (self._get, orders.GetOrderRequest)}
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                run, request_deserializer=request.FromString, response_serializer=lambda m: m.SerializeToString()
            )
            for name, (run, request) in calls.items()
        }
        self.server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("order_service.OrderService", handlers),)
        )
        assert self.server.add_insecure_port(self.address) == port
        self.server.start()

    def _get(self, request, _context):
        return orders.Order(order_id=request.order_id, product_id=1, state=orders.ORDER_STATE_INITIALIZED)

    def _retry(self, request, context):
        if request.order_id > 9:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no order {request.order_id}")
        if request.order_id == 9:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "order 9 is finished")
        self.retried.append(request.order_id)
        return self._get(request, context)

    def command(self, *words):
        return run_command([ORDER_SERVICE_BIN, "orders", "retry", *words, "--server", self.address])


@pytest.fixture
def older():
    service = OlderService(free_port())
    yield service
    service.server.stop(None).wait()


def test_orders_are_retried_one_by_one(older, tmp_path):
    done = older.command("3", "1", "--output", "json")
    assert done.returncode == 0, done.stderr
    assert [order["order_id"] for order in json.loads(done.stdout)["orders"]] == [3, 1]
    file = tmp_path / "orders.csv"
    file.write_text("order_id\n4\n9\n17\n5\n")
    done = older.command("--file", str(file), "--yes", "--output", "json")
    told = json.loads(done.stdout)
    assert done.returncode == 1 and told["retried"] == 2
    assert [error["order_id"] for error in told["errors"]] == [9, 17]
    assert sorted(older.retried) == [1, 3, 4, 5]


@pytest.mark.parametrize("words", [("--state", "order_failed", "--yes"), ("--state", "order_failed")])
def test_what_it_cannot_do_is_called_so(older, words):
    done = older.command(*words)
    assert done.returncode == 1 and "is too old for this" in done.stderr, done.stderr
    assert older.retried == []
