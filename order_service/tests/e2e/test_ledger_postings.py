"""Hazard: an order is reported as processed without its ledger events, or posts them twice or with other content.

At rest: units out of storages = units into pickup points = orders processed, for every storage, pickup point and
product; also after `kill -9` under load and after a change of the posting rule in the middle of it.
"""

import re
from decimal import Decimal

import pytest

from client import FAILED, FINISHED
from foreign_data_manager import Behaviour
from history import OK, UNKNOWN
from ledger_bundle import Bundle
from ledger_events import INFLOW, OUTFLOW, read_time, utc_now
from ledger_oracle import total_of
from load import Load
from posted_units import (
    POINTS,
    STORAGES,
    Watcher,
    assert_balanced,
    full_units_in,
    full_units_out,
    place,
    processed_orders,
)
from test_kill import check_nothing_lost, kill_under_load
from waiting import wait_until

RULE = "/postings/posting-rule-1.yml"


def placing_manager(platform, **kwargs):
    foreign = platform.foreign_data_manager(**kwargs)
    foreign.data = place
    return foreign


def test_what_is_processed_can_be_read(platform):
    """Immediately after the answer, by clients that know nothing but the answer; one product an order."""
    placing_manager(platform, batch=True)
    service = platform.order_service()
    client, ledger = platform.client(service), platform.ledger_client(service)
    for first in range(-100, 100, 20):
        for answer in client.process([(n, 1_000 + n) for n in range(first, first + 20)]):
            assert answer.is_processed
            storage, point, product = answer.storage_id, answer.pickup_point_id, {"product_id": answer.product_id}
            out = ledger.balances(OUTFLOW, {"storage_id": storage}, **product, pickup_point_id=point).ok()
            into = ledger.balances(INFLOW, {"pickup_point_id": point}, **product, storage_id=storage).ok()
            assert (total_of(out), total_of(into)) == ((1, 0), (0, 1)), answer
    check_events_of_one_order(ledger)
    again = client.process([(n, 1_000 + n) for n in range(-100, 100)])
    assert all(answer.is_processed for answer in again)
    assert_balanced(ledger, client.list_all())


def check_events_of_one_order(ledger) -> None:
    """The default rule's two events: amount, attributes, one and the same moment."""
    storage, point = place(50)
    (out,) = [e for e in ledger.listing(OUTFLOW, {"storage_id": storage}) if e["attributes"]["product_id"] == 1_050]
    (into,) = [e for e in ledger.listing(INFLOW, {"pickup_point_id": point}) if e["attributes"]["product_id"] == 1_050]
    everything = {"storage_id": storage, "pickup_point_id": point, "product_id": 1_050}
    assert out["attributes"] == into["attributes"] == everything
    assert Decimal(out["debit"]) == Decimal(into["credit"]) == 1 and read_time(out["dt"]) == read_time(into["dt"])
    assert abs((utc_now() - read_time(out["dt"])).total_seconds()) < 60


def test_orders_that_never_got_their_data_post_nothing(platform):
    foreign = placing_manager(platform, default=Behaviour.BEFORE)
    service = platform.order_service("--callback-timeout", "300ms")
    client, ledger = platform.client(service), platform.ledger_client(service)
    foreign.plans = {1: Behaviour.SILENT, 2: Behaviour.TWICE}
    answers = client.process([(1, 1), (2, 1), (3, 1)], timeout=3)
    assert [answer.is_processed for answer in answers] == [False, True, True] and foreign.faults[Behaviour.TWICE]
    assert_balanced(ledger, client.list_all())


@pytest.mark.timeout(300)
@pytest.mark.long
def test_twenty_kills_leave_the_books_balanced(platform):
    placing_manager(platform, default=Behaviour.BEFORE, batch=True)
    service = platform.order_service()
    client, ledger = platform.client(service), platform.ledger_client(service)
    watcher = Watcher(client, ledger)
    watcher.start()
    try:
        history, kills = kill_under_load(service)
        stored = check_nothing_lost(client, history, kills)
    finally:
        watcher.finish()
    assert len(watcher.samples) > 5 and watcher.missed > 0, "nothing was seen while running"
    assert_balanced(ledger, stored)
    assert {place(order.order_id) for order in stored} == {(s, p) for s in STORAGES for p in POINTS}


def doubled(bundle: Bundle) -> None:
    """The default rule, posting `2` where it posted `1`, under the same name."""
    (path,) = bundle.files(RULE)
    text, count = re.subn(r"""(\b(?:debit|credit|amount):\s*)(["']?)1\2(?=[\s,}]|$)""", r'\g<1>"2"', path.read_text())
    assert count == 2, f"{count} amounts of 1 in {path}"
    path.write_text(text)


def redescribed(bundle: Bundle) -> None:
    """Another description: another version of the rule, the same postings."""
    (path,) = bundle.files(RULE)
    text, count = re.subn(r"(?m)^description:.*$", "description: The same, said otherwise", path.read_text())
    assert count == 1
    path.write_text(text)


@pytest.mark.timeout(180)
@pytest.mark.long
def test_the_rule_changes_in_the_middle_of_the_load(platform):
    """With kills around it: events are sent again as they were computed once, so nothing ever conflicts."""
    placing_manager(platform, default=Behaviour.AFTER).delay = 0.05
    service, bundle = platform.order_service(), Bundle(platform.home / "bundle")
    client, ledger, kills = platform.client(service), platform.ledger_client(service), 0
    with Load(service.port, clients=4) as load:
        for change in (None, redescribed, doubled, None):
            seen = load.history.count(OK)
            wait_until(lambda seen=seen: load.history.count(OK) > seen + 30, 30, "orders go on")
            if change:
                change(bundle)
                bundle.bring_in(service, "postings")
            service.kill()
            kills += 1
            service.start()
        seen = load.history.count(OK)
        wait_until(lambda: load.history.count(OK) > seen + 30, 30, "orders after the last kill")
    client.wait_all_ended(timeout=60)
    assert kills == 4 and load.history.count(UNKNOWN) > 0, "no kill bit"
    check_units(client, ledger)


def check_units(client, ledger) -> None:
    """Each order posted the same amount on both sides, by one version of the rule or the other."""
    stored = client.list_all()
    assert not client.list_all(FAILED) and all(order.state == FINISHED for order in stored)
    out, into, orders = full_units_out(ledger), full_units_in(ledger), processed_orders(stored)
    assert out == into and out.keys() == orders.keys()
    assert {out[key] for key, count in orders.items() if count == 1} == {1, 2}, "both versions, and no other"
    assert all(count <= out[key] <= 2 * count for key, count in orders.items())
