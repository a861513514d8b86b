"""Hazard: generic tools cannot use gRPC reflection and health checks."""

import grpc
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from client import open_channel, refusal_of

SERVING = health_pb2.HealthCheckResponse.SERVING
METHODS = {
    "order_service.OrderService": {
        "ProcessOrders",
        "SendOrderDataCallback",
        "SendOrdersDataCallback",
        "ProcessOrderStream",
        "GetOrder",
        "ListOrders",
        "RetryOrder",
        "RetryOrders",
    },
    "data_manager.DataManager": {"GetOrderDataCallback", "GetOrdersData", "GetOrdersDataCallback"},
}


def reflect(channel, version: str, **question):
    """One question to a reflection service; both versions have the same messages."""
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    (answer,) = call(iter([reflection_pb2.ServerReflectionRequest(**question)]), timeout=5)
    return answer


def described_methods(channel, version: str, service: str) -> set[str]:
    answer = reflect(channel, version, file_containing_symbol=service)
    files = map(descriptor_pb2.FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto)
    services = {f"{file.package}.{s.name}": s for file in files for s in file.service}
    return {method.name for method in services[service].method}


def test_both_servers_describe_themselves_and_say_that_they_serve(platform):
    processes = {"data_manager.DataManager": platform.data_manager()}
    processes["order_service.OrderService"] = platform.order_service()
    for service, process in processes.items():
        channel = open_channel(f"127.0.0.1:{process.port}")
        platform.closing(channel.close)
        for version in ("v1", "v1alpha"):
            listed = {s.name for s in reflect(channel, version, list_services="").list_services_response.service}
            assert {service, "grpc.health.v1.Health"} <= listed, (version, listed)
            assert described_methods(channel, version, service) == METHODS[service]
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", service):
            assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status == SERVING
        unknown = refusal_of(health.Check, health_pb2.HealthCheckRequest(service="nobody"), timeout=5)
        assert unknown.code() == grpc.StatusCode.NOT_FOUND


def test_who_watches_hears_of_the_end(platform):
    platform.data_manager()
    service = platform.order_service()
    client = platform.client(service)
    watch = client.health.Watch(health_pb2.HealthCheckRequest(service=""), timeout=30)
    assert next(watch).status == SERVING
    service.terminate()
    try:
        assert all(answer.status != SERVING for answer in watch)
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert service.wait_exit(10) == 0
