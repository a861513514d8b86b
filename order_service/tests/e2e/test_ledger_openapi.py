"""Hazard: the OpenAPI document and the server disagree; or an arbitrary request makes the server fail.

Every route is in the document, its page needs no other host, and a fuzz driven by the document (schemathesis) finds no
5xx answer and none whose status, content type or body the document does not allow.
"""

import collections
import contextlib
import re
from urllib.parse import urljoin, urlsplit

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ledger_events import INFLOW, LOCK, OUTFLOW, STATE, outflow

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 40  # of right and of wrong calls, for each operation of the ledger
FEW = 12  # for each other
ROUTES = [
    ("post", "/v1/events"),
    ("post", "/v1/batch"),
    ("get", "/v1/balances/{}"),
    ("get", "/v1/turnovers/{}"),
    ("get", "/v1/events/{}"),
    ("post", "/v1/locks"),
    ("patch", "/v1/locks/{}"),
    ("delete", "/v1/locks/{}"),
    ("get", "/v1/locks/{}"),
    ("get", "/v1/states/{}"),
    ("put", "/v1/states/{}"),
    ("get", "/v1/feed/{}"),
    ("get", "/v1/types"),
    ("get", "/v1/shards"),
    ("get", "/api/v1/events"),
    ("post", "/api/v1/events"),
    ("post", "/api/v1/event_story"),
    ("get", "/api/v1/event_story/{}"),
    ("post", "/task/status"),
    ("get", "/api/v1/action_configs"),
    ("put", "/api/v1/action_configs/{}"),
    ("post", "/api/v1/tasks"),
    ("post", "/api/v1/tasks/{}/cancel"),
    ("put", "/configurator/v1/templates/{}"),
    ("post", "/configurator/v1/runs"),
    ("get", "/v1/export"),
    ("post", "/api/v1/reconcile"),
    ("get", "/readyz"),
]
# What a request of this place really looks like; without it, hardly one would come further than a name.
NAMES = {
    "/v1/balances": [OUTFLOW, INFLOW],
    "/v1/turnovers": [OUTFLOW, INFLOW],
    "/v1/events": [OUTFLOW, INFLOW],
    "/v1/states": [STATE, LOCK],
    "/v1/feed": ["s0", "s3"],
}
QUERY = {"storage_id": "1", "group_by": "product_id", "limit": "3", "at": "2026-01-01T00:00:00Z"}
PERIOD = {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00+02:00"}
EVENT = {**outflow(1), "info": {"a": [1]}}
TEMPLATE = "type: module\nname: global\nblocks:\n  - {name: b, type: integration, integration: q.t, args: {}}\n"
SCHEDULE = "$schema: /tasks/task-1.yml\nname: s\nschedule: '0 0 1 1 *'\ntask_type: noop\n"
BODIES = {
    "/v1/events": {"events": [EVENT]},
    "/v1/batch": {"events": [EVENT], "states": [{"type": STATE, "attributes": {"storage_id": 1}, "state": {}}]},
    "/api/v1/events": {"name": "e", "params": {"a": [1]}, "event_key": "k"},
    "/api/v1/tasks": {"task_type": "noop", "params": {"note": "n"}, "task_key": "k"},
    "/api/v1/action_configs": {"name": "c", "on": [{"event": "e"}], "action": {"task": "noop", "params": {}}},
    "/configurator/v1/runs": {"template_name": "t", "env": "test", "template": TEMPLATE, "general_inputs": {}},
    "/configurator/v1/forecast": {"template_name": "t", "env": "test", "template": TEMPLATE, "general_inputs": {}},
    "/api/v1/reconcile": {"files": [{"path": "a.yaml", "text": SCHEDULE}], "integrations": ["schedules"], "dry_run": True},
    "/v1/locks": {"type": LOCK, "attributes": {"storage_id": 1}, "mode": "shared", "ttl_seconds": 1, "owner": "fuzz"},
}
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
LIKELY = st.sampled_from(["1", "2", "12.50", 1, 2, "exclusive", INFLOW, "2026-03-01T00:00:00Z", {"product_id": 1}])


@pytest.fixture(scope="module")
def document(ledger):
    answer = ledger.get("/openapi.json")
    assert answer.headers["content-type"].split(";")[0] in ("application/json", "application/vnd.oai.openapi+json")
    return answer.ok()


def documented(document) -> set:
    """(method, path) with every parameter as `{}`."""
    paths = document["paths"].items()
    operations = [(method, path) for path, item in paths for method in item if method != "parameters"]
    return {(method, re.sub(r"\{[^}]*\}", "{}", path)) for method, path in operations}


def test_it_is_openapi_3(document):
    assert re.fullmatch(r"3\.[01]\.\d+", document["openapi"])
    assert document["info"]["title"] and document["info"]["version"]


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=lambda word: word.strip("/"))
def test_every_route_is_in_it(document, method, path):
    assert (method, path) in documented(document)


