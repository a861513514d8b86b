"""Promise: with `--clients` only named clients are served, each within its scopes, and a change of the file is in force
within seconds: no call of a client that keeps its right fails, and what a client lost ends.
"""

import http.client
import json
import os
import threading
import time

import grpc
import pytest
from google.protobuf import empty_pb2

from client import refusal_of, request_of
from ledger_events import LOCK
from platform_under_test import DATA_MANAGER_BIN, ORDER_SERVICE_BIN
from processes import run_command
from stubs import orders
from waiting import wait_until

CANARY = "op_canary-token-that-must-show-nowhere"
# Re-read within 5 s, then the grace period of calls that are open.
IN_FORCE = 10


def new_token(name: str) -> dict:
    done = run_command([ORDER_SERVICE_BIN, "clients", "new-token", name, "--output", "json"])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class ClientsFile:
    """A clients file; each client has one token, which the program made."""

    def __init__(self, path):
        self.path, self.tokens, self.scopes = path, {}, {}

    def add(self, name: str, *scopes: str) -> str:
        made = new_token(name)
        self.tokens[name], self.scopes[name] = made, scopes
        return made["token"]

    def text(self) -> str:
        clients = []
        for name, scopes in self.scopes.items():
            token = {"sha256": self.tokens[name]["sha256"]}
            clients.append({"name": name, "scopes": list(scopes), "tokens": [token]})
        return json.dumps({"clients": clients}, indent=1)

    def write(self, text: str | None = None, in_place: bool = False) -> None:
        target = self.path if in_place else self.path.with_suffix(".new")
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(self.text() if text is None else text)
        if not in_place:
            target.rename(self.path)

    def token_file(self, name: str):
        path = self.path.with_name(f"{name}.token")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(self.tokens[name]["token"] + "\n")
        return path


