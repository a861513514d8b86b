"""Hazard: one client's flood takes the service from all others.

With `--client-rate` and `--client-concurrency` what a client sends beyond its limits is refused before it costs
anything, and says when to come back; other clients, probes and the data manager's callbacks go through.
"""

import json
import statistics
import threading
import time

import grpc

from client import refusal_of
from ledger_events import LOCK
from platform_under_test import DATA_MANAGER_BIN, ORDER_SERVICE_BIN
from processes import run_command
from stubs import orders
from test_access import ClientsFile, ask, bearer
from waiting import elapsed_since, wait_until

RATE = 20
FLOOD_SECONDS = 3


def world_of(platform, *flags):
    """Both programs, with two clients of the order service and one without limits: the data manager."""

    class World:
        file = ClientsFile(platform.home / "clients.yaml")

    for name in ("noisy", "quiet"):
        setattr(World, name, World.file.add(name, "orders:process", "orders:read", "events:read", "ledger:write"))
    World.root = World.file.add("root", "metrics:read")
    World.file.add("manager", "orders:callback")
    text = json.loads(World.file.text())
    for client in text["clients"]:
        if client["name"] == "manager":
            client["rate"] = client["concurrency"] = 0
    World.file.write(json.dumps(text))
    platform.data_manager("--peer-token-file", World.file.token_file("manager"))
    World.service = platform.order_service("--clients", World.file.path, *flags)
    World.orders = platform.client(World.service)
    return World


def test_a_flood_is_refused_and_another_clients_calls_go_through(platform):
    world = world_of(platform, "--client-rate", str(RATE))
    answers, took, stop = [], [], threading.Event()

    def flood() -> None:
        while not stop.is_set():
            answers.append(ask(world.service, "GET", "/api/v1/events?name=e", world.noisy))

    threads = [threading.Thread(target=flood) for _ in range(4)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    try:
        while elapsed_since(began) < FLOOD_SECONDS:
            start = time.monotonic()
            status, _, text = ask(world.service, "GET", "/api/v1/events?name=e", world.quiet)
            took.append(elapsed_since(start))
            assert status == 200, text
            assert ask(world.service, "GET", "/healthz")[0] == ask(world.service, "GET", "/readyz")[0] == 200
            time.sleep(2 / RATE)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    flooded = elapsed_since(began)
    served = [answer for answer in answers if answer[0] == 200]
    refused = [answer for answer in answers if answer[0] != 200]
    print(f"{len(answers)} calls in {flooded:.1f} s: {len(served)} served; the quiet client: median "
          f"{statistics.median(took) * 1e3:.1f} ms, worst {max(took) * 1e3:.1f} ms")
    assert refused and RATE <= len(served) <= RATE * (flooded + 2)
    for status, headers, text in refused:
        assert status == 429 and headers["retry-after"] == "1", (status, headers)
        error = json.loads(text)["error"]
        assert error["code"] == "OVERLOADED" and error["args"] == {"limit": "rate"}, text
    assert max(took) < 1, took
    _, _, metrics = ask(world.service, "GET", "/metrics", world.root)
    assert f'client_requests_limited_total{{limit="rate"}} {len(refused)}' in metrics, metrics
    lines = [line for line in world.service.log.read_text().splitlines() if "a client is at its limit" in line]
    assert 1 <= len(lines) <= 2 and "noisy" in lines[0], lines


def test_calls_are_limited_as_requests_are_and_callbacks_are_not(platform):
    world = world_of(platform, "--client-rate", "2")
    # One by one they are far more than two callbacks a second.
    processed = world.orders.process([(order_id, 1) for order_id in range(1, 200)], metadata=bearer(world.quiet))
    assert all(order.is_processed for order in processed)
    page, codes = orders.ListOrdersRequest(page_size=1), []
    for _ in range(10):
        try:
            world.orders.stub.ListOrders(page, timeout=10, metadata=bearer(world.noisy))
        except grpc.RpcError as error:
            codes.append(error.code())
            details = dict(error.trailing_metadata())["grpc-status-details-bin"]
            assert b"google.rpc.RetryInfo" in details, details
    assert set(codes) == {grpc.StatusCode.RESOURCE_EXHAUSTED}, codes
    refused = refusal_of(world.orders.stub.ListOrders, page, timeout=10, metadata=bearer("wrong"))
    assert refused.code() == grpc.StatusCode.UNAUTHENTICATED, "the right token is asked for first"


def test_requests_at_a_time_are_limited(platform):
    world = world_of(platform, "--client-concurrency", "3")
    lock = {"type": LOCK, "attributes": {"storage_id": 7}, "mode": "exclusive", "ttl_seconds": 60}
    status, _, text = ask(world.service, "POST", "/v1/locks", world.quiet, lock)
    assert status == 201, text
    lock_id = json.loads(text)["lock_id"]

    def wait_for_lock() -> None:
        # A look below may have had the place of a request that waits.
        while ask(world.service, "POST", "/v1/locks", world.noisy, {**lock, "wait_seconds": 60}, 70)[0] == 429:
            time.sleep(0.05)

    waits = [threading.Thread(target=wait_for_lock) for _ in range(3)]
    for wait in waits:
        wait.start()

    def answer_of_another():
        return ask(world.service, "GET", "/api/v1/events?name=e", world.noisy)

    wait_until(lambda: answer_of_another()[0] == 429, 10, "three requests wait")
    _, headers, text = answer_of_another()
    assert headers["retry-after"] == "1" and json.loads(text)["error"]["args"] == {"limit": "concurrency"}, text
    assert ask(world.service, "GET", "/api/v1/events?name=e", world.quiet)[0] == 200
    assert ask(world.service, "DELETE", f"/v1/locks/{lock_id}", world.quiet)[0] == 204
    wait_until(lambda: answer_of_another()[0] == 200, 10, "one of them has its answer")
    # The others wait until their token is gone: their calls end with it.
    world.file.scopes.pop("noisy")
    world.file.write()
    for wait in waits:
        wait.join(30)
        assert not wait.is_alive()


def test_a_limit_that_is_none_is_refused(tmp_path):
    for program in (ORDER_SERVICE_BIN, DATA_MANAGER_BIN):
        for flag, value in (("--client-rate", "-1"), ("--client-rate", "1000001"), ("--client-concurrency", "many")):
            done = run_command([program, f"{flag}={value}"], env={"ORDER_SERVICE_DATA_DIR": str(tmp_path / "d")})
            assert done.returncode == 2 and flag in done.stderr, (flag, value, done)
