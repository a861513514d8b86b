"""Promise: balances, turnovers and listings are exact, at any date, by every allowed grouping and filter.

9,000 random events over 200 days and 12 accounts, backdated, some without their auxiliary attributes, written in calls
of random size and partly twice: every query then equals an independent computation.
"""

import random

import pytest

from ledger_client import LedgerClient
from ledger_events import statuses, written_time
from ledger_oracle import Oracle, groups_of, total_of
from random_ledger import default_families, random_event, random_question, wide_family

SEED = random.randrange(2**32)


def keys_of(families) -> dict:
    return {family.type_name: tuple(family.accounts[0]) for family in families}


def write_in_random_calls(client, oracle: Oracle, events: list, chance: random.Random) -> int:
    """Every event once and some twice, in random calls; the count of the duplicates."""
    again, left, duplicates = [], list(events), 0
    while left or again:
        size = chance.randint(1, 500)
        call, left = left[:size] + again, left[size:]
        chance.shuffle(call)
        again = chance.sample(call, min(len(call), 15)) if left and (not duplicates or chance.random() < 0.5) else []
        answer = client.write(call)
        answer.ok()
        wanted = [oracle.add(event) for event in call]
        assert statuses(answer) == wanted
        assert [result["event_id"] for result in answer.json()["results"]] == [event["event_id"] for event in call]
        duplicates += wanted.count("duplicate")
    return duplicates


def filled(client, families, count: int, seed: int, first: int) -> Oracle:
    """`first`: where this test's event numbers begin."""
    chance, oracle = random.Random(seed), Oracle(keys_of(families))
    events = [random_event(chance, families, first + number) for number in range(count)]
    before = sum(client.events_stored().values())
    duplicates = write_in_random_calls(client, oracle, events, chance)
    assert duplicates > 0 and len(oracle) == count, "nothing was written twice"
    assert sum(client.events_stored().values()) - before == count
    return oracle


def check_questions(client, oracle: Oracle, families, count: int, seed: int) -> None:
    chance = random.Random(seed)
    moments = [entry.dt for account in oracle.accounts() for entry in oracle.entries(*account)]
    grouped = 0
    for _ in range(count):
        question = random_question(chance, families, moments)
        body, wanted = question.ask(client), question.answer_of(oracle)
        assert groups_of(body, question.group_by) == wanted, f"seed {seed}: {question}"
        assert body["type"] == question.type_name and question.key.items() <= body["attributes"].items()
        grouped += len(wanted) > 1
    assert grouped > count / 5, "hardly a question had groups"


def check_listings(client, oracle: Oracle, seed: int) -> None:
    """Page by page, with pages of every size, whole and of a part of the time."""
    chance = random.Random(seed)
    for account in oracle.accounts():
        moments = sorted(entry.dt for entry in oracle.entries(*account))
        since, until = moments[len(moments) // 4], moments[len(moments) // 2]
        for period in ((None, None), (since, until)):
            wanted = oracle.listing(*account, *period)
            bounds = [moment and written_time(moment) for moment in period]
            listed = client.listing(*account, *bounds, limit=chance.choice((23, 100, 1000)))
            assert [event["event_id"] for event in listed] == [entry.event_id for entry in wanted], (seed, account)
            wrong = [(e.written, event) for e, event in zip(wanted, listed, strict=True) if not e.same_as(event)]
            assert not wrong, wrong[:3]


@pytest.mark.long
def test_nine_thousand_events_over_twelve_accounts(ledger):
    families = default_families(first_id=1)
    oracle = filled(ledger, families, 9_000, SEED, first=0)
    assert len(oracle.accounts()) == 12
    check_questions(ledger, oracle, families, 400, SEED)
    check_listings(ledger, oracle, SEED)
    for type_name, key in oracle.accounts():  # now, that is without `at`
        assert total_of(ledger.balances(type_name, key).ok()) == oracle.groups(type_name, key)[()]


def test_every_kind_of_attribute(wide_ledger):
    families = [wide_family()]
    oracle = filled(wide_ledger, families, 2_000, SEED + 1, first=0)
    check_questions(wide_ledger, oracle, families, 200, SEED + 1)
    check_listings(wide_ledger, oracle, SEED + 1)


def test_a_backdated_event_changes_the_dates_after_its_own_and_no_other(ledger):
    chance, families = random.Random(SEED), default_families(first_id=101)
    oracle = filled(ledger, families, 600, SEED + 2, first=1_000_000)
    dates = sorted(entry.dt for account in oracle.accounts() for entry in oracle.entries(*account))[::20]
    for number in range(20):
        late = random_event(chance, families, 2_000_000 + number)
        oracle.add(late)
        ledger.write([late]).ok()
        family = next(family for family in families if family.type_name == late["type"])
        key = {name: late["attributes"][name] for name in family.accounts[0]}
        for date in dates:
            balance = total_of(ledger.balances(late["type"], key, written_time(date)).ok())
            assert balance == oracle.groups(late["type"], key, until=date)[()], (SEED, late, date)


def test_an_account_without_events(ledger):
    key = {"storage_id": 987_654_321}
    assert ledger.balances("storage_outflow", key).ok()["groups"] == [
        {"attributes": {}, "debit": "0", "credit": "0", "balance": "0"}
    ]
    assert ledger.balances("storage_outflow", key, group_by=["product_id"]).ok()["groups"] == []
    assert ledger.listing("storage_outflow", key) == []


def test_what_was_answered_is_read_at_once(ledger):
    """From another connection than the one that wrote."""
    reader = LedgerClient(ledger.port)
    families, oracle = default_families(first_id=201), Oracle(keys_of(default_families(201)))
    for number in range(100):
        event = random_event(random.Random(SEED + number), families, 3_000_000 + number)
        oracle.add(event)
        ledger.write([event]).ok()
        family = next(family for family in families if family.type_name == event["type"])
        key = {name: event["attributes"][name] for name in family.accounts[0]}
        assert total_of(reader.balances(event["type"], key).ok()) == oracle.groups(event["type"], key)[()]
    reader.close()
