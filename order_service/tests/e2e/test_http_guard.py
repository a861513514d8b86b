"""Hazard: a web page in the operator's browser sends requests to the service on loopback.

A foreign Host (DNS rebinding), a foreign Origin or a cross-site request is refused on every HTTP route, and on every
other path; links to pages work from anywhere.
"""

import pytest

from raw_http import get, request

ROUTES = ["/healthz", "/readyz", "/metrics", "/", "/console", "/api/orders", "/no/such/route", "/healthz?x=1"]
METHODS = ["GET", "POST", "PUT", "DELETE", "OPTIONS"]
FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example:{port}",
    "localhost.evil.example",
    "localhost:x.evil.example",
]
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


def test_what_a_page_of_another_site_starts_without_asking_is_refused(port):
    for site in ("cross-site", "same-site"):
        foreign = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
        for path in [path for path in ROUTES if not path.startswith("/healthz")]:
            answer = request(port, "GET", path, headers=foreign)
            assert (answer.status, answer.error_code()) == (403, "PERMISSION_DENIED"), (site, path)
        assert request(port, "POST", "/api/v1/tasks/1/retry", headers=foreign).status == 403
        assert request(port, "GET", "/healthz", headers=foreign).status == 200
        link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
        assert request(port, "GET", "/docs", headers=link).status == 200
        assert request(port, "GET", "/v1/types", headers=link).status == 403
    assert request(port, "GET", "/readyz", headers={"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}).status == 200


def test_the_target_names_the_host_as_well(port):
    assert request(port, "GET", "http://evil.example/healthz").status == 403
    assert request(port, "GET", f"http://localhost:{port}/healthz", host="evil.example").status == 403
    assert request(port, "GET", f"http://localhost:{port}/healthz").status == 200


def test_a_shell_posts_nothing_and_a_form_posts_in_vain(port):
    path = "/api/v1/tasks/1/retry"
    assert request(port, "POST", path, body=b"").error_code() == "NOT_FOUND", "curl -X POST"
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        form = request(port, "POST", path, headers={"Content-Type": kind}, body=b"a=b")
        assert (form.status, form.error_code()) == (400, "VALIDATION_ERROR")
        assert "Content-Type" in form.error()["args"]


def test_a_body_that_cannot_be_taken_is_refused_before_it_is_sent(port):
    json_ = "application/json"
    for name, value, status, field in (
        ("Content-Encoding", "gzip", 415, "Content-Encoding"),
        ("Content-Type", f"{json_}; charset=iso-8859-1", 415, "Content-Type"),
        ("Content-Length", "99000000", 413, None),
    ):
        headers = {"Content-Type": json_, "Expect": "100-continue", name: value}
        # As many bytes as are announced never come: who waited for them would not answer.
        answer = request(port, "POST", "/v1/events", headers=headers, body=None if name == "Content-Length" else b"{}")
        assert answer.status == status, (name, answer)
        assert field is None or field in answer.error()["args"]


def test_a_precondition_that_is_not_known_is_refused(port):
    headers = {"Content-Type": "application/json", "If-None-Match": "*"}
    answer = request(port, "POST", "/v1/events", headers=headers, body=b'{"events": []}')
    assert (answer.status, list(answer.error()["args"])) == (400, ["If-None-Match"])


def test_browsers_are_told_not_to_guess_share_or_keep(port):
    for path in ("/healthz", "/docs", "/no/such/route"):
        headers = get(port, path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "cache-control" in headers
    refused = request(port, "GET", "/", host="evil.example").headers
    assert refused["x-content-type-options"] == "nosniff" and refused["cache-control"] == "no-store"
