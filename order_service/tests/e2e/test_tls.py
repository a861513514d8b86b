"""Promise: with `--tls-cert` both programs speak TLS alone, certificates name clients, the programs and the commands
call each other so, and certificates are changed while they serve, with no failed call.
"""

import http.client
import json
import os
import socket
import ssl
import threading
import time

import grpc
import pytest

from certificates import Authority
from client import OrderClient, refusal_of, request_of
from ledger_bundle import Bundle
from platform_under_test import DATA_MANAGER_BIN, ORDER_SERVICE_BIN
from ports import free_port
from processes import run_command
from stubs import orders
from test_access import bearer, new_token
from waiting import wait_until

HERE = ("DNS:localhost", "IP:127.0.0.1", "IP:::1")
LIST = orders.ListOrdersRequest(page_size=1)


def write_private(path, text: str):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    return path


def client_of(name: str, scopes: list, certificates: list, *tokens: str) -> dict:
    client = {"name": name, "scopes": scopes, "certificates": certificates}
    return client | ({"tokens": [{"sha256": token} for token in tokens]} if tokens else {})


class World:
    """Both programs with TLS, each a client of the other by its certificate; `robot` has a token alone."""

    def __init__(self, platform):
        self.platform, folder = platform, platform.home
        self.authority, self.callers = Authority(folder, "servers"), Authority(folder, "callers")
        self.served = self.authority.issue(*HERE)
        self.shop = self.callers.issue("DNS:shop.example")
        self.root = self.callers.issue("URI:spiffe://example/root", "DNS:other.example")
        token = new_token("robot")
        self.robot_token = token["token"]
        self.clients = [
            client_of("shop", ["orders:process", "orders:read"], ["dns:shop.example"]),
            client_of("manager", ["orders:callback"], ["uri:spiffe://example/manager"]),
            client_of("root", ["admin"], ["uri:spiffe://example/root"]),
            {"name": "robot", "scopes": ["orders:read"], "tokens": [{"sha256": token["sha256"]}]},
        ]
        self.clients_file = folder / "clients.yaml"
        self.write_clients()
        managers_clients = [client_of("service", ["orders:process", "orders:read"], ["dns:service.example"])]
        file = write_private(folder / "manager-clients.yaml", json.dumps({"clients": managers_clients}))
        self.manager = self._start(platform.data_manager, file, self.callers.issue("URI:spiffe://example/manager"))
        service = self.callers.issue("DNS:service.example")
        self.service = self._start(platform.order_service, self.clients_file, service)
        self.orders = self.client(self.shop)

    def _start(self, make, clients_file, identity):
        server = ["--tls-cert", self.served.cert, "--tls-key", self.served.key, "--tls-client-ca", self.callers.cert]
        peer = ["--peer-tls-ca", self.authority.cert, "--peer-tls-cert", identity.cert, "--peer-tls-key", identity.key]
        process = make(*server, *peer, "--clients", clients_file, start=False)
        process.credentials = self.authority.channel_credentials()
        process.start()
        return process

    def write_clients(self) -> None:
        new = self.clients_file.with_suffix(".new")
        write_private(new, json.dumps({"clients": self.clients})).rename(self.clients_file)

    def client(self, identity=None, *options, authority=None) -> OrderClient:
        credentials = (authority or self.authority).channel_credentials(identity)
        return self.platform.client(self.service, *options, credentials=credentials)

    def ask(self, method: str, path: str, identity=None, token=None, context=None):
        """Status and text of one call over HTTP, on a connection of its own."""
        context = context or self.authority.ssl_context(identity)
        connection = http.client.HTTPSConnection("127.0.0.1", self.service.http_port, timeout=30, context=context)
        try:
            connection.request(method, path, None, {"Authorization": f"Bearer {token}"} if token else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metrics(self) -> str:
        status, text = self.ask("GET", "/metrics", self.root)
        assert status == 200, text
        return text


@pytest.fixture
def world(platform):
    return World(platform)


def test_orders_are_processed_with_certificates_all_the_way(world):
    answers = world.orders.process([(number, 1) for number in range(50)])
    assert all(answer.is_processed for answer in answers)
    page = world.client().stub.ListOrders(LIST, timeout=10, metadata=bearer(world.robot_token))
    assert page.orders, "a token without a certificate"


@pytest.mark.parametrize(
    "who, code",
    [
        ("nobody", grpc.StatusCode.UNAUTHENTICATED),
        ("a name that no client has", grpc.StatusCode.UNAUTHENTICATED),
        ("the common name", grpc.StatusCode.UNAUTHENTICATED),
        ("another authority's certificate", grpc.StatusCode.UNAVAILABLE),
        ("somebody who does not know the server's authority", grpc.StatusCode.UNAVAILABLE),
        ("somebody who means another server", grpc.StatusCode.UNAVAILABLE),
        ("without TLS", grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_who_is_not_served_over_grpc(world, who, code):
    if who == "without TLS":
        client = world.platform.client(world.service)
    else:
        client = {
            "nobody": lambda: world.client(),
            "a name that no client has": lambda: world.client(world.callers.issue("DNS:shop.example.org")),
            "the common name": lambda: world.client(world.callers.issue(common_name="shop.example")),
            "another authority's certificate": lambda: world.client(world.authority.issue("DNS:shop.example")),
            "somebody who does not know the server's authority": lambda: world.client(
                world.shop, authority=world.callers
            ),
            "somebody who means another server": lambda: world.client(
                world.shop, ("grpc.ssl_target_name_override", "elsewhere.example")
            ),
        }[who]()
    refused = refusal_of(client.stub.ListOrders, LIST, timeout=10)
    assert refused.code() == code, refused
    assert world.orders.stub.ListOrders(LIST, timeout=10) is not None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_http_takes_tls_from_1_2_on_and_certificates_or_tokens(world):
    status, text = world.ask("GET", "/api/v1/events", world.root)
    assert status == 200, text
    assert world.ask("GET", "/api/v1/events")[0] == 401
    assert world.ask("GET", "/api/v1/events", world.shop)[0] == 403
    status, text = world.ask("GET", "/api/v1/events", world.root, token=world.robot_token)
    assert status == 401 and "not all of one client" in text, text
    assert 'access_denied_total{reason="conflicting_credentials"} 1' in world.metrics()
    for version, is_taken in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
        context = world.authority.ssl_context(world.root)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = version
        if not is_taken:
            context.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.raises(ssl.SSLError):
                world.ask("GET", "/healthz", context=context)
        else:
            assert world.ask("GET", "/healthz", context=context)[0] == 200
    with socket.create_connection(("127.0.0.1", world.service.http_port), timeout=10) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/" not in plain.recv(1000)
    assert 'tls_handshakes_failed_total{listener="http",reason="no_tls"}' in world.metrics()


def test_a_name_that_is_taken_away_ends_its_streams(world):
    stop = threading.Event()

    def sent():
        stop.wait()
        yield from ()

    stream = world.orders.stub.ProcessOrderStream(sent())
    time.sleep(1)
    begun = time.monotonic()
    world.clients[0]["certificates"] = ["dns:new-shop.example"]
    world.write_clients()
    with pytest.raises(grpc.RpcError) as ended:
        list(stream)
    stop.set()
    assert ended.value.code() == grpc.StatusCode.UNAVAILABLE and time.monotonic() - begun < 10, ended.value
    refused = refusal_of(world.orders.stub.ListOrders, LIST, timeout=10)
    assert refused.code() == grpc.StatusCode.UNAUTHENTICATED, refused


def test_certificates_change_under_load_and_no_call_fails(world):
    stop, problems, counts = threading.Event(), [], [0] * 8

    def call(number: int) -> None:
        while not stop.is_set():
            try:
                if number % 4 == 0:
                    status, text = world.ask("GET", "/api/v1/events", world.root)
                    assert status == 200, text
                elif number % 4 == 1:
                    credentials = world.authority.channel_credentials(world.shop)
                    client = OrderClient(f"127.0.0.1:{world.service.port}", credentials=credentials)
                    client.page()
                    client.close()
                else:
                    (answer,) = world.orders.process([(number + 8 * counts[number], 1)])
                    assert answer.is_processed
            except Exception as problem:  # noqa: BLE001 - told below
                problems.append(repr(problem))
                return
            counts[number] += 1

    def shown() -> bytes:
        with socket.create_connection(("127.0.0.1", world.service.http_port), timeout=10) as plain:
            with world.authority.ssl_context().wrap_socket(plain, server_hostname="localhost") as secure:
                return secure.getpeercert(binary_form=True)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    try:
        old, again = shown(), world.served.cert.read_bytes()
        key = world.served.key.read_bytes()
        for _ in range(2):
            world.served.replace_with(world.authority.issue(*HERE))
            wait_until(lambda: shown() != old, 5, "the new certificate")
            old = shown()
        world.served.key.write_bytes(key)
        time.sleep(5)
        assert shown() == old, "a key that is not the certificate's"
        metrics = world.metrics()
        assert 'tls_files_are_current{side="server"} 0' in metrics, metrics
        assert 'tls_files_loads_total{side="server",outcome="refused"} 1' in metrics, metrics
        assert 'tls_certificate_expires_timestamp_seconds{side="server"}' in metrics
        world.served.cert.write_bytes(again)
        wait_until(lambda: shown() != old, 5, "the pair that fits")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not problems, problems
    assert min(counts) > 20, counts
    refused = [line for line in world.service.log.read_text().splitlines() if "new TLS files are refused" in line]
    assert len(refused) == 1 and "is not the key of the certificate" in refused[0], refused


def test_stalled_handshakes_hold_nobody_up(world):
    stalled = [socket.create_connection(("127.0.0.1", world.service.port), timeout=30) for _ in range(500)]
    try:
        for connection in stalled[::2]:
            connection.sendall(b"\x16\x03\x01\x01\x00\x01")
        for number in range(20):
            begun = time.monotonic()
            credentials = world.authority.channel_credentials(world.shop)
            client = OrderClient(f"127.0.0.1:{world.service.port}", credentials=credentials)
            client.page()
            client.close()
            assert time.monotonic() - begun < 2, number
        begun = time.monotonic()
        for connection in stalled:
            try:
                while connection.recv(1000):
                    pass
            except ConnectionResetError:
                pass
        assert time.monotonic() - begun < 15
    finally:
        for connection in stalled:
            connection.close()


def test_commands_call_over_tls(world):
    bundle = Bundle(world.platform.home / "bundle")
    own = ["--tls-client-cert", world.root.cert, "--tls-client-key", world.root.key]
    trust = ["--tls-ca", world.authority.cert]
    grpc_url, url = f"https://localhost:{world.service.port}", f"https://localhost:{world.service.http_port}"
    for words in (
        ["process", "--order", "5:6", "--server", grpc_url],
        ["orders", "get", "5", "--server", grpc_url],
        ["orders", "get", "5", "--app-port", world.service.port],
        ["ledger", "types", "--url", url],
        ["ledger", "types", "--http-port", world.service.http_port],
        ["action-configs", "--bundle", bundle.folder, "--url", url, "--dry-run"],
        ["reconcile", "--bundle", bundle.folder, "--url", url, "--dry-run"],
    ):
        command = [ORDER_SERVICE_BIN, *words]
        done = run_command([*command, *own, *trust])
        assert done.returncode in (0, 3), (words, done)
        done = run_command([*command, *own], env={"ORDER_SERVICE_TLS_CA": str(world.authority.cert)})
        assert done.returncode in (0, 3), (words, done)
        done = run_command([*command, *own, "--tls-ca", world.callers.cert])
        assert done.returncode == 1 and "certificate" in done.stderr, (words, done)
        done = run_command([*command, *trust])
        denied = "401" in done.stderr or "UNAUTHENTICATED" in done.stderr.upper()
        assert done.returncode == 1 and denied, (words, done)
    done = run_command([ORDER_SERVICE_BIN, "orders", "get", "5", *trust, *own[:2]])
    assert done.returncode == 2 and "--tls-client-key is needed" in done.stderr, done


@pytest.mark.parametrize("program", [ORDER_SERVICE_BIN, DATA_MANAGER_BIN], ids=["order_service", "data_manager"])
def test_a_start_without_what_tls_needs_is_refused(program, tmp_path):
    authority = Authority(tmp_path, "ca")
    good, other = authority.issue(*HERE), authority.issue(*HERE)
    open_key = other.key.with_name("open.key")
    open_key.write_bytes(good.key.read_bytes())
    open_key.chmod(0o644)
    pair = ["--tls-cert", good.cert, "--tls-key", good.key]
    for flags, words in (
        (pair[:2], ["--tls-cert", "--tls-key is needed"]),
        (pair[2:], ["--tls-key", "--tls-cert is needed"]),
        (["--tls-cert", good.cert, "--tls-key", other.key], ["--tls-key", "is not the key of the certificate"]),
        (["--tls-cert", good.key, "--tls-key", good.key], ["--tls-cert", "no certificate"]),
        (["--tls-cert", good.cert, "--tls-key", open_key], ["--tls-key", "chmod 600"]),
        ([*pair, "--tls-client-ca", authority.cert], ["--tls-client-ca", "--clients is needed"]),
        (["--peer-tls-cert", good.cert, "--peer-tls-key", good.key], ["--peer-tls-ca is needed"]),
        (["--peer-tls-ca", tmp_path / "missing"], ["--peer-tls-ca", "No such file"]),
        (["--listen", "0.0.0.0", "--allow-unauthenticated"], ["--tls-cert", "--allow-plaintext"]),
    ):
        done = run_command([program, *flags], env={"ORDER_SERVICE_DATA_DIR": str(tmp_path / "d")})
        assert done.returncode == 2 and all(word in done.stderr for word in words), (flags, done.stderr)


def test_tls_allows_to_listen_elsewhere(platform):
    authority = Authority(platform.home, "ca")
    served = authority.issue(*HERE)
    flags = ["--listen", "0.0.0.0", "--allow-unauthenticated", "--tls-cert", served.cert, "--tls-key", served.key]
    manager = platform.data_manager(*flags, start=False, port=free_port())
    manager.credentials = authority.channel_credentials()
    manager.start()