def ask(service, method: str, path: str, token: str | None = None, body=None, timeout: float = 30):
    """Status, headers and text of one call."""
    connection = http.client.HTTPConnection("127.0.0.1", service.http_port, timeout=timeout)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    sent = None
    if body is not None:
        sent, headers["Content-Type"] = json.dumps(body), "application/json"
    try:
        connection.request(method, path, sent, headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def bearer(token: str) -> list:
    return [("authorization", f"Bearer {token}")]


@pytest.fixture
def world(platform):
    """Both programs with clients files, each with its peer's token."""

    class World:
        file = ClientsFile(platform.home / "clients.yaml")
        manager_file = ClientsFile(platform.home / "manager-clients.yaml")

    World.root = World.file.add("root", "admin")
    World.shop = World.file.add("shop", "orders:process", "orders:read")
    World.robot = World.file.add("robot", "events:read", "events:write", "configs:write", "ledger:write")
    World.file.add("manager", "orders:callback")
    World.manager_file.add("service", "orders:process")
    World.file.write()
    World.manager_file.write()
    manager_token, service_token = World.file.token_file("manager"), World.manager_file.token_file("service")
    World.manager = platform.data_manager("--clients", World.manager_file.path, "--peer-token-file", manager_token)
    World.service = platform.order_service("--clients", World.file.path, "--peer-token-file", service_token)
    World.orders = platform.client(World.service)
    World.manager_client = platform.manager_client(World.manager)
    return World


def test_orders_are_processed_with_tokens_and_refused_without(world):
    (order,) = world.orders.process([(1, 2)], metadata=bearer(world.shop))
    assert order.is_processed
    call = world.orders.stub.ProcessOrders
    for metadata, code in (
        ([], grpc.StatusCode.UNAUTHENTICATED),
        (bearer("wrong"), grpc.StatusCode.UNAUTHENTICATED),
        (bearer(world.shop.lower()), grpc.StatusCode.UNAUTHENTICATED),
        (bearer(world.robot), grpc.StatusCode.PERMISSION_DENIED),
    ):
        refused = refusal_of(call, request_of([(2, 2)]), timeout=10, metadata=metadata)
        assert refused.code() == code, refused
    manager = world.manager_client.stub
    asked = refusal_of(manager.GetOrdersData, empty_pb2.Empty(), timeout=10)
    assert asked.code() == grpc.StatusCode.UNAUTHENTICATED, asked
    refused = refusal_of(world.orders.send_callback, 1, 1, 1)
    assert refused.code() == grpc.StatusCode.UNAUTHENTICATED, refused


def test_commands_take_a_token(world):
    service = world.service
    done = service.client_command("process", "--order", "5:6")
    assert done.returncode == 1 and "Unauthenticated" in done.stderr, done
    token_file = world.file.token_file("shop")
    done = service.client_command("process", "--order", "5:6", "--token-file", token_file)
    assert done.returncode == 0, done
    done = run_command(
        [ORDER_SERVICE_BIN, "orders", "get", "5", "--server", f"127.0.0.1:{service.port}"],
        env={"ORDER_SERVICE_TOKEN": world.shop},
    )
    assert done.returncode == 0, done
    token_file.chmod(0o644)
    done = service.client_command("process", "--order", "5:6", "--token-file", token_file)
    assert done.returncode == 2 and "--token-file" in done.stderr and "chmod 600" in done.stderr, done


def test_the_client_is_the_author_and_the_owner(world):
    event = {"name": "e", "params": {}}
    status, _, text = ask(world.service, "POST", "/api/v1/events", world.robot, event)
    assert status == 201, text
    status, _, text = ask(world.service, "POST", "/api/v1/events", world.robot, {**event, "author": "other"})
    assert status == 403 and json.loads(text)["error"]["args"]["field"] == "author", text
    status, _, text = ask(world.service, "POST", "/api/v1/events", world.root, {**event, "author": "other"})
    assert status == 201, text
    _, _, text = ask(world.service, "GET", "/api/v1/events?name=e&sort=_id", world.robot)
    assert [event["author"] for event in json.loads(text)["result"]] == ["robot", "other"], text
    lock = {"type": LOCK, "attributes": {"storage_id": 7}, "mode": "exclusive", "ttl_seconds": 60}
    status, _, text = ask(world.service, "POST", "/v1/locks", world.robot, {**lock, "owner": "other"})
    assert status == 403 and json.loads(text)["error"]["args"]["field"] == "owner", text
    status, _, text = ask(world.service, "POST", "/v1/locks", world.robot, lock)
    assert status == 201, text
    status, _, text = ask(world.service, "GET", f"/v1/locks/{json.loads(text)['lock_id']}", world.root)
    assert json.loads(text)["owner"] == "robot", text


def test_a_client_starts_by_a_task_only_what_it_may_do_itself(world):
    params = {"orders": [{"order_id": 31, "product_id": 1}]}
    config = {"name": "reorder", "on": [{"event": "sold_out"}], "action": {"task": "process_orders", "params": params}}
    for method, path, body in (
        ("POST", "/api/v1/action_configs", config),
        ("PUT", "/api/v1/action_configs/reorder", config),
        ("POST", "/api/v1/tasks", {"task_type": "process_orders", "params": params}),
    ):
        status, _, text = ask(world.service, method, path, world.robot, body)
        assert status == 403 and json.loads(text)["error"]["args"]["scope"] == "orders:process", (path, text)
    assert ask(world.service, "GET", "/api/v1/action_configs/reorder", world.robot)[0] == 404
    allowed = {**config, "action": {"task": "emit_event", "params": {"name": "told"}}}
    status, _, text = ask(world.service, "PUT", "/api/v1/action_configs/reorder", world.robot, allowed)
    assert status in (200, 201), text
    status, _, text = ask(world.service, "PUT", "/api/v1/action_configs/reorder", world.root, config)
    assert status == 200, text
    assert ask(world.service, "DELETE", "/api/v1/action_configs/reorder", world.root)[0] in (200, 204)


def test_a_changed_file_fails_no_call_and_a_broken_one_changes_nothing(world):
    service, stop, problems, counts = world.service, threading.Event(), [], [0] * 8

    def call(number: int) -> None:
        while not stop.is_set():
            try:
                if number % 2:
                    status, _, text = ask(service, "GET", "/api/v1/events?name=e", world.robot)
                    assert status == 200, text
                else:
                    page = orders.ListOrdersRequest(page_size=1)
                    world.orders.stub.ListOrders(page, timeout=10, metadata=bearer(world.shop))
            except Exception as problem:  # noqa: BLE001 - told below
                problems.append(repr(problem))
                return
            counts[number] += 1

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    try:
        late = world.file.add("late", "events:read")
        assert ask(service, "GET", "/api/v1/events", late)[0] == 401
        for in_place in (False, True):
            world.file.write(in_place=in_place)
            wait_until(lambda: ask(service, "GET", "/api/v1/events", late)[0] == 200, 6, "the new client")
            world.file.scopes.pop("late")
            world.file.write(in_place=in_place)
            wait_until(lambda: ask(service, "GET", "/api/v1/events", late)[0] != 200, 6, "its removal")
            world.file.scopes["late"] = ("events:read",)
        for broken in ("", "clients: []", "clients: [", '{"clients": [{"name": "x", "scopes": ["admn"]}]}'):
            world.file.write(broken)
            time.sleep(3)
            assert ask(service, "GET", "/api/v1/events", world.root)[0] == 200, broken
            assert ask(service, "GET", "/api/v1/events")[0] == 401, broken
        _, _, metrics = ask(service, "GET", "/metrics", world.root)
        assert "clients_file_is_current 0" in metrics and 'outcome="refused"' in metrics
        world.file.write()
        world.file.path.chmod(0o644)
        time.sleep(3)
        assert ask(service, "GET", "/api/v1/events", world.root)[0] == 200
        world.file.path.chmod(0o600)
        wait_until(lambda: ask(service, "GET", "/api/v1/events", late)[0] == 200, 6, "the good file")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not problems, problems
    assert min(counts) > 20, counts
    refused = [line for line in service.log.read_text().splitlines() if "new clients file is refused" in line]
    assert 4 <= len(refused) <= 8, refused


def test_what_a_client_lost_ends_its_stream_and_its_wait_for_a_lock(world):
    service = world.service
    lock = {"type": LOCK, "attributes": {"storage_id": 7}, "mode": "exclusive", "ttl_seconds": 300}
    status, _, text = ask(service, "POST", "/v1/locks", world.root, lock)
    assert status == 201, text
    ended, stop = {}, threading.Event()

    def wait_for_lock() -> None:
        waiting = {**lock, "wait_seconds": 120}
        ended["lock"] = (ask(service, "POST", "/v1/locks", world.robot, waiting, 130), time.monotonic())

    def hold_stream() -> None:
        def sent():
            stop.wait()
            yield from ()

        stream = world.orders.stub.ProcessOrderStream(sent(), metadata=bearer(world.shop))
        try:
            for _ in stream:
                pass
            ended["stream"] = (None, time.monotonic())
        except grpc.RpcError as error:
            ended["stream"] = (error.code(), time.monotonic())

    threads = [threading.Thread(target=wait_for_lock), threading.Thread(target=hold_stream)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    assert not ended
    del world.file.scopes["robot"], world.file.scopes["shop"]
    begun = time.monotonic()
    world.file.write()
    for thread in threads:
        thread.join(30)
    stop.set()
    (status, _, text), at = ended["lock"]
    assert status == 503 and at - begun < IN_FORCE, (text, at - begun)
    code, at = ended["stream"]
    assert code == grpc.StatusCode.UNAVAILABLE and at - begun < IN_FORCE, (code, at - begun)


def test_wrong_tokens_are_limited_and_shown_nowhere(world):
    service = world.service
    answers = [ask(service, "GET", f"/api/v1/events?token={CANARY}", CANARY) for _ in range(40)]
    assert [answer[0] for answer in answers] == [401] * 30 + [429] * 10
    assert answers[0][1]["www-authenticate"] == "Bearer" and int(answers[-1][1]["retry-after"]) >= 1
    page = orders.ListOrdersRequest(page_size=1)
    refused = refusal_of(world.orders.stub.ListOrders, page, timeout=10, metadata=bearer(CANARY))
    assert ask(service, "GET", "/api/v1/events", world.robot)[0] == 200
    assert ask(service, "GET", "/api/v1/events")[0] == 401
    _, _, metrics = ask(service, "GET", "/metrics", world.root)
    assert 'access_denied_total{reason="unknown_token"} 30' in metrics, metrics
    shown = [str(answers), str(refused.details()), metrics, service.log.read_text(), world.manager.log.read_text()]
    for text in shown:
        assert CANARY not in text
        for token in (world.root, world.shop, world.robot):
            assert token not in text
    for path in ("/metrics", "/", "/docs", "/openapi.json", "/v1/nothing", "/healthz/"):
        assert ask(service, "GET", path)[0] == 401, path
    assert ask(service, "GET", "/healthz")[0] == ask(service, "GET", "/readyz")[0] == 200


@pytest.mark.parametrize("program", [ORDER_SERVICE_BIN, DATA_MANAGER_BIN], ids=["order_service", "data_manager"])
def test_a_start_without_what_it_needs_is_refused(program, tmp_path):
    good = ClientsFile(tmp_path / "clients.yaml")
    good.add("a", "admin")
    good.write()
    broken, missing = tmp_path / "broken.yaml", tmp_path / "missing.yaml"
    broken.write_text("clients: []")
    broken.chmod(0o600)
    exposed = ["--listen", "0.0.0.0"]
    for flags, words in (
        (exposed, ["--clients", "--allow-unauthenticated"]),
        ([*exposed, "--allow-unauthenticated"], ["--allow-plaintext"]),
        ([*exposed, "--clients", good.path], ["--allow-plaintext"]),
        (["--clients", broken], ["--clients", "1 to 1000 clients"]),
        (["--clients", missing], ["--clients", "No such file"]),
        (["--peer-token-file", missing], ["--peer-token-file", "No such file"]),
    ):
        done = run_command([program, *flags], env={"ORDER_SERVICE_DATA_DIR": str(tmp_path / "d")})
        assert done.returncode == 2 and all(word in done.stderr for word in words), (flags, done.stderr)
    broken.chmod(0o644)
    done = run_command([program, "--clients", broken], env={"ORDER_SERVICE_DATA_DIR": str(tmp_path / "d")})
    assert done.returncode == 2 and "chmod 600" in done.stderr, done.stderr
    # Only what serves opens the files.
    done = run_command([program, "config", "print", "--clients", missing, "--peer-token-file", missing])
    assert done.returncode == 0 and str(missing) in done.stdout, done


def test_a_clients_file_is_checked(tmp_path):
    file = ClientsFile(tmp_path / "clients.yaml")
    token = file.add("robot", "events:read", "ledger:write:storage_outflow")
    file.write()
    done = run_command([ORDER_SERVICE_BIN, "clients", "check", file.path])
    assert done.returncode == 0 and "robot  1 token  events:read, ledger:write:storage_outflow" in done.stdout, done
    assert token not in done.stdout and token.startswith("op_")
    file.write(file.text().replace("events:read", "events:reed"))
    done = run_command([ORDER_SERVICE_BIN, "clients", "check", file.path])
    assert done.returncode == 1 and "did you mean `events:read`?" in done.stderr, done
    done = run_command([ORDER_SERVICE_BIN, "clients", "new-token", "robot"])
    line = next(line for line in done.stdout.splitlines() if "sha256" in line)
    assert done.returncode == 0 and line.startswith('- {sha256: "'), done
    assert run_command([ORDER_SERVICE_BIN, "clients", "new-token", "a b"]).returncode == 2
