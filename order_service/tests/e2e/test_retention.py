"""Promise: dropped events stay in every sum, queries before the horizon are refused with its name, and only exported
events are dropped.
"""

import datetime
import itertools
import random

import pytest

import exported_files
from exporting import verified
from ledger_events import INFLOW, OUTFLOW, outflow, read_time, statuses, utc_now, written_time
from ledger_months import MAINTAINING, after, dropped, maintain, month_of, named, refused_before, settle
from ledger_oracle import Oracle, groups_of
from platform_under_test import ORDER_SERVICE_BIN
from ports import free_port
from processes import run_command
from ledger_sharding import DEFAULT_RANGES, shard_of
from random_ledger import Question, default_families, random_event
from roles_apart import Roles

SEED = random.randrange(2**32)
MICROSECOND = datetime.timedelta(microseconds=1)
KEYS = {OUTFLOW: ("storage_id",), INFLOW: ("pickup_point_id",)}
# Beyond any retention: the end of a year, and leap months.
OLD = [datetime.datetime(*first, 1, tzinfo=datetime.UTC) for first in ((1999, 12), (2016, 2), (2020, 2), (2024, 2))]
THIS = month_of(utc_now())
# Twelve months are kept, and this one.
FIRST_KEPT = after(THIS, -12)
KEPT = [after(FIRST_KEPT, n) for n in (0, 1, 6, 11)]


class Retained:
    """A ledger of which each job is done by a process of its own, and the oracle of what was written."""

    def __init__(self, platform):
        self.platform, self.chance, self.oracle = platform, random.Random(SEED), Oracle(KEYS)
        self.service = platform.order_service("--roles", "grpc,http,sequencer,aggregator")
        self.client = platform.ledger_client(self.service)
        self.exporter = Roles(platform, "exporter", start=False)
        Roles(platform, *MAINTAINING)
        self.families, self.written = default_families(first_id=1), []

    def write(self, count: int, months: list) -> list[dict]:
        """Random events in these months, often at their very edges."""
        events = []
        for _ in range(count):
            month = self.chance.choice(months)
            within = month + self.chance.random() * (min(after(month), utc_now()) - month)
            dt = self.chance.choice((within, within, month, after(month) - MICROSECOND))
            event = random_event(self.chance, self.families, len(self.written) + len(events))
            events.append({**event, "dt": written_time(min(dt, utc_now()))})
        for call in chunks(events, 100):
            assert statuses(self.client.write(call)) == [self.oracle.add(event) for event in call]
        self.written += events
        return events

    def horizons(self) -> dict:
        """Shard -> its horizon or None."""
        shown = {name: shard["horizon"] for name, shard in self.client.shards().items()}
        return {name: text and datetime.datetime.fromisoformat(text) for name, text in shown.items()}

    def questions(self, since: datetime.datetime):
        """Of every account, by every grouping: balances and turnovers whose beginning is not before `since`."""
        dates = [since, since + MICROSECOND, *(m for m in KEPT if m > since), THIS, utc_now() + MICROSECOND]
        for family, at in itertools.product(self.families, dates):
            for key, grouping in itertools.product(family.accounts, [[], *family.groupings]):
                yield Question(family.type_name, key, None, at, tuple(grouping), {})
                yield Question(family.type_name, key, since, max(at, since), tuple(grouping), {})

    def agrees_from(self, since_of, clients) -> int:
        """Everything that may be asked is as the oracle says, at every replica; how much was asked."""
        asked, turns = 0, itertools.cycle(clients)
        for shard, since in since_of.items():
            for question in self.questions(since):
                if shard_of(question.key) == shard:
                    body, asked = question.ask(next(turns)), asked + 1
                    wanted = question.answer_of(self.oracle)
                    assert groups_of(body, question.group_by) == wanted, f"seed {SEED}: {question}"
        return asked


def chunks(items: list, size: int) -> list[list]:
    return [items[n : n + size] for n in range(0, len(items), size)]


@pytest.fixture
def retained(platform):
    return Retained(platform)


def all_reasons(outcome: dict) -> dict[str, set]:
    """Month -> why it is kept, on all shards."""
    months = {}
    for month, reason in itertools.chain.from_iterable(shard["kept"].items() for shard in outcome.values()):
        months.setdefault(month, set()).add(reason.split(" (")[0])
    return months


@pytest.mark.long
@pytest.mark.timeout(180)
def test_closing_balances_stay_and_only_what_is_exported_goes(platform, retained):
    client, exporter = retained.client, retained.exporter
    other = platform.ledger_client(Roles(platform, "http"))
    retained.write(900, OLD + KEPT)
    settle(client, exported=False)
    # Nobody has exported anything.
    outcome = maintain(client)
    assert dropped(outcome) == set()
    assert all_reasons(outcome) == {named(month): {"it has events that are not exported"} for month in OLD}
    retained.agrees_from(dict.fromkeys(DEFAULT_RANGES, OLD[0]), [client, other])

    exporter.start()
    settle(client)
    exporter.stop()
    late = OLD[1]
    retained.write(60, [late])  # while no exporter runs
    settle(client, exported=False)
    outcome = maintain(client)
    assert dropped(outcome) >= {named(month) for month in OLD if month != late}
    assert all_reasons(outcome) == {named(late): {"it has events that are not exported"}}
    horizons = dict.fromkeys(DEFAULT_RANGES, after(OLD[-1]))
    assert retained.horizons() == horizons
    asked = retained.agrees_from(horizons, [client, other])

    exporter.start()
    settle(client)
    assert dropped(maintain(client)) == {named(late)}
    assert retained.horizons() == horizons, "it is that of the latest month that went"
    asked += retained.agrees_from(horizons, [client, other])
    print(f"seed {SEED}: {asked} questions agreed after months had gone")
    every_event_was_exported_once(platform, retained)
    beyond_the_horizon_is_refused(retained, [client, other])
    what_is_left_is_listed_and_fed(retained)
    old_ids_are_known(retained)
    the_ledger_and_its_export_are_sound(retained)