def test_every_operation_says_how_it_refuses(document):
    silent = []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if path.startswith("/v1/") and method != "parameters":
                refusals = [status for status in operation["responses"] if status.startswith(("4", "default"))]
                takes_input = "{" in path or "requestBody" in operation or operation.get("parameters")
                silent += [(method, path)] if takes_input and not refusals else []
    assert not silent


def referred_to(page: str) -> list[str]:
    """Everything that a browser would load or follow from a page, a style sheet or a script."""
    quoted = re.findall(r"""(?:src|href|action|data|srcset)\s*=\s*["']?([^"'\s>]+)""", page)
    styles = re.findall(r"""url\(\s*["']?([^"')]+)""", page)
    return quoted + styles + re.findall(r"""(?:@import|import|from)\s+["']([^"']+)""", page)


def test_the_docs_page_needs_no_other_host(ledger, document):
    answer = ledger.get("/docs")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/html")
    page, seen = answer.body.decode(), set()
    for path in ("/v1/events", "/v1/balances/", "/v1/locks"):
        assert path in page or "openapi.json" in page, f"{path} is not in the page"
    left = [("/docs", page)]
    while left:
        base, text = left.pop()
        for reference in referred_to(text):
            assert not urlsplit(reference).netloc, f"{base} refers to {reference}"
            target = urljoin(base, reference).partition("#")[0]
            if target in seen or reference.startswith(("#", "data:", "mailto:", "{", "$")) or "${" in reference:
                continue
            seen.add(target)
            asset = ledger.get(target)
            assert asset.status == 200, f"{base} refers to {reference}: {asset.status}"
            if asset.headers["content-type"].startswith(("text/css", "text/html")):
                left.append((target, asset.body.decode()))


def one_place_changed(value, data):
    """The JSON with nothing or one thing in it replaced by chance."""
    if isinstance(value, (dict, list)) and value and data.draw(st.integers(0, 3)):
        places = list(value) if isinstance(value, dict) else list(range(len(value)))
        place = data.draw(st.sampled_from(places))
        copy = value.copy()
        copy[place] = one_place_changed(value[place], data)
        return copy
    return data.draw(ANY_JSON | LIKELY) if data.draw(st.integers(0, 2)) else value


def made_real(case, data) -> None:
    """Every other time: a real name, query or body, with a thing changed in it or none."""
    place = case.path.rpartition("/")[0]
    if place in NAMES and case.path_parameters and data.draw(st.booleans()):
        (parameter,) = case.path_parameters
        case.path_parameters[parameter] = data.draw(st.sampled_from(NAMES[place]))
        period = PERIOD if data.draw(st.booleans()) else {}
        kept = data.draw(st.sets(st.sampled_from(sorted(QUERY))))
        case.query = {**{name: QUERY[name] for name in kept | {"storage_id"}}, **period}
    if case.path in BODIES and case.method.upper() == "POST" and data.draw(st.booleans()):
        case.body = one_place_changed(BODIES[case.path], data)
    for container in (case.query, case.body):  # nobody waits for long here
        if isinstance(container, dict) and isinstance(container.get("wait_seconds"), (int, float)):
            container["wait_seconds"] = min(container["wait_seconds"], 0)


class Fuzz:
    """Random calls of every operation; what the document does not allow is collected, the first of each operation."""

    def __init__(self):
        self.counts, self.failures = collections.Counter(), {}

    def run(self, operation, mode) -> None:
        name = f"{operation.method.upper()} {operation.path}"

        # Nothing is raised within, so hypothesis has nothing to shrink or to play again.
        @hypothesis.given(case=operation.as_strategy(mode), data=st.data())
        @hypothesis.settings(
            max_examples=EXAMPLES if operation.path.startswith("/v1/") else FEW, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
        )
        def call(case, data):
            made_real(case, data)
            try:
                response = case.call(timeout=20)
            except requests.exceptions.InvalidJSONError:
                return  # infinity, which no JSON can say
            self.counts[name, response.status_code] += 1
            try:
                case.validate_response(response, checks=CHECKS)
            except FailureGroup as problem:
                self.failures.setdefault(name, str(problem))

        # An operation without input has no wrong input.
        with contextlib.suppress(hypothesis.errors.Unsatisfiable):
            call()


@pytest.mark.timeout(180)
@pytest.mark.long
def test_a_fuzz_from_the_document(ledger):
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{ledger.port}/openapi.json")
    operations, fuzz = [found.ok() for found in schema.get_all_operations()], Fuzz()
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            fuzz.run(operation, mode)
    called = {name for name, _ in fuzz.counts}
    by_class = collections.Counter(status // 100 for _, status in fuzz.counts.elements())
    print(f"{fuzz.counts.total()} calls of {len(called)} operations: {dict(by_class)}")
    assert not fuzz.failures, "\n".join(f"{name}: {problem}" for name, problem in fuzz.failures.items())
    assert len(called) == len(operations) and min(by_class[2], by_class[4]) > 50
    assert ledger.get("/v1/types").status == 200
