"""Random events and random queries for the oracle and the ledger.

Two families: the default bundle's accounts (backdated at random over 200 days), and the wide type with every kind of
attribute. Everything comes from the `random.Random` that is passed in: a run is reproducible by its seed.
"""

import dataclasses
import datetime
import random

from ledger_bundle import WIDE
from ledger_events import INFLOW, OUTFLOW, START, written_time

DAYS = 200
_OFFSETS = [datetime.timezone(datetime.timedelta(minutes=m)) for m in (0, 0, 60, -300, 345, 840)]


@dataclasses.dataclass(frozen=True)
class Family:
    """An account type as the generator needs it: accounts, values of each auxiliary attribute, allowed groupings."""

    type_name: str
    accounts: list
    values: dict
    groupings: list


def default_families(first_id: int) -> list[Family]:
    """Twelve accounts: six storages and six pickup points, with ids from `first_id` on."""
    ids = range(first_id, first_id + 6)
    products, places = list(range(1, 6)) + [-7, 2**63 - 1, -(2**63)], [3, 4, -5]
    both = [["product_id"], ["product_id", "{place}"]]
    families = []
    for name, key, place in ((OUTFLOW, "storage_id", "pickup_point_id"), (INFLOW, "pickup_point_id", "storage_id")):
        groupings = [[attribute.format(place=place) for attribute in grouping] for grouping in both]
        values = {"product_id": products, place: places}
        families.append(Family(name, [{key: number} for number in ids], values, groupings))
    return families


def wide_family() -> Family:
    """Accounts and values that are awkward on the way: percent signs, spaces, other scripts, the empty string."""
    clients = [{"client_id": n, "currency": c} for n in (1, -2) for c in ("EUR", "a b&c=d/ü+%20", "日本円")]
    values = {
        "product": ["x", "X", "", "ü", "a,b", "null", "\N{MONEY BAG} 100%", "y" * 256],
        "region": ["6f0d2c6e-0000-4000-8000-000000000001", "6f0d2c6e-0000-4000-8000-000000000002"],
        "due": ["1970-01-01", "2024-02-29", "2026-12-31"],
        "urgent": [True, False],
        "rank": [0, 1],
    }
    return Family(WIDE["name"], clients, values, WIDE["groupings"])


def random_amount(chance: random.Random) -> str:
    digits = chance.choice((1, 2, 3, 15))
    fraction = chance.choice(("", "", ".5", ".50", f".{chance.randrange(100):02}", f".{chance.randrange(10**9):09}"))
    return f"{chance.randrange(10**digits)}{fraction}"


def random_moment(chance: random.Random) -> datetime.datetime:
    """Anywhere in the period, often on the boundary of an hour, a day or a month, in some offset."""
    at = START + datetime.timedelta(microseconds=chance.randrange(DAYS * 86_400_000_000))
    cut = chance.choice(("", "", "", "hour", "day", "month"))
    if cut:
        at = at.replace(minute=0, second=0, microsecond=0)
    if cut in ("day", "month"):
        at = at.replace(hour=0)
    if cut == "month":
        at = max(START, at.replace(day=1))
    return at.astimezone(chance.choice(_OFFSETS))


def random_event(chance: random.Random, families: list, number: int) -> dict:
    family = chance.choice(families)
    event = {"type": family.type_name, "event_id": f"event-{number:06}", "dt": written_time(random_moment(chance))}
    event["attributes"] = dict(chance.choice(family.accounts))
    for name, values in family.values.items():
        fate = chance.random()
        if fate > 0.2:
            event["attributes"][name] = chance.choice(values)
        elif fate > 0.1:
            event["attributes"][name] = None  # the same as leaving it out
    event[chance.choice(("debit", "debit", "credit"))] = random_amount(chance)
    if chance.random() < 0.2:
        event["info"] = {"number": number, "text": "ü" * chance.randrange(5), "nested": {"a": [1, None, True]}}
    return event


@dataclasses.dataclass(frozen=True)
class Question:
    """A balance (`since` is None) or a turnover, filtered and grouped within one allowed grouping."""

    type_name: str
    key: dict
    since: datetime.datetime | None
    until: datetime.datetime
    group_by: tuple
    filters: dict

    def ask(self, client):
        until = written_time(self.until)
        if self.since is None:
            return client.balances(self.type_name, self.key, until, self.group_by, **self.filters).ok()
        since = written_time(self.since)
        return client.turnovers(self.type_name, self.key, since, until, self.group_by, **self.filters).ok()

    def answer_of(self, oracle) -> dict:
        return oracle.groups(self.type_name, self.key, self.since, self.until, self.group_by, self.filters)


def random_question(chance: random.Random, families: list, moments: list) -> Question:
    """`moments`: times of stored events, so that the exact boundary is asked for as well."""
    family = chance.choice(families)
    grouping = chance.choice([[], *family.groupings])
    kinds = {name: chance.choice(("group", "group", "filter", "neither")) for name in grouping}
    group_by = [name for name in grouping if kinds[name] == "group"]
    chance.shuffle(group_by)
    filters = {name: chance.choice(family.values[name]) for name in grouping if kinds[name] == "filter"}
    period = sorted(chance.choice((random_moment(chance), chance.choice(moments))) for _ in range(2))
    since = period[0] if chance.random() < 0.5 else None
    return Question(family.type_name, chance.choice(family.accounts), since, period[1], tuple(group_by), filters)
