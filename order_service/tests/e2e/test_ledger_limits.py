"""Hazard: sums lose digits, or a page skips or repeats events during concurrent writes before and after the cursor."""

import concurrent.futures
import datetime
import itertools
import random
import threading

import pytest

from ledger_client import LedgerClient
from ledger_events import FIRST_MOMENT, LAST_MOMENT, OUTFLOW, START, new_id, outflow, statuses, written_time
from ledger_oracle import total_of
from ledger_sharding import ids_on
from waiting import wait_until

CALLS, EVENTS_A_CALL = 100, 10_000
LARGEST = 10**24 - 1  # in units of 10^-9: 15 digits before the point and 9 after it
# Written as text, because building a million dictionaries would take longer than storing them.
EVENT = (
    '{"type":"storage_outflow","event_id":"m%d-%d","dt":"2024-%02d-%02dT00:00:00Z",'
    '"attributes":{"storage_id":%d,"product_id":%d},"debit":"%d.%09d"}'
)


def decimal_text(units: int) -> str:
    return f"{units // 10**9}.{units % 10**9:09}"


def written_call(call: int) -> tuple[bytes, int]:
    """The body of one call, all about the storage of that number, and the sum of its amounts."""
    chance, events, total = random.Random(call), [], 0
    for number in range(EVENTS_A_CALL):
        units = LARGEST - chance.randrange(10**9) if number % 3 else chance.randrange(10**10)
        total += units
        month, day, product = number % 6 + 1, number % 28 + 1, number % 7
        events.append(EVENT % (call, number, month, day, 300 + call % 4, product, units // 10**9, units % 10**9))
    return b'{"events":[' + ",".join(events).encode() + b"]}", total


@pytest.mark.timeout(240)
@pytest.mark.long
def test_a_million_amounts_at_the_limits(ledger):
    def send(call: int) -> int:
        body, total = written_call(call)
        answer = ledger.call("POST", "/v1/events", body)
        assert answer.ok() and answer.body.count(b'"created"') == EVENTS_A_CALL
        return total

    with concurrent.futures.ThreadPoolExecutor(4) as writers:
        totals = list(writers.map(send, range(CALLS)))
    for storage in range(4):
        wanted = sum(totals[call] for call in range(CALLS) if call % 4 == storage)
        body = ledger.balances(OUTFLOW, {"storage_id": 300 + storage}).ok()
        debit, credit = total_of(body)
        assert (debit * 10**9, credit) == (wanted, 0) and str(debit) == body["groups"][0]["balance"]
    body = ledger.balances(OUTFLOW, {"storage_id": 300}, group_by=["product_id"]).ok()
    by_product = [group["balance"] for group in body["groups"]]
    whole = sum(int(text.partition(".")[0]) * 10**9 + int(text.partition(".")[2].ljust(9, "0")) for text in by_product)
    assert len(by_product) == 7 and whole == sum(totals[::4])


@pytest.mark.parametrize(
    ("amounts", "total"),
    [
        (["999999999999999.999999999"] * 2, "1999999999999999.999999998"),
        (["0.000000001", "0.100000000", "10"], "10.100000001"),
        (["12.50"], "12.5"),
        (["100", "900"], "1000"),
        (["0.0", "0"], "0"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_totals_are_written_without_trailing_zeros(ledger, amounts, total):
    storage = random.randrange(10**6, 10**9)
    ledger.write([outflow(storage, amount) for amount in amounts]).ok()
    (group,) = ledger.balances(OUTFLOW, {"storage_id": storage}).ok()["groups"]
    assert group == {"attributes": {}, "debit": total, "credit": "0", "balance": total}


def test_a_balance_below_zero(ledger):
    event = outflow(400)
    event["credit"] = event.pop("debit").replace("1", "999999999999999.999999999")
    ledger.write([event, outflow(400, "0.000000001")]).ok()
    (group,) = ledger.balances(OUTFLOW, {"storage_id": 400}).ok()["groups"]
    assert group["balance"] == "-999999999999999.999999998"


def minute(number: int) -> datetime.datetime:
    return START + datetime.timedelta(minutes=number)


def test_pages_stay_stable_while_a_writer_writes_on_both_sides(ledger):
    there_before = [outflow(401, at=minute(2 * n)) for n in range(1000)]
    ledger.write(there_before).ok()
    stop, written = threading.Event(), []

    def write():
        chance = random.Random(1)
        while not stop.is_set():
            event = outflow(401, at=minute(2 * chance.randrange(1000) + 1))
            ledger.write([event]).ok()
            written.append(event["event_id"])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        listed, token, pages = [], None, 0
        while pages == 0 or token:
            seen = len(written)
            page = ledger.page(OUTFLOW, {"storage_id": 401}, limit=20, token=token).ok()
            assert len(page["events"]) <= 20
            listed += page["events"]
            token, pages = page.get("next_page_token"), pages + 1
            wait_until(lambda seen=seen: len(written) >= seen + 2, 10, "writes between the pages", every=0.002)
    finally:
        stop.set()
        thread.join(10)
    ids, times = [e["event_id"] for e in listed], [e["dt"] for e in listed]
    assert len(ids) == len(set(ids)) and times == sorted(times), "a page repeated an event or went back"
    old = {event["event_id"] for event in there_before}
    assert old <= set(ids) <= old | set(written)
    assert len(ids) > 1000 and len(written) > pages, "nothing was written between the pages"


def test_equal_times_are_in_the_order_of_their_ids(ledger):
    """`(dt, id)`: many events of one moment, written in any order, cut by pages of every size."""
    ids = [new_id("tie") for _ in range(100)] + ["A", "a", "B", "b", "10", "9", "ä", "Z"]
    events = [outflow(402, event_id=event_id) for event_id in ids]
    random.shuffle(events)
    ledger.write(events).ok()
    for limit in (1, 7, 50, 1000):
        listed = ledger.listing(OUTFLOW, {"storage_id": 402}, limit=limit)
        assert [event["event_id"] for event in listed] == sorted(ids, key=str.encode), limit


def test_a_listing_keeps_to_its_period_and_needs_none(ledger):
    ledger.write([outflow(403, event_id=f"p{n:03}", at=minute(n)) for n in range(100)]).ok()

    def listed(since=None, until=None) -> list[str]:
        bounds = [number if number is None else written_time(minute(number)) for number in (since, until)]
        return [event["event_id"] for event in ledger.listing(OUTFLOW, {"storage_id": 403}, *bounds)]

    whole = [f"p{n:03}" for n in range(100)]
    assert listed() == whole and listed(10) == whole[10:] and listed(None, 20) == whole[:20]
    assert listed(10, 20) == whole[10:20] and listed(20, 20) == []


def test_months_of_130_years(ledger):
    """Months without a partition are made on demand, by four writers of one shard at once; one month in seven."""
    months = [f"{1970 + n // 12}-{n % 12 + 1:02}" for n in range(0, 131 * 12, 7)] + ["2100-12"]
    storages = list(itertools.islice(ids_on("s0", start=404), 4))
    clients = [LedgerClient(ledger.port) for _ in storages]

    def send(share: int) -> None:
        events = [outflow(storages[share], at=f"{month}-15T12:00:00Z") for month in months]
        random.shuffle(events)
        for start in range(0, len(events), 40):
            assert set(statuses(clients[share].write(events[start : start + 40]))) == {"created"}

    with concurrent.futures.ThreadPoolExecutor(4) as writers:
        list(writers.map(send, range(4)))
    for storage, client in zip(storages, clients, strict=True):
        listed = client.listing(OUTFLOW, {"storage_id": storage}, FIRST_MOMENT, LAST_MOMENT, limit=100)
        assert [event["dt"][:7] for event in listed] == months
        client.close()
