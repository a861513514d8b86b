"""Hazard: one client's request within the limits blocks the runtime thread that serves all others.

The service has one request thread here, as on a machine with one core. While the largest legal request of each kind is
answered, `/healthz` is polled.
"""

import json
import threading
import time

import pytest

import event_client
from bad_events import GOOD, changed
from client import request_of
from raw_http import get, request

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

MOST_HELD_UP = 0.1
# A machine may be busy with something else once.
TRIES = 3
JSON = {"Content-Type": "application/json"}
YAML = {"Content-Type": "application/yaml"}


@pytest.fixture(scope="module")
def service(module_platform):
    module_platform.data_manager()
    return module_platform.order_service(env={"TOKIO_WORKER_THREADS": "1"})


@pytest.fixture(scope="module")
def client(module_platform, service):
    return module_platform.client(service)


def ten_thousand_events(number: int) -> bytes:
    info = {"text": "x" * 300}
    events = [changed(GOOD, event_id=f"held-{number}-{n}", info=info) for n in range(10_000)]
    return json.dumps({"events": events}).encode()


def unknown_attributes(_number: int) -> bytes:
    attributes = {f"attribute_{n}": n for n in range(150_000)}
    return json.dumps({"events": [changed(GOOD, attributes=attributes)]}).encode()


def many_values(number: int) -> bytes:
    events = [{"name": f"held-{number}-{n}", "params": {"values": list(range(9_990))}} for n in range(32)]
    return json.dumps(events).encode()


def large_config(_number: int) -> bytes:
    params = {f"p{n}": "{{ event.params.a | default('b') }} and more " * 3 for n in range(400)}
    return json.dumps(event_client.on("held-up", "never-sent", "noop", params)).encode()


def large_template(_number: int) -> bytes:
    blocks = [f"  - {{name: b{n}, type: integration, integration: none.set, args: {{n: {n}}}}}" for n in range(20_000)]
    return "\n".join(["type: module", "name: global", "blocks:", *blocks]).encode()


def deep_json(_number: int) -> bytes:
    return b'{"events":' + b"[" * 4_000_000


HTTP = {
    "10,000 ledger events": ("POST", "/v1/events", JSON, ten_thousand_events),
    "150,000 unknown attributes": ("POST", "/v1/events", JSON, unknown_attributes),
    "4 MB of open brackets": ("POST", "/v1/batch", JSON, deep_json),
    "32 events of 9,990 values": ("POST", "/api/v1/events", JSON, many_values),
    "a config of 1,200 templates": ("PUT", "/api/v1/action_configs/held-up", JSON, large_config),
    "a template of 20,000 blocks": ("PUT", "/configurator/v1/templates/held-up", YAML, large_template),
}


def longest_wait_beside(port: int, call) -> float:
    """Of `/healthz`, in seconds, while `call` runs."""
    calling = threading.Thread(target=call)
    calling.start()
    longest = 0.0
    while calling.is_alive():
        begun = time.monotonic()
        assert get(port, "/healthz").status == 200
        longest = max(longest, time.monotonic() - begun)
    calling.join()
    return longest


def assert_holds_up_nobody(port: int, name: str, call) -> None:
    waits = []
    for number in range(TRIES):
        waits.append(longest_wait_beside(port, lambda number=number: call(number)))
        if waits[-1] < MOST_HELD_UP:
            break
    print(f"{name}: /healthz within {', '.join(f'{wait * 1000:.0f}' for wait in waits)} ms")
    assert min(waits) < MOST_HELD_UP, f"{name} holds others up for {waits} s"


@pytest.mark.parametrize("name", HTTP)
def test_a_large_request_holds_up_nobody(service, name):
    method, path, headers, body_of = HTTP[name]
    bodies = [body_of(number) for number in range(TRIES)]

    def call(number: int) -> None:
        answer = request(service.http_port, method, path, headers=headers, body=bodies[number], timeout=60)
        assert answer.status in (200, 201, 400, 413), answer

    assert_holds_up_nobody(service.http_port, name, call)


def test_ten_thousand_orders_hold_up_nobody(service, client):
    requests = [request_of((number * 10_000 + n, 1) for n in range(10_000)) for number in range(TRIES)]
    call = lambda number: client.stub.ProcessOrders(requests[number], timeout=60)  # noqa: E731
    assert_holds_up_nobody(service.http_port, "10,000 orders", call)
