"""Hazard: a balance reflects only the aggregated events, not all written ones.

The aggregator is stopped, killed, restarted and delayed while events come in, backdated, at the edges of months and
years, and on leap days, for types aggregated by hour, day and month. Every answer, at every moment and date, must match
an independent exact model; and `explain` must agree with the tables.
"""

import datetime
import random

import pytest

import background_tasks
from embedded_postgres import psql
from ledger_bundle import ACCOUNT, Bundle, wait_for_types
from ledger_events import read_time, statuses, written_time
from ledger_months import settle
from ledger_oracle import Oracle, groups_of
from ledger_sharding import shard_of
from random_ledger import Question, random_amount
from roles_apart import Roles
from waiting import wait_until

SEED = random.randrange(2**32)
MICROSECOND = datetime.timedelta(microseconds=1)
INTERVALS = ("hour", "day", "month")
GROUPINGS = [[], ["product_id"], ["product_id", "region"]]


def utc(*moment) -> datetime.datetime:
    return datetime.datetime(*moment, tzinfo=datetime.UTC)


# Leap days (2000 is a leap year, 1900 and 2100 are none), ends of short months and of years, and of all time.
EDGES = [
    utc(1970, 1, 1),
    utc(1972, 2, 29),
    utc(1999, 12, 31, 23, 59, 59, 999999),
    utc(2000, 2, 29, 12),
    utc(2000, 3, 1),
    utc(2023, 2, 28, 23, 59, 59, 999999),
    utc(2024, 2, 29),
    utc(2024, 2, 29, 23, 0, 0, 1),
    utc(2024, 3, 1),
    utc(2024, 12, 31, 23),
    utc(2025, 1, 1),
    utc(2025, 4, 30, 23, 59, 59, 999999),
    utc(2096, 2, 29, 1),
    utc(2100, 2, 28, 23, 59, 59, 999999),
    utc(2100, 12, 31, 23, 59, 59, 999999),
]


def type_of(interval: str) -> dict:
    return {
        "name": f"by_{interval}",
        "description": f"Aggregated by the {interval}",
        "key_attributes": [{"name": "account", "type": "int"}],
        "attributes": [{"name": "product_id", "type": "int"}, {"name": "region", "type": "string"}],
        "groupings": GROUPINGS[1:],
        "shard_key": ["account"],
        "aggregate": interval,
    }


class Lagging:
    """A ledger whose aggregator is a process of its own, the model of what was written, and questions to both."""

    def __init__(self, platform):
        self.platform, self.chance, self.number = platform, random.Random(SEED), 0
        service = platform.order_service("--roles", "grpc,http,sequencer")
        self.client = platform.ledger_client(service)
        self.aggregator = Roles(platform, "aggregator", start=False)
        bundle = Bundle(platform.home / "bundle")
        for interval in INTERVALS:
            bundle.add(ACCOUNT, type_of(interval))
        bundle.bring_in(service)
        self.types = [type_of(interval)["name"] for interval in INTERVALS]
        wait_for_types(self.client, *self.types)
        self.oracle = Oracle({name: ("account",) for name in self.types})

    def moment(self) -> datetime.datetime:
        """An edge, a little beside one, or anything near one."""
        edge = self.chance.choice(EDGES)
        beside = self.chance.choice((0, 0, 1, -1, 3_600_000_000, -86_400_000_000, self.chance.randrange(10**13)))
        return min(max(edge + beside * MICROSECOND, EDGES[0]), EDGES[-1])

    def write(self, count: int) -> None:
        """Events of all types, accounts and dates, in one call."""
        events = []
        for self.number in range(self.number + 1, self.number + 1 + count):
            attributes = {"account": self.chance.randint(1, 3)}
            for name, values in (("product_id", (1, 2, None)), ("region", ("north", "süd", None))):
                attributes[name] = self.chance.choice(values)
            side, offset = self.chance.choice(("debit", "credit")), self.chance.choice((0, 0, 345, -300))
            zone = datetime.timezone(datetime.timedelta(minutes=offset))
            dt = self.moment()
            # In another offset the year may be another one.
            dt = dt.astimezone(zone) if 1970 < dt.year < 2100 else dt
            event = {"type": self.chance.choice(self.types), "event_id": f"e{self.number}", "dt": written_time(dt)}
            events.append({**event, "attributes": attributes, side: random_amount(self.chance)})
        assert statuses(self.client.write(events)) == [self.oracle.add(event) for event in events]

    def question(self) -> Question:
        group_by = self.chance.choice(GROUPINGS)
        since, until = sorted((self.moment(), self.moment()))
        account = {"account": self.chance.randint(1, 3)}
        return Question(self.chance.choice(self.types), account, self.chance.choice((None, since)), until, group_by, {})

    def agrees(self, count: int = 25) -> None:
        for question in (self.question() for _ in range(count)):
            answer = groups_of(question.ask(self.client), question.group_by)
            assert answer == question.answer_of(self.oracle), f"seed {SEED}: {question}"

    def lag(self) -> int:
        """Numbered events that are not in the sums."""
        return sum(shard["last_seq"] - shard["aggregated_seq"] for shard in self.client.shards().values())

    def numbered(self) -> None:
        wait_until(lambda: all(s["events"] == s["last_seq"] for s in self.client.shards().values()), 20, "all numbered")

    def explained(self, question: Question) -> dict:
        """What the answer was made of; its parts must be all of the events that the model knows."""
        key, at = question.key, written_time(question.until)
        body = self.client.balances(question.type_name, key, at, question.group_by, explain=True).ok()
        assert groups_of(body, question.group_by) == question.answer_of(self.oracle), f"seed {SEED}: {question}"
        explain = body["explain"]
        events = len(self.oracle.entries(question.type_name, key, until=question.until))
        aggregated = explain["aggregate"]["events"] if explain["aggregate"] else 0
        assert aggregated + explain["events_after_cut_off"] + explain["events_not_aggregated"] == events, explain
        assert explain["shard"] == shard_of(key)
        return explain

    def agrees_with_the_tables(self, question: Question, explain: dict) -> None:
        """At rest, as an operator would look it up."""
        shard = explain["shard"]
        (last_seq,) = self.row(shard, "SELECT last_seq FROM sequence")
        assert str(explain["last_seq"]) == last_seq
        used = explain["aggregate"]
        interval, names = question.type_name.removeprefix("by_"), ",".join(sorted(used["grouping"]))
        which = f"type = '{question.type_name}' AND attributes = '{names}' AND interval = '{interval}'"
        (aggregated_seq,) = self.row(shard, f"SELECT aggregated_seq FROM groupings WHERE {which}")
        assert str(used["aggregated_seq"]) == aggregated_seq and used["interval"] == interval
        # The cut-off is the beginning of the interval that the date lies in.
        cut_off = read_time(used["cut_off"])
        assert cut_off == beginning(interval, question.until)
        # Once from the events, once from the finest sums that are kept.
        named = f"type = '{question.type_name}' AND attributes = 'account={question.key['account']}'"
        account = f"(SELECT account_id FROM accounts WHERE {named})"
        raw = f"""SELECT count(*) FROM events e JOIN batches b USING (batch_id) WHERE e.account_id = {account}
            AND e.dt < '{used["cut_off"]}' AND b.first_seq + e.place <= {aggregated_seq}"""
        kept = f"""SELECT coalesce(sum(a.events), 0) FROM aggregates a JOIN groupings g USING (grouping_id)
            WHERE a.account_id = {account} AND {which} AND level = '{interval[0]}' AND period < '{used["cut_off"]}'"""
        assert self.row(shard, raw) == self.row(shard, kept) == [str(used["events"])], (question, explain)

    def row(self, shard: str, sql: str) -> list[str]:
        return psql(self.platform.data_dir, sql, shard=shard).split("|")


