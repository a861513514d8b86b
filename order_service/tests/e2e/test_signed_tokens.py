"""Promise: with `--token-keys` a signed token gives its subject's client its scopes until it expires; a token that the
issuer did not make, or made for another place or time, gives nothing; keys rotate with no failed call.

Signed by PyJWT, so by another implementation than the one that verifies.
"""

import base64
import hashlib
import hmac
import json
import os
import threading
import time

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from client import refusal_of, request_of
from ledger_events import LOCK
from platform_under_test import DATA_MANAGER_BIN, ORDER_SERVICE_BIN
from processes import run_command
from stubs import orders
from test_access import IN_FORCE, ClientsFile, ask, bearer
from waiting import wait_until

AUDIENCE = "orders.example"
# Of a clock that differs from the issuer's.
LEEWAY = 5


class Key:
    """A key pair of the issuer."""

    def __init__(self, kid: str, alg: str):
        self.kid, self.alg = kid, alg
        self.private = {
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "RS256": lambda: rsa.generate_private_key(65537, 2048),
        }[alg]()

    def jwk(self) -> dict:
        made = jwt.get_algorithm_by_name(self.alg).to_jwk(self.private.public_key(), as_dict=True)
        made.pop("key_ops", None)
        return {**made, "kid": self.kid, "alg": self.alg, "use": "sig"}

    def pem(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, subject: str = "svc-robot", lifetime: float = 3600, headers: dict | None = None, **claims) -> str:
        said = {"sub": subject, "aud": AUDIENCE, "exp": int(time.time() + lifetime), **claims}
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(said, self.private, algorithm=self.alg, headers={"kid": self.kid, **(headers or {})})


def encode(part) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign_raw(key: Key, header: str, claims: str) -> str:
    """A right signature of what PyJWT would not write."""
    signed = f"{encode(header.encode())}.{encode(claims.encode())}"
    return f"{signed}.{encode(key.private.sign(signed.encode()))}"


class KeysFile:
    def __init__(self, path):
        self.path = path

    def write(self, *keys: Key, text: str | None = None, in_place: bool = False) -> None:
        target = self.path if in_place else self.path.with_suffix(".new")
        target.write_text(json.dumps({"keys": [key.jwk() for key in keys]}) if text is None else text)
        if not in_place:
            target.rename(self.path)

    def flags(self) -> list:
        return ["--token-keys", self.path, "--token-audience", AUDIENCE]


def with_subjects(file: ClientsFile, subjects: dict[str, list[str]]) -> str:
    """The text of a clients file whose clients also have these subjects."""
    content = json.loads(file.text())
    for client in content["clients"]:
        if client["name"] in subjects:
            client["subjects"] = subjects[client["name"]]
    return json.dumps(content, indent=1)


SUBJECTS = {"shop": ["svc-shop"], "robot": ["svc-robot", "spiffe://example/robot"], "service": ["svc-service"]}


