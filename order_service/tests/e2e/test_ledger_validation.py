"""Hazard: an invalid event or query is accepted, partially accepted, or refused without a reason.

Each is 400 `VALIDATION_ERROR` with the field named, also among valid ones; and nothing is written.
"""

import http.client
import json
import select

import pytest

from bad_events import BODIES, GOOD, GOOD_WIDE, OUTFLOW_EVENTS, WIDE_EVENTS, changed, nested
from ledger_client import LedgerClient
from ledger_events import FIRST_MOMENT, LAST_MOMENT, new_id, outflow, statuses
from ledger_oracle import total_of

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def nothing_is_written(request):
    """The number of stored events is the same after each test, unless it is marked as one that writes."""
    client = request.getfixturevalue("wide_ledger")
    before = client.events_stored()
    yield
    if not request.node.get_closest_marker("writes"):
        assert client.events_stored() == before


def assert_names(answer, words: list[str]) -> None:
    """A validation error that names one of `words`."""
    error = answer.refused(400, "VALIDATION_ERROR")
    told = json.dumps(error, ensure_ascii=False)
    assert not words or any(word in told for word in words), f"none of {words} in {told[:600]}"


@pytest.mark.parametrize(("event", "words"), OUTFLOW_EVENTS.values(), ids=OUTFLOW_EVENTS)
def test_a_bad_event_among_good_ones(wide_ledger, event, words):
    assert_names(wide_ledger.write([outflow(1), event, outflow(2)]), words)


@pytest.mark.parametrize(("event", "words"), WIDE_EVENTS.values(), ids=WIDE_EVENTS)
def test_a_bad_attribute_of_each_type(wide_ledger, event, words):
    assert_names(wide_ledger.write([event]), words)


@pytest.mark.parametrize(("body", "words"), BODIES.values(), ids=BODIES)
def test_a_bad_body(wide_ledger, body, words):
    assert_names(wide_ledger.call("POST", "/v1/events", body), words)


def test_ten_thousand_and_one_events(wide_ledger):
    assert_names(wide_ledger.write([outflow(1) for _ in range(10_001)]), ["events", "10000", "10,000", "10_000"])


