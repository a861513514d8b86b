"""Exact reference model of the ledger's arithmetic, without shared code: a list of events and `Decimal`.

Shape: `add` each written event (once per event id), then query `groups` and `listing` like the ledger; `groups_of`
converts an answer of the ledger into the same form.
"""

import collections
import dataclasses
import datetime
from decimal import Decimal, getcontext

from ledger_events import read_time

getcontext().prec = 60  # 15 + 9 digits, and as many events as anybody can write: never rounded

ZEROS = (Decimal(0), Decimal(0))


@dataclasses.dataclass(frozen=True)
class Entry:
    """One event, parsed once."""

    dt: datetime.datetime
    event_id: str
    attributes: dict
    debit: Decimal
    credit: Decimal
    written: dict

    def same_as(self, listed: dict) -> bool:
        """Whether the ledger lists it as it was written; a null attribute may be left out, dt may be in UTC."""
        amounts = {side: Decimal(listed[side]) for side in ("debit", "credit") if listed.get(side) is not None}
        wanted = {side: Decimal(self.written[side]) for side in ("debit", "credit") if side in self.written}
        return (
            (listed["type"], listed["event_id"], amounts) == (self.written["type"], self.event_id, wanted)
            and read_time(listed["dt"]) == self.dt
            and without_nulls(listed["attributes"]) == self.attributes
            and (listed.get("info") or {}) == (self.written.get("info") or {})
        )


def without_nulls(attributes: dict) -> dict:
    return {name: value for name, value in attributes.items() if value is not None}


class Oracle:
    """`keys`: account type -> its key attributes."""

    def __init__(self, keys: dict[str, tuple]):
        self._keys = keys
        self._accounts: dict[tuple, list[Entry]] = collections.defaultdict(list)
        self._seen: set[tuple] = set()

    def add(self, event: dict) -> str:
        """The status that the ledger must answer."""
        if (event["type"], event["event_id"]) in self._seen:
            return "duplicate"
        self._seen.add((event["type"], event["event_id"]))
        attributes = without_nulls(event["attributes"])
        amounts = [Decimal(event.get(side, "0")) for side in ("debit", "credit")]
        entry = Entry(read_time(event["dt"]), event["event_id"], attributes, *amounts, event)
        self._accounts[self._account(event["type"], attributes)].append(entry)
        return "created"

    def __len__(self) -> int:
        return len(self._seen)

    def _account(self, type_name: str, attributes: dict) -> tuple:
        return (type_name, *(attributes[name] for name in self._keys[type_name]))

    def accounts(self) -> list[tuple[str, dict]]:
        """Every account that has an event: its type and key attributes."""
        return [(name, dict(zip(self._keys[name], values, strict=True))) for name, *values in self._accounts]

    def entries(self, type_name: str, key: dict, since=None, until=None) -> list[Entry]:
        """`since <= dt < until`, either may be open."""
        entries = self._accounts[self._account(type_name, key)]
        return [e for e in entries if (since is None or since <= e.dt) and (until is None or e.dt < until)]

    def listing(self, type_name: str, key: dict, since=None, until=None) -> list[Entry]:
        """In (dt, id) order; ids in the order of their bytes."""
        return sorted(self.entries(type_name, key, since, until), key=lambda e: (e.dt, e.event_id.encode()))

    def groups(self, type_name: str, key: dict, since=None, until=None, group_by=(), filters=None) -> dict:
        """Values of `group_by` -> (debit, credit). Nothing grouped by: one group, also when there is no event."""
        sums = {} if group_by else {(): ZEROS}
        for entry in self.entries(type_name, key, since, until):
            if any(entry.attributes.get(name) != value for name, value in (filters or {}).items()):
                continue
            group = tuple(entry.attributes.get(name) for name in group_by)
            debit, credit = sums.get(group, ZEROS)
            sums[group] = (debit + entry.debit, credit + entry.credit)
        return sums


def groups_of(body: dict, group_by=()) -> dict:
    """An answer of balances or turnovers as `Oracle.groups` gives it, after checking its form."""
    found = {}
    for group in body["groups"]:
        assert set(group["attributes"]) == set(group_by), group
        assert all(isinstance(group[figure], str) for figure in ("debit", "credit", "balance")), group
        debit, credit, balance = (Decimal(group[figure]) for figure in ("debit", "credit", "balance"))
        assert balance == debit - credit, group
        values = tuple(group["attributes"][name] for name in group_by)
        assert values not in found, f"one group twice: {values}"
        found[values] = (debit, credit)
    return found


def total_of(body: dict) -> tuple[Decimal, Decimal]:
    """The debit and credit of an answer that was asked for without grouping."""
    return groups_of(body)[()]
