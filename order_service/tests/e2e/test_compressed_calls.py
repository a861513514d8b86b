"""Hazard: compressed messages, a channel setting for every call, are refused; or a small message decompresses to more
than the available memory.
"""

import grpc
import pytest

from client import OrderClient, refusal_of, request_of
from google.protobuf import empty_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from stubs import manager, manager_grpc, orders, orders_grpc

GZIP = grpc.Compression.Gzip


def compressing(port: int, *options) -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{port}", compression=GZIP, options=options)


def test_compressed_calls_are_taken_by_both_programs(platform):
    data_manager, service = platform.data_manager(), platform.order_service()
    for port in (data_manager.port, service.port):
        with compressing(port) as channel:
            assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1
            listed = reflection_pb2.ServerReflectionRequest(list_services="")
            reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
            answers = list(reflection.ServerReflectionInfo(iter([listed]), timeout=5))
            assert answers[0].list_services_response.service
    with compressing(service.port) as channel:
        stub = orders_grpc.OrderServiceStub(channel)
        answer = stub.ProcessOrders(request_of((n, 1) for n in range(1000)), timeout=20)
        assert len(answer.processed_orders) == 1000 and all(order.is_processed for order in answer.processed_orders)
        one = orders.ProcessOrdersRequest.OrderRequest
        stream = stub.ProcessOrderStream((one(order_id=n, product_id=1) for n in range(2000, 2100)), timeout=20)
        assert sum(order.is_processed for order in stream) == 100
    with compressing(data_manager.port) as channel:
        stub = manager_grpc.DataManagerStub(channel)
        stub.GetOrderDataCallback(manager.GetOrderDataCallbackRequest(order_id=1), timeout=5)
        assert len(stub.GetOrdersData(empty_pb2.Empty(), timeout=5).orders) == 1100


@pytest.mark.parametrize("size", [17 << 20, 400 << 20])
def test_a_message_that_unpacks_to_too_much_is_refused_and_costs_little(platform, size):
    data_manager, service = platform.data_manager(), platform.order_service()
    calls = [
        (service, "/order_service.OrderService/ProcessOrders"),
        (data_manager, "/data_manager.DataManager/GetOrdersDataCallback"),
    ]
    for program, method in calls:
        before = program.resident_mib()
        with compressing(program.port, ("grpc.max_send_message_length", -1)) as channel:
            # Field 15, which nobody knows, of so many bytes.
            head = b"\x7a" + varint(size)
            call = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
            refused = refusal_of(call, head + bytes(size), timeout=30)
        assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, refused
        assert program.resident_mib() - before < 120
        assert program.is_serving()


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])
