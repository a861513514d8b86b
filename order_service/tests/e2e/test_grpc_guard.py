"""Hazard: a client that does not speak gRPC is served on the gRPC ports, or a client's error is reported as a server
error.
"""

import subprocess

import grpc
import pytest

from client import open_channel, refusal_of

CALLS = {
    "order_service": "/order_service.OrderService/GetOrder",
    "data_manager": "/data_manager.DataManager/GetOrderDataCallback",
}
MESSAGE_LIMIT = {"order_service": 16 << 20, "data_manager": 4 << 20}


@pytest.fixture
def ports(platform):
    return {"data_manager": platform.data_manager().port, "order_service": platform.order_service().port}


def raw_call(platform, port: int, path: str, message: bytes, **kwargs) -> grpc.RpcError:
    """The refusal of a call whose message is these bytes."""
    channel = open_channel(f"127.0.0.1:{port}", ("grpc.max_send_message_length", -1))
    platform.closing(channel.close)
    return refusal_of(channel.unary_unary(path, lambda sent: sent, lambda got: got), message, timeout=10, **kwargs)


def test_only_grpc_is_served(platform, ports):
    for program, path in CALLS.items():
        for kind in ("text/plain", "application/json", "application/x-www-form-urlencoded"):
            command = ["curl", "-s", "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code}"]
            # Without a body: curl calls an answer that comes before it has sent one a broken stream.
            command += ["-X", "POST", "-H", f"Content-Type: {kind}", f"http://127.0.0.1:{ports[program]}{path}"]
            answer = subprocess.run(command, capture_output=True, timeout=10)
            assert answer.stdout == b"415", (program, kind, answer)


def test_web_pages_and_foreign_names_are_denied(platform, ports):
    for program, path in CALLS.items():
        port, message = ports[program], b"\x08\x01"
        for metadata in ([("origin", "http://evil.example")], [("origin", f"http://127.0.0.1:{port}")]):
            denied = raw_call(platform, port, path, message, metadata=metadata)
            assert denied.code() == grpc.StatusCode.PERMISSION_DENIED, (program, metadata, denied)
        channel = open_channel(f"127.0.0.1:{port}", ("grpc.default_authority", f"evil.example:{port}"))
        platform.closing(channel.close)
        denied = refusal_of(channel.unary_unary(path, bytes, bytes), message, timeout=10)
        assert denied.code() == grpc.StatusCode.PERMISSION_DENIED, (program, denied)


def test_a_listed_name_is_answered(platform):
    port = platform.order_service("--allowed-hosts", "orders.example").port
    channel = open_channel(f"127.0.0.1:{port}", ("grpc.default_authority", f"orders.example:{port}"))
    platform.closing(channel.close)
    answer = refusal_of(channel.unary_unary(CALLS["order_service"], bytes, bytes), b"\x08\x01", timeout=10)
    assert answer.code() == grpc.StatusCode.NOT_FOUND


def test_a_message_that_is_wrong_is_the_clients_fault(platform, ports):
    for program, path in CALLS.items():
        malformed = raw_call(platform, ports[program], path, b"\x08")
        assert malformed.code() == grpc.StatusCode.INVALID_ARGUMENT, (program, malformed)
        too_large = raw_call(platform, ports[program], path, b"\0" * (MESSAGE_LIMIT[program] + 1))
        assert too_large.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, (program, too_large)
    channel = open_channel(f"127.0.0.1:{ports['order_service']}")
    platform.closing(channel.close)
    stream = channel.stream_stream("/order_service.OrderService/ProcessOrderStream", lambda sent: sent, lambda got: got)
    ended = refusal_of(lambda: list(stream(iter([b"\x08"]), timeout=10)))
    assert ended.code() == grpc.StatusCode.INVALID_ARGUMENT
