"""Hazard: a web page that the operator happens to look at talks to the service on loopback.

A foreign Host (DNS rebinding) or a foreign Origin is refused on every HTTP route there is, and on every other path.
"""

import pytest

from raw_http import get, request

ROUTES = ["/healthz", "/readyz", "/metrics", "/", "/console", "/api/orders", "/no/such/route", "/healthz?x=1"]
METHODS = ["GET", "POST", "PUT", "DELETE", "OPTIONS"]
FOREIGN_HOSTS = ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "localhost.evil.example"]
FOREIGN_ORIGINS = ["http://evil.example", "https://evil.example:{port}", "http://localhost.evil.example:{port}", "null"]


@pytest.fixture
def port(platform):
    return platform.order_service().http_port


def refusals(port, **foreign) -> list:
    """What was not answered by 403 and a JSON error, over every route and method."""
    wrong = []
    for path in ROUTES:
        for method in METHODS:
            answer = request(port, method, path, **foreign)
            refused_well = answer.status == 403 and answer.error_code() == "PERMISSION_DENIED"
            if not refused_well:
                wrong.append((method, path, foreign, answer.status, answer.body[:80]))
    return wrong


def test_a_web_page_is_refused_on_every_route(port):
    for host in FOREIGN_HOSTS:
        assert refusals(port, host=host.format(port=port)) == []
    for origin in FOREIGN_ORIGINS:
        assert refusals(port, headers={"Origin": origin.format(port=port)}) == []
    assert request(port, "HEAD", "/healthz", host="evil.example").status == 403
    assert request(port, "GET", "/healthz", host="").status in (400, 403)


def test_who_is_at_home_is_let_in(port):
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}", "localhost"):
        assert request(port, "GET", "/healthz", host=host).status == 200, host
    own = {"Origin": f"http://127.0.0.1:{port}"}
    assert request(port, "GET", "/healthz", headers=own).status == 200
    assert get(port, "/readyz").status == 200
    metrics = get(port, "/metrics")
    assert metrics.status == 200 and b"# TYPE" in metrics.body
    assert get(port, "/no/such/route").status == 404
    assert get(port, "/no/such/route").error_code() == "NOT_FOUND"
