"""Hazard: one client exhausts connections, bodies and streams for all others.

The limits are the defaults of docs/operations.md ("Limits"); timeouts of 10 s are waited for.
"""

import contextlib
import resource
import socket
import threading
import time

import pytest

from client import open_channel
from ledger_events import OUTFLOW, outflow
from raw_http import get, read_to_the_end, request, send_raw
from raw_http2 import PREFACE, Http2Connection
from waiting import wait_until
from grpc_health.v1 import health_pb2, health_pb2_grpc

pytestmark = pytest.mark.alone

MOST_GROWTH_MIB = 300
HEADER_TIMEOUT, TOLERANCE = 10, 3
MEMBER = b'{"a":"' + b"x" * (1 << 16)


@pytest.fixture
def many_files():
    """This process may hold thousands of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(16_384, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def started_with_few_files(process):
    """It has the usual 1,024 files, and no right to more."""
    process.command = ["prlimit", "--nofile=1024:1024", *process.command]
    process.start()
    return process


def is_healthy(port: int) -> bool:
    """A call on a connection of its own."""
    # A busy machine may take longer to connect than other tests allow.
    with open_channel(f"127.0.0.1:{port}", ("grpc.min_reconnect_backoff_ms", 5_000)) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        return answer.status == health_pb2.HealthCheckResponse.SERVING


def test_who_does_not_finish_a_head_is_closed(platform):
    manager, service = platform.data_manager(), platform.order_service()
    half = [b"", b"GET /healthz HTTP/1.1\r\nHost: loc", PREFACE[:12], b"G"]
    ports = [service.http_port, service.port, manager.port]
    connections = [(port, sent, send_raw(port, sent)) for port in ports for sent in half]
    begun = time.monotonic()
    for port, sent, connection in connections:
        left = HEADER_TIMEOUT + TOLERANCE - (time.monotonic() - begun)
        connection.settimeout(max(left, 0.1))
        assert read_to_the_end(connection) is not None, (port, sent)
    assert time.monotonic() - begun < HEADER_TIMEOUT + TOLERANCE


def test_idle_connections_beyond_the_files_there_are_hold_up_nobody(platform, many_files):
    manager = started_with_few_files(platform.data_manager(start=False))
    service = started_with_few_files(platform.order_service(start=False))
    with contextlib.ExitStack() as held:
        for port in (service.http_port, service.port, manager.port):
            for _ in range(1_000):
                held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        assert get(service.http_port, "/readyz").status == 200
        assert is_healthy(service.port) and is_healthy(manager.port)
        client = platform.client(service)
        assert client.process([(1, 1)])[0].is_processed, "its database and its data manager have files"


def unfinished_bodies(port: int, held: contextlib.ExitStack) -> None:
    """200 bodies just short of 8 MiB that never end."""
    head = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    # A connection that comes while the line before `accept` is full is asked for again by the kernel, after a second.
    connections = [send_raw(port, head + b"Content-Length: 8388608\r\n\r\n", timeout=5) for _ in range(200)]
    for connection in connections:
        connection.settimeout(1)
    held.callback(lambda: [connection.close() for connection in connections])

    def fill(connection) -> None:
        # Refused at some point, or not read any more.
        with contextlib.suppress(OSError):
            for _ in range(127):
                connection.sendall(MEMBER)

    threads = [threading.Thread(target=fill, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def unfinished_messages(port: int, path: str, held: contextlib.ExitStack) -> None:
    """One connection with 100 messages of almost 16 MiB that are never whole."""
    connection = held.enter_context(contextlib.closing(Http2Connection(port)))
    part = b"\x0a" + b"\0" * (1 << 18)
    streams = [connection.begin(path, number) for number in range(100)]
    for stream in streams:
        connection.send(stream, b"\0" + (16 << 20).to_bytes(4, "big"))
    for _ in range(60):
        streams = [stream for stream in streams if connection.send(stream, part, timeout=0.2)]


def many_streams(port: int, path: str, held: contextlib.ExitStack) -> None:
    """10,000 streams that are begun and left, as many on a connection as it takes, and all of them on one."""
    for first in range(0, 10_000, 200):
        connection = held.enter_context(contextlib.closing(Http2Connection(port)))
        for number in range(200):
            connection.begin(path, number)
    greedy = held.enter_context(contextlib.closing(Http2Connection(port)))
    for number in range(10_000):
        greedy.begin(path, number)


def idle_connections(ports: list[int], held: contextlib.ExitStack) -> None:
    """1,000 that say nothing."""
    for number in range(1_000):
        held.enter_context(socket.create_connection(("127.0.0.1", ports[number % len(ports)]), timeout=5))


def slow_readers(port: int, held: contextlib.ExitStack) -> None:
    """100 that ask for a page of several MiB, and read nothing of it."""
    path = f"/v1/events/{OUTFLOW}?storage_id=1&limit=1000"
    asked = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    for connection in [send_raw(port, asked) for _ in range(100)]:
        held.enter_context(connection)


def write_large_events(ledger) -> None:
    """80, whose page is as large as one may be."""
    for call in range(8):
        ledger.write([outflow(1, event_id=f"large-{call}-{n}", info={"text": "x" * 60_000}) for n in range(10)]).ok()


def test_a_strangers_bodies_messages_and_streams_cost_a_bounded_memory(platform, many_files):
    service = platform.order_service()
    write_large_events(platform.ledger_client(service))
    path = "/order_service.OrderService/ProcessOrders"
    platform.data_manager()
    client = platform.client(service)
    assert client.process([(1, 1)])[0].is_processed
    idle, peaks = service.resident_mib(), {}
    with contextlib.ExitStack() as held:
        for name, attack in (
            ("bodies", lambda: unfinished_bodies(service.http_port, held)),
            ("messages", lambda: unfinished_messages(service.port, path, held)),
            ("streams", lambda: many_streams(service.port, path, held)),
            ("connections", lambda: idle_connections([service.http_port, service.port], held)),
            ("readers", lambda: slow_readers(service.http_port, held)),
        ):
            attack()
            peaks[name] = round(service.resident_mib() - idle)
            slowest = max(timed(lambda: get(service.http_port, "/healthz")) for _ in range(5))
            print(f"{name}: +{peaks[name]} MiB over {idle:.0f} MiB idle; /healthz within {slowest * 1000:.0f} ms")
    assert max(peaks.values()) < MOST_GROWTH_MIB, peaks
    wait_until(lambda: request_is_taken(service.http_port), 5, "the service takes bodies again")
    assert client.process([(2, 1)])[0].is_processed


def timed(call) -> float:
    begun = time.monotonic()
    assert call().status == 200
    return time.monotonic() - begun


def request_is_taken(port: int) -> bool:
    headers = {"Content-Type": "application/json"}
    return request(port, "POST", "/v1/events", headers=headers, body=b"{}").status == 400