def upload(port: int, size: int) -> tuple[int, bytes]:
    """A body of so many bytes, sent piece by piece and only for as long as the server does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("POST", "/v1/events")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(size))
    connection.endheaders(b'{"events": [')
    left = size - len(b'{"events": [')
    while left and not select.select([connection.sock], [], [], 0.001)[0]:
        piece = b" " * min(left, 256 * 1024)
        left -= len(piece)
        try:
            connection.send(piece)
        except OSError:
            break  # closed on us: the answer is on its way
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def test_a_body_over_eight_mib(wide_ledger):
    status, body = upload(wide_ledger.port, 8 * MIB + 1)
    assert status == 413 and json.loads(body)["error"]["code"] == "TOO_LARGE"
    status, body = upload(wide_ledger.port, 8 * MIB)
    assert status == 400 and json.loads(body)["error"]["code"] == "VALIDATION_ERROR", "exactly 8 MiB is not over 8 MiB"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_another_content_type(wide_ledger, kind):
    body = json.dumps({"events": [GOOD]}).encode()
    answer = wide_ledger.call("POST", "/v1/events", body, {"Content-Type": kind})
    assert 400 <= answer.status < 500 and answer.error()["message"]


OUTFLOW_QUESTIONS = {
    "no key attribute": ("", ["storage_id"]),
    "an unknown key": ("storage=1", ["storage"]),
    "a key that is text": ("storage_id=one", ["storage_id"]),
    "a key that is empty": ("storage_id=", ["storage_id"]),
    "a key that is a fraction": ("storage_id=1.0", ["storage_id"]),
    "a key of 65 bits": (f"storage_id={2**63}", ["storage_id"]),
    "a key twice": ("storage_id=1&storage_id=2", ["storage_id"]),
    "an unknown parameter": ("storage_id=1&colour=red", ["colour"]),
    "a key of another type": ("storage_id=1&currency=EUR", ["currency"]),
    "a filter that is text": ("storage_id=1&product_id=one", ["product_id"]),
    "a filter twice": ("storage_id=1&product_id=1&product_id=2", ["product_id"]),
    "grouped by nobody knows what": ("storage_id=1&group_by=colour", ["colour", "group_by"]),
    "grouped by the key": ("storage_id=1&group_by=storage_id", ["storage_id", "group_by"]),
}
WIDE_KEY, REGION = "client_id=1&currency=EUR", "region=6f0d2c6e-0000-4000-8000-000000000001"
WIDE_QUESTIONS = {
    "half a key": ("client_id=1", ["currency"]),
    "grouped by what is in no grouping": (f"{WIDE_KEY}&group_by=rank", ["rank", "group_by"]),
    "filtered by what is in no grouping": (f"{WIDE_KEY}&rank=1", ["rank"]),
    "grouped across two groupings": (f"{WIDE_KEY}&group_by=product,region", ["region", "group_by"]),
    "a filter and a grouping across two": (f"{WIDE_KEY}&group_by=product&{REGION}", ["region", "group_by"]),
    "two filters across two groupings": (f"{WIDE_KEY}&due=2026-01-01&{REGION}", ["due", "region"]),
    "a bool that is none": (f"{WIDE_KEY}&group_by=region&urgent=yes", ["urgent"]),
    "a date that is none": (f"{WIDE_KEY}&due=2026-02-30", ["due"]),
    "a uuid that is none": (f"{WIDE_KEY}&region=7", ["region"]),
}
PERIOD = "from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z"


@pytest.mark.parametrize("route", ["balances", "turnovers"])
@pytest.mark.parametrize(("query", "words"), OUTFLOW_QUESTIONS.values(), ids=OUTFLOW_QUESTIONS)
def test_a_bad_question(wide_ledger, route, query, words):
    period = f"&{PERIOD}" if route == "turnovers" else ""
    assert_names(wide_ledger.get(f"/v1/{route}/storage_outflow?{query}{period}"), words)


@pytest.mark.parametrize(("query", "words"), WIDE_QUESTIONS.values(), ids=WIDE_QUESTIONS)
def test_a_grouping_or_filter_that_is_not_allowed(wide_ledger, query, words):
    assert_names(wide_ledger.get(f"/v1/balances/client_commission?{query}"), words)


@pytest.mark.parametrize("moment", ["yesterday", "2026-01-01T00:00:00", "2026-01-01", "", "1767225600"])
def test_a_bad_time_in_a_question(wide_ledger, moment):
    key, good = {"storage_id": 1}, "2026-02-01T00:00:00Z"
    assert_names(wide_ledger.balances("storage_outflow", key, at=moment), ["at"])
    assert_names(wide_ledger.turnovers("storage_outflow", key, moment, good), ["from"])
    assert_names(wide_ledger.turnovers("storage_outflow", key, good, moment), ["to"])
    assert_names(wide_ledger.page("storage_outflow", key, moment, good), ["from"])


@pytest.mark.parametrize("route", ["balances", "turnovers", "events", "states"])
def test_an_unknown_type_in_a_question(wide_ledger, route):
    period = f"&{PERIOD}" if route == "turnovers" else ""
    assert_names(wide_ledger.get(f"/v1/{route}/taxi?storage_id=1{period}"), ["taxi", "type"])


@pytest.mark.parametrize("limit", ["0", "-1", "many", "1.5", ""])
def test_a_bad_limit(wide_ledger, limit):
    assert_names(wide_ledger.get(f"/v1/events/storage_outflow?storage_id=1&limit={limit}"), ["limit"])


@pytest.mark.writes
def test_a_page_token_of_nobody_or_of_somebody_else(wide_ledger):
    wide_ledger.write([outflow(71), outflow(71), outflow(72), outflow(72)]).ok()
    token = wide_ledger.page("storage_outflow", {"storage_id": 71}, limit=1).ok()["next_page_token"]
    nonsense = wide_ledger.page("storage_outflow", {"storage_id": 71}, limit=1, token="nonsense")
    assert_names(nonsense, ["page_token"])
    assert_names(wide_ledger.page("storage_outflow", {"storage_id": 72}, limit=1, token=token), ["page_token"])
    inflows = wide_ledger.page("pickup_point_inflow", {"pickup_point_id": 71}, limit=1, token=token)
    assert_names(inflows, ["page_token"])


@pytest.mark.writes
def test_what_lies_just_within_the_limits(wide_ledger):
    """The neighbours of the refused ones: were they refused, the tests above would show nothing."""
    edges = [
        changed(GOOD, event_id=new_id(), **fields)
        for fields in (
            {"debit": "9" * 15 + "." + "9" * 9},
            {"debit": "0"},
            {"debit": "0.000000000"},
            {"dt": FIRST_MOMENT},
            {"dt": LAST_MOMENT},
            {"dt": "2026-01-01T00:00:00.123456-23:59"},
            {"dt": "1970-01-01T01:00:00+01:00"},
            {"info": {"deep": nested(24)}},
            {"info": {}},
            {"attributes": {"storage_id": 2**63 - 1, "product_id": -(2**63)}},
        )
    ]
    wide = [
        changed(GOOD_WIDE, event_id=new_id(), attributes={**GOOD_WIDE["attributes"], "product": text})
        for text in ("", "x" * 256, "ü" * 128)
    ]
    answer = wide_ledger.write(edges + wide)
    assert answer.ok() and set(statuses(answer)) == {"created"}
    assert wide_ledger.write([outflow(73, "1") for _ in range(10_000)]).status == 200
    assert total_of(wide_ledger.balances("storage_outflow", {"storage_id": 73}).ok())[0] == 10_000


@pytest.mark.writes
@pytest.mark.parametrize(
    "fields",
    [{"event_id": "a\0b"}, {"info": {"a\0b": "c\0d"}}, {"event_id": "e" * 5000}, {"info": {"n": 1e300, "m": 10**30}}],
    ids=["zero byte in the id", "zero byte in info", "a long id", "large numbers"],
)
def test_odd_content_is_kept_as_it_is_or_refused(wide_ledger, fields):
    """What the specification does not decide; neither an internal error nor another content will do."""
    event = {**GOOD, "event_id": new_id(), "attributes": {"storage_id": 74}, **fields}
    answer = wide_ledger.write([event])
    if answer.status == 200:
        listed = wide_ledger.listing("storage_outflow", {"storage_id": 74})
        kept = [e for e in listed if e["event_id"] == event["event_id"]]
        assert len(kept) == 1 and kept[0].get("info", {}) == event.get("info", {})
    else:
        answer.refused(400, "VALIDATION_ERROR")


def test_no_events_at_all(wide_ledger):
    """Not decided either: an empty call may have an empty answer, or be refused."""
    answer = wide_ledger.write([])
    assert answer.status in (200, 400), answer
    if answer.status == 200:
        assert answer.json()["results"] == []
    else:
        assert_names(answer, ["events"])


def test_the_service_is_as_well_as_before(wide_ledger):
    """After all of the above: it answers at once, to an old connection and to a new one."""
    client = LedgerClient(wide_ledger.port, timeout=5)
    assert client.types() == wide_ledger.types()
    client.close()