def beginning(interval: str, moment: datetime.datetime) -> datetime.datetime:
    whole = {"minute": 0, "second": 0, "microsecond": 0}
    whole |= {"hour": {}, "day": {"hour": 0}, "month": {"hour": 0, "day": 1}}[interval]
    return moment.astimezone(datetime.UTC).replace(**whole)


@pytest.fixture
def lagging(platform):
    return Lagging(platform)


@pytest.mark.timeout(180)
@pytest.mark.long
def test_every_answer_is_exact_whether_the_aggregator_runs_lags_or_dies(lagging):
    lagging.write(200)
    lagging.agrees()  # nothing was ever aggregated
    deaths = 0
    for turn in range(4):
        lagging.aggregator.start()
        for _ in range(12):  # under way
            lagging.write(lagging.chance.randint(1, 40))
            lagging.agrees(4)
        if turn % 2:
            lagging.aggregator.stop()
        else:
            lagging.aggregator.kill()
            deaths += 1
        for _ in range(4):
            lagging.write(30)
            lagging.agrees(8)
        lagging.numbered()
        assert lagging.lag() > 0, "nothing was left behind"
        lagging.agrees()
    lagging.aggregator.start()
    settle(lagging.client, exported=False)
    lagging.agrees(150)
    print(f"seed {SEED}: {lagging.number} events, {deaths} aggregators killed")


@pytest.mark.long
def test_explain_says_what_the_tables_say_lagging_and_not(lagging):
    lagging.aggregator.start()
    lagging.write(400)
    settle(lagging.client, exported=False)
    questions = [lagging.question() for _ in range(30)]
    questions = [Question(q.type_name, q.key, None, q.until, q.group_by, {}) for q in questions]
    aggregated = 0
    for question in questions:
        explain = lagging.explained(question)
        assert explain["events_not_aggregated"] == 0
        lagging.agrees_with_the_tables(question, explain)
        aggregated += explain["aggregate"]["events"]
    assert aggregated > 0, "no answer was made of aggregates"
    lagging.aggregator.stop()
    lagging.write(200)
    assert any(lagging.explained(question)["events_not_aggregated"] for question in questions)
    lagging.numbered()
    for question in questions:
        lagging.agrees_with_the_tables(question, lagging.explained(question))


def test_a_pass_that_is_asked_for_leaves_nothing_behind(platform, lagging):
    """Also when nobody has the role."""
    worker = Roles(platform, "http,tasks")
    for _ in range(3):
        lagging.write(100)
        lagging.numbered()
        outcome = background_tasks.done(platform.ledger_client(worker), "ledger.aggregates")
        shards = lagging.client.shards()
        assert outcome == {name: {"aggregated_seq": shard["last_seq"]} for name, shard in shards.items()}
        assert lagging.lag() == 0
        lagging.agrees()
