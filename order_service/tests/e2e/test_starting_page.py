"""Hazard: a browser that opens the service in its first seconds, or at an unknown address, shows an error."""

import json

import pytest

from ports import free_port, is_open
from raw_http import request
from waiting import wait_until

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"}


def test_a_browser_gets_a_page_that_asks_again_while_the_service_starts(platform):
    nobody = f"postgres://me@127.0.0.1:{free_port()}/control"
    service = platform.order_service("--database-url", nobody, "--startup-timeout", "60s", start=False)
    service.start(ready_within=None)
    port = service.http_port
    wait_until(lambda: is_open(port), 5, "HTTP opens first", every=0.02)
    for path in ("/", "/docs", "/v1/types"):
        page = request(port, "GET", path, headers=BROWSER)
        assert page.status == 503 and page.headers["retry-after"] == "1", path
        assert page.headers["content-type"].startswith("text/html") and b'http-equiv="refresh"' in page.body
        assert "default-src 'none'" in page.headers["content-security-policy"] and b"<script" not in page.body
        for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
            told = request(port, "GET", path, headers=headers)
            assert told.status == 503 and told.error_code() == "UNAVAILABLE", (path, headers)
    assert request(port, "POST", "/v1/events", headers=BROWSER).error_code() == "UNAVAILABLE"
    foreign = request(port, "GET", "/", host="evil.example", headers=BROWSER)
    assert foreign.status == 403


@pytest.mark.parametrize("path", ["/", "/?utm_source=x"])
def test_the_root_leads_to_the_documentation(ledger_service, path):
    port = ledger_service.http_port
    led = request(port, "GET", path, headers=BROWSER)
    assert (led.status, led.headers["location"], led.body) == (303, "/docs", b"")
    assert request(port, "GET", led.headers["location"], headers=BROWSER).status == 200
    told = request(port, "GET", path, headers={"Accept": "*/*"})
    places = json.loads(told.body)
    assert told.status == 200 and {"/docs", "/openapi.json", "/healthz"} <= set(places.values())
    assert all(request(port, "GET", place).status == 200 for place in places.values())
