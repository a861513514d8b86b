"""Hazard: webhook settings are ignored: an internal server is reached (SSRF), or an allowed one gets no valid
signature.

All forms of refused addresses are tested in `crates/events`; here the real binary, its flags, and an independent
receiver.
"""

import hashlib
import hmac

import pytest

import event_client
from roles_apart import Roles
from webhook_server import WebhookServer, certify

SECRET = b"between you and me"


@pytest.fixture
def server(platform):
    server = WebhookServer()
    platform.closing(server.shutdown)
    return server


def service_with(platform, *flags):
    return platform.ledger_client(Roles(platform, "http,tasks", *flags))


def delivered(client, url: str) -> dict:
    """The task of a webhook, once it has ended."""
    params = {"url": url, "json": {"n": "{{ event.params.n }}", "text": "\u20ac"}}
    event_client.put(client, event_client.on("hook", "e", "http_request", params))
    return event_client.only_task(client, event_client.send(client, "e", {"n": 7}))


def test_an_allowed_server_gets_it_once_more_after_a_503_with_a_valid_signature(platform, server):
    secret = platform.home / "secret"
    secret.write_bytes(SECRET + b"\n")
    client = service_with(platform, "--webhook-allow", server.place, "--webhook-secret-file", secret)
    task = delivered(client, f"http://{server.place}/hook")
    assert (task["status"], task["attempts"]) == ("succeeded", 2), task
    assert len(server.got["/hook"]) == 2
    for headers, body in server.got["/hook"]:
        assert body == '{"n":7,"text":"\u20ac"}'.encode()
        assert headers["X-Signature"] == "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
        assert headers["Idempotency-Key"] == str(task["id"])
    # A redirect to where it may not go, though it is the very same server.
    refused = delivered(client, f"http://{server.place}/inside")
    assert refused["status"] == "failed" and "loopback" in refused["error"], refused
    assert not server.got["/secret"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]"])
def test_others_are_refused_and_the_story_says_why(platform, server, host):
    client = service_with(platform)
    task = delivered(client, f"http://{host}:{server.server_port}/hook")
    assert (task["status"], task["attempts"]) == ("failed", 1), task
    (produced,) = event_client.story(client, task["event_id"])["produced_tasks"]
    assert "PERMISSION_DENIED" in produced["error"] and "--webhook-allow" in produced["error"], produced
    assert not server.got


def test_a_server_certified_by_an_authority_of_ones_own_is_reached_with_its_file_only(platform, tmp_path):
    certificate, key = certify(tmp_path)
    server = WebhookServer(tls=(certificate, key))
    platform.closing(server.shutdown)
    trusting = service_with(platform, "--webhook-allow", server.place, "--webhook-ca", certificate)
    task = delivered(trusting, f"https://{server.place}/hook")
    assert (task["status"], task["attempts"], len(server.got["/hook"])) == ("succeeded", 2, 2), task
    # Not an authority's file: said at the start, with the flag's name.
    done = platform.order_service(start=False, bare=True).command_line("serve", "--webhook-ca", __file__)
    assert done.returncode == 2 and "webhook-ca" in done.stderr and "certificate" in done.stderr, done.stderr