def the_ledger_and_its_export_are_sound(retained) -> None:
    """By the platform's own account."""
    checked = retained.service.command_line("ledger", "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    proof = verified(retained.service)
    gone = sum(shard["dropped"] for shard in proof["shards"])
    assert gone == sum(read_time(event["dt"]) < FIRST_KEPT for event in retained.written)


def every_event_was_exported_once(platform, retained) -> None:
    entries = [e for shard in DEFAULT_RANGES for e in exported_files.read(platform.data_dir / "export", shard)]
    exported = sorted(entry["event_id"] for entry in entries)
    assert exported == sorted(event["event_id"] for event in retained.written)


def beyond_the_horizon_is_refused(retained, clients) -> None:
    for client, family in itertools.product(clients, retained.families):
        for key in family.accounts:
            horizon = retained.horizons()[shard_of(key)]
            for date in (written_time(horizon - MICROSECOND), written_time(OLD[0]), "0001-01-01T00:00:00Z"):
                refused_before(client.balances(family.type_name, key, date), "at", horizon)
                refused_before(client.balances(family.type_name, key, date, family.groupings[0]), "at", horizon)
                refused_before(client.turnovers(family.type_name, key, date, None), "from", horizon)
                refused_before(client.page(family.type_name, key, since=date), "from", horizon)
            # From the beginning of time.
            refused_before(client.turnovers(family.type_name, key, None, None), "from", horizon)
            refused_before(client.page(family.type_name, key), "from", horizon)


def what_is_left_is_listed_and_fed(retained) -> None:
    client, left = retained.client, set()
    for type_name, key in retained.oracle.accounts():
        horizon = retained.horizons()[shard_of(key)]
        wanted = [entry.event_id for entry in retained.oracle.listing(type_name, key, horizon)]
        assert [event["event_id"] for event in client.listing(type_name, key, written_time(horizon))] == wanted
        left.update(wanted)
    fed = []
    for shard in DEFAULT_RANGES:
        error = client.feed(shard, after=0)
        begin = 0 if error.status == 200 else error.refused(400, "VALIDATION_ERROR")["args"]["dropped_seq"]
        while page := client.feed(shard, after=begin, limit=50).ok()["events"]:
            assert all(early["seq"] < late["seq"] for early, late in zip(page, page[1:]))
            fed += [event["event_id"] for event in page]
            begin = page[-1]["seq"]
    assert sorted(fed) == sorted(left), "the feed has what is there, each once"


def old_ids_are_known(retained) -> None:
    """Keys outlive dropped events."""
    before = retained.client.events_stored()
    for call in chunks(retained.written, 300):
        assert set(statuses(retained.client.write(call))) == {"duplicate"}
    other = {**retained.written[0], "info": {"changed": True}}
    retained.client.write([other]).refused(409, "CONFLICT")
    assert retained.client.events_stored() == before


def test_a_dropped_month_takes_late_events_and_goes_again(retained):
    client, storage = retained.client, {"storage_id": 1}
    retained.exporter.start()

    def balance(at=None) -> str:
        (group,) = client.balances(OUTFLOW, storage, at).ok()["groups"]
        return group["balance"]

    client.write([outflow(1, "5", at=OLD[0]), outflow(1, "7", at=THIS)]).ok()
    for turn in range(1, 4):
        settle(client)
        assert dropped(maintain(client)) == {named(OLD[0])}
        assert balance() == str(12 + 100 * (turn - 1))
        client.write([outflow(1, "100", at=OLD[0])]).ok()
        assert balance() == str(12 + 100 * turn) and balance(written_time(FIRST_KEPT)) == str(5 + 100 * turn)
        refused_before(client.balances(OUTFLOW, storage, written_time(OLD[0])), "at", after(OLD[0]))
    elsewhere = next(n for n in itertools.count(1) if shard_of({"storage_id": n}) != shard_of(storage))
    # Other shards have lost nothing.
    assert client.balances(OUTFLOW, {"storage_id": elsewhere}, written_time(OLD[0])).ok()


@pytest.mark.parametrize("retention", ["0months", "12", "90days", "-1months", "forever", "1001years"])
def test_a_retention_that_is_none_is_refused_at_start(platform, retention):
    ports = ("--http-port", free_port(), "-app_port", free_port())
    home = {"ORDER_SERVICE_DATA_DIR": str(platform.data_dir)}
    refused = run_command([ORDER_SERVICE_BIN, *ports, f"--ledger-retention={retention}"], env=home)
    assert refused.returncode == 2 and refused.stderr.startswith("error: --ledger-retention"), refused
    assert f"`{retention}` is not allowed (none, or months or years such as 24months" in refused.stderr