@pytest.fixture
def world(platform):
    """Both programs with clients and keys files, and a key of each algorithm."""

    class World:
        file = ClientsFile(platform.home / "clients.yaml")
        manager_file = ClientsFile(platform.home / "manager-clients.yaml")
        keys = KeysFile(platform.home / "keys.json")
        ed, es, rs = Key("ed", "EdDSA"), Key("es", "ES256"), Key("rs", "RS256")

    World.root = World.file.add("root", "admin")
    World.file.add("shop", "orders:process", "orders:read")
    World.file.add("robot", "events:read", "events:write", "ledger:write")
    World.file.add("manager", "orders:callback")
    World.manager_file.add("service", "orders:process")
    World.file.write(with_subjects(World.file, SUBJECTS))
    World.manager_file.write(with_subjects(World.manager_file, SUBJECTS))
    World.keys.write(World.ed, World.es, World.rs)
    manager_token = World.file.token_file("manager")
    # A peer's token file may hold a signed token.
    service_token = World.manager_file.path.with_name("service.token")
    with open(os.open(service_token, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(World.rs.sign("svc-service"))
    flags = World.keys.flags()
    World.manager = platform.data_manager(
        "--clients", World.manager_file.path, "--peer-token-file", manager_token, *flags
    )
    World.service = platform.order_service("--clients", World.file.path, "--peer-token-file", service_token, *flags)
    World.orders = platform.client(World.service)
    return World


def test_a_right_token_gives_its_clients_scopes_on_rest_and_grpc(world):
    for number, key in enumerate((world.ed, world.es, world.rs)):
        (order,) = world.orders.process([(number + 1, 2)], metadata=bearer(key.sign("svc-shop")))
        assert order.is_processed
        robot = key.sign(aud=["x", AUDIENCE], nbf=int(time.time()), iss="https://issuer.example", roles=["admin"])
        event = {"name": "e", "params": {}}
        status, _, text = ask(world.service, "POST", "/api/v1/events", robot, event)
        assert status == 201, text
        assert ask(world.service, "GET", "/metrics", robot)[0] == 403
        refused = refusal_of(world.orders.stub.ProcessOrders, request_of([(9, 9)]), timeout=10, metadata=bearer(robot))
        assert refused.code() == grpc.StatusCode.PERMISSION_DENIED, refused
    also = world.ed.sign("spiffe://example/robot")
    _, _, text = ask(world.service, "GET", "/api/v1/events?name=e", also)
    assert {event["author"] for event in json.loads(text)["result"]} == {"robot"}, text
    assert ask(world.service, "GET", f"/api/v1/events?access_token={also}")[0] == 401


def wrong_tokens(world) -> dict[str, tuple[str, str]]:
    """Wrong tokens by name, each with the reason that the metrics have."""
    ed, es, now = world.ed, world.es, int(time.time())
    good = ed.sign()
    header, claims, signature = good.split(".")
    stranger = Key("ed", "EdDSA")
    tokens = {
        "alg none": (f"{encode({'alg': 'none', 'kid': 'ed'})}.{claims}.", "unsupported_algorithm"),
        "alg None": (f"{encode({'alg': 'None', 'kid': 'ed'})}.{claims}.{signature}", "unsupported_algorithm"),
        "alg of another key": (ed.sign(headers={"kid": "es"}), "unsupported_algorithm"),
        "wrong signature": (f"{header}.{claims}.{encode(bytes(64))}", "wrong_signature"),
        "another's key": (stranger.sign(), "wrong_signature"),
        "another's key that it brings": (stranger.sign(headers={"jwk": stranger.jwk()}), "wrong_signature"),
        "another's key behind a URL": (stranger.sign(headers={"jku": "http://127.0.0.1:1/"}), "wrong_signature"),
        "changed claims": (f"{header}.{encode({'sub': 'svc-shop'})}.{signature}", "wrong_signature"),
        "unknown kid": (ed.sign(headers={"kid": "new"}), "unknown_key"),
        "kid as a path": (ed.sign(headers={"kid": "../../../dev/null"}), "unknown_key"),
        "no kid": (sign_raw(ed, '{"alg": "EdDSA"}', "{}"), "unknown_key"),
        "crit": (ed.sign(headers={"crit": ["exp"]}), "malformed_signed_token"),
        "another audience": (ed.sign(aud="other"), "wrong_audience"),
        "no audience": (ed.sign(aud=None), "malformed_signed_token"),
        "expired": (ed.sign(lifetime=-60), "expired_token"),
        "no exp": (ed.sign(exp=None), "malformed_signed_token"),
        "not yet valid": (ed.sign(nbf=now + 600), "token_not_yet_valid"),
        "unknown subject": (es.sign("svc-unknown"), "unknown_subject"),
        "a client's name is no subject": (es.sign("robot"), "unknown_subject"),
        "no subject": (ed.sign(None), "malformed_signed_token"),
        "exp as text": (sign_claims(ed, exp=f'"{now + 60}"'), "malformed_signed_token"),
        "exp as a fraction": (sign_claims(ed, exp=f"{now + 60}.5"), "malformed_signed_token"),
        "a huge exp": (sign_claims(ed, exp="9" * 400), "malformed_signed_token"),
        "two subjects": (sign_claims(ed, more=', "sub": "svc-shop"'), "malformed_signed_token"),
        "a JSON bomb": (sign_raw(ed, "[" * 2000, "[" * 2000), "malformed_signed_token"),
        "lower case": (good.lower(), "malformed_signed_token"),
    }
    for name, secret in (("PEM", ed.pem()), ("JWK", json.dumps(ed.jwk()).encode())):
        signed = f"{encode({'alg': 'HS256', 'kid': 'ed'})}.{claims}"
        forged = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        tokens[f"HS256 with the public key as {name}"] = (f"{signed}.{encode(forged)}", "unsupported_algorithm")
    return tokens


def sign_claims(key: Key, exp: str = "4102444800", more: str = "") -> str:
    claims = f'{{"sub": "svc-robot", "aud": "{AUDIENCE}", "exp": {exp}{more}}}'
    return sign_raw(key, json.dumps({"alg": key.alg, "kid": key.kid}), claims)


def test_wrong_tokens_are_refused_counted_and_shown_nowhere(world):
    service, tokens = world.service, wrong_tokens(world)
    assert ask(service, "GET", "/api/v1/events", sign_claims(world.ed))[0] == 200, "what the wrong ones are made of"
    assert len(tokens) <= 30, "more than the limit of an address"
    answers, expected = {}, {}
    for name, (token, reason) in tokens.items():
        # In the URL, too, where it must not show either; targets are limited.
        answers[name] = ask(service, "GET", f"/api/v1/events?token={token[:900]}", token)
        assert answers[name][0] == 401, (name, answers[name])
        expected[reason] = expected.get(reason, 0) + 1
    assert len({json.loads(text)["error"]["message"] for _, _, text in answers.values()}) == 1, "it tells no reason"
    _, _, metrics = ask(service, "GET", "/metrics", world.root)
    for reason, count in expected.items():
        assert f'access_denied_total{{reason="{reason}"}} {count}' in metrics, (reason, count, metrics)
    shown = [str(answers), metrics, service.log.read_text(), world.manager.log.read_text()]
    for name, (token, _) in tokens.items():
        signature = token.split(".")[2]
        for text in shown:
            assert token[:900] not in text and (len(signature) < 20 or signature not in text), name


def test_wrong_tokens_are_refused_on_grpc(world):
    page = orders.ListOrdersRequest(page_size=1)
    for name in ("alg none", "another's key", "another audience", "expired", "unknown subject"):
        token, _ = wrong_tokens(world)[name]
        refused = refusal_of(world.orders.stub.ListOrders, page, timeout=10, metadata=bearer(token))
        assert refused.code() == grpc.StatusCode.UNAUTHENTICATED, (name, refused)
        assert token not in str(refused.details())


def test_wrong_signed_tokens_are_limited(world):
    service, known, stranger = world.service, world.es.sign(), Key("ed", "EdDSA")
    assert ask(service, "GET", "/api/v1/events", known)[0] == 200
    answers = [ask(service, "GET", "/api/v1/events", stranger.sign(jti=str(n))) for n in range(40)]
    assert [answer[0] for answer in answers] == [401] * 30 + [429] * 10
    assert ask(service, "GET", "/api/v1/events", known)[0] == 200, "it was verified before"
    assert ask(service, "GET", "/api/v1/events", world.root)[0] == 200
    assert ask(service, "GET", "/api/v1/events")[0] == 401
    fresh = world.ed.sign(jti="fresh")
    wait_until(lambda: ask(service, "GET", "/api/v1/events", fresh)[0] == 200, 12, "the end of the limit")


def test_keys_rotate_under_load_with_no_failed_call(world):
    service, stop, problems, counts = world.service, threading.Event(), [], [0] * 8
    # What the issuer signs with.
    current = [world.ed]

    def call(number: int) -> None:
        while not stop.is_set():
            try:
                subject = "svc-robot" if number % 2 else "svc-shop"
                token = current[0].sign(subject, jti=f"{number}-{counts[number]}")
                if number % 2:
                    status, _, text = ask(service, "GET", "/api/v1/events?name=e", token)
                    assert status == 200, text
                else:
                    page = orders.ListOrdersRequest(page_size=1)
                    world.orders.stub.ListOrders(page, timeout=10, metadata=bearer(token))
            except Exception as problem:  # noqa: BLE001 - told below
                problems.append(repr(problem))
                return
            counts[number] += 1

    def is_taken(key: Key) -> bool:
        return ask(service, "GET", "/api/v1/events", key.sign())[0] == 200

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    try:
        for number, in_place in enumerate((False, True, False)):
            old, new = current[0], Key(f"new-{number}", ("ES256", "RS256", "EdDSA")[number])
            replayed = old.sign(jti="replayed")
            assert ask(service, "GET", "/api/v1/events", replayed)[0] == 200
            world.keys.write(old, new, in_place=in_place)
            # Seldom: beyond 30 wrong tokens in 10 s, fresh tokens of this address are refused.
            wait_until(lambda: is_taken(new), 6, "the new key", every=0.5)
            current[0] = new
            before = list(counts)
            wait_until(lambda: all(now > was + 1 for now, was in zip(counts, before)), 30, "calls with the new key")
            world.keys.write(new, in_place=in_place)
            wait_until(lambda: not is_taken(old), 6, "the end of the old key", every=0.5)
            assert ask(service, "GET", "/api/v1/events", replayed)[0] == 401
        secret = {**current[0].jwk(), "d": "AA"}
        for broken in ("", "{}", '{"keys": []}', json.dumps({"keys": [secret]})):
            world.keys.write(text=broken)
            time.sleep(3)
            assert is_taken(current[0]), broken
        _, _, metrics = ask(service, "GET", "/metrics", world.root)
        assert "token_keys_file_is_current 0" in metrics and "clients_file_is_current 1" in metrics
        assert 'token_keys_file_loads_total{outcome="refused"}' in metrics
        world.keys.write(current[0])
        world.keys.path.chmod(0o666)
        time.sleep(3)
        assert is_taken(current[0])
        world.keys.path.chmod(0o644)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not problems, problems
    assert min(counts) > 20, counts
    refused = [line for line in service.log.read_text().splitlines() if "new token keys file is refused" in line]
    assert 4 <= len(refused) <= 8, refused


def hold_until_ended(world, robot: str, shop: str, change=lambda: None) -> dict:
    """How a wait for a lock and a stream that these tokens open end, and when."""
    service = world.service
    lock = {"type": LOCK, "attributes": {"storage_id": 7}, "mode": "exclusive", "ttl_seconds": 300}
    status, _, text = ask(service, "POST", "/v1/locks", world.root, lock)
    assert status == 201, text
    ended, stop = {}, threading.Event()

    def wait_for_lock() -> None:
        status, _, text = ask(service, "POST", "/v1/locks", robot, {**lock, "wait_seconds": 120}, 130)
        ended["lock"] = (status, time.time(), text)

    def hold_stream() -> None:
        def sent():
            stop.wait()
            yield from ()

        stream = world.orders.stub.ProcessOrderStream(sent(), metadata=bearer(shop))
        try:
            for _ in stream:
                pass
            ended["stream"] = (None, time.time(), "")
        except grpc.RpcError as error:
            ended["stream"] = (error.code(), time.time(), error.details())

    threads = [threading.Thread(target=wait_for_lock), threading.Thread(target=hold_stream)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    assert not ended, ended
    change()
    for thread in threads:
        thread.join(40)
    stop.set()
    return ended


def test_a_stream_and_a_wait_for_a_lock_end_when_their_token_expires(world):
    expires = int(time.time()) + 6
    robot, shop = world.ed.sign(exp=expires), world.rs.sign("svc-shop", exp=expires)
    ended = hold_until_ended(world, robot, shop)
    status, at, text = ended["lock"]
    assert status == 503 and LEEWAY <= at - expires < IN_FORCE, (text, at - expires)
    code, at, _ = ended["stream"]
    assert code == grpc.StatusCode.UNAVAILABLE and LEEWAY <= at - expires < IN_FORCE, (code, at - expires)
    assert ask(world.service, "GET", "/api/v1/events", robot)[0] == 401


def test_a_stream_and_a_wait_for_a_lock_end_when_their_key_is_removed(world):
    begun = []

    def remove() -> None:
        begun.append(time.time())
        world.keys.write(world.es)

    ended = hold_until_ended(world, world.ed.sign(), world.rs.sign("svc-shop"), remove)
    status, at, text = ended["lock"]
    assert status == 503 and at - begun[0] < IN_FORCE, (text, at - begun[0])
    code, at, _ = ended["stream"]
    assert code == grpc.StatusCode.UNAVAILABLE and at - begun[0] < IN_FORCE, (code, at - begun[0])


@pytest.mark.parametrize("program", [ORDER_SERVICE_BIN, DATA_MANAGER_BIN], ids=["order_service", "data_manager"])
def test_a_start_with_wrong_settings_is_refused(program, tmp_path):
    clients, keys = ClientsFile(tmp_path / "clients.yaml"), KeysFile(tmp_path / "keys.json")
    clients.add("a", "admin")
    clients.write(with_subjects(clients, {"a": ["svc-a"]}))
    keys.write(Key("ed", "EdDSA"))
    broken, missing = tmp_path / "broken.json", tmp_path / "missing.json"
    broken.write_text('{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}')
    named, audience = ["--clients", clients.path], ["--token-audience", AUDIENCE]
    for flags, words in (
        (keys.flags(), ["--token-keys", "--clients"]),
        ([*named, "--token-keys", keys.path], ["--token-keys", "--token-audience"]),
        ([*named, *audience], ["--token-audience", "--token-keys"]),
        ([*named, *audience, "--token-keys", missing], ["--token-keys", "No such file"]),
        ([*named, *audience, "--token-keys", broken], ["--token-keys", "keys[0].k is the secret part"]),
        ([*named, *audience, "--token-keys", clients.path], ["--token-keys", "is no JWKS"]),
    ):
        done = run_command([program, *flags], env={"ORDER_SERVICE_DATA_DIR": str(tmp_path / "d")})
        assert done.returncode == 2 and all(word in done.stderr for word in words), (flags, done.stderr)
        assert "c2VjcmV0" not in done.stderr
    keys.path.chmod(0o666)
    done = run_command([program, *named, *keys.flags()], env={"ORDER_SERVICE_DATA_DIR": str(tmp_path / "d")})
    assert done.returncode == 2 and "chmod 644" in done.stderr, done.stderr


def test_subjects_are_checked_with_their_file(tmp_path):
    file = ClientsFile(tmp_path / "clients.yaml")
    file.add("robot", "events:read")
    file.write(with_subjects(file, {"robot": ["svc-robot", "svc-other"]}))
    done = run_command([ORDER_SERVICE_BIN, "clients", "check", file.path])
    assert done.returncode == 0 and "robot  1 token, 2 subjects  events:read" in done.stdout, done
    file.write('{"clients": [{"name": "a", "scopes": ["admin"], "subjects": ["s", "s"]}]}')
    done = run_command([ORDER_SERVICE_BIN, "clients", "check", file.path])
    assert done.returncode == 1 and "clients[0].subjects[1]" in done.stderr, done
