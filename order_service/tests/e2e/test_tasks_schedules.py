"""Hazard: two schedulers create two tasks for one tick; or none is created when one or all of them die.

Schedules come from a bundle; every task is read through the API.
"""

import datetime

import pytest

import background_tasks
from embedded_postgres import psql
from ledger_bundle import Bundle
from ledger_events import read_time, utc_now
from ledger_months import month_of
from roles_apart import Roles
from waiting import wait_until

SCHEDULE = "/tasks/task-1.yml"
EACH_SECOND = {"name": "each-second", "schedule": "* * * * * *", "task_type": "ledger.aggregates"}
SECOND = datetime.timedelta(seconds=1)


@pytest.fixture
def api(platform):
    """What answers and works, but does not schedule."""
    return Roles(platform, "http,tasks")


@pytest.fixture
def client(platform, api):
    return platform.ledger_client(api)


def bring_in(platform, api, *schedules: dict) -> None:
    bundle = Bundle(platform.home / f"bundle-{len(list(platform.home.iterdir()))}")
    for schedule in schedules:
        bundle.add(SCHEDULE, schedule)
    bundle.bring_in(api.process, "schedules")


def once_a_day_at(moment: datetime.datetime) -> str:
    return f"{moment.second} {moment.minute} {moment.hour} * * *"


def ticks_of(client, schedule: str) -> list[datetime.datetime]:
    """In order; each must have exactly one task."""
    ticks = background_tasks.by_tick(client, schedule)
    twice = {tick: tasks for tick, tasks in ticks.items() if len(tasks) != 1}
    assert not twice, twice
    return sorted(read_time(tick) for tick in ticks)


def more_ticks(client, count: int = 3, timeout: float = 40) -> None:
    """Until the schedule of each second has so many more."""
    seen = len(ticks_of(client, "each-second"))
    wait_until(lambda: len(ticks_of(client, "each-second")) >= seen + count, timeout, "more ticks", every=0.2)


@pytest.mark.long
def test_each_tick_has_exactly_one_task_however_schedulers_die(platform, api, client):
    bring_in(platform, api, EACH_SECOND)
    schedulers = [Roles(platform, "scheduler") for _ in range(2)]
    more_ticks(client)
    for doomed in schedulers:
        doomed.kill()
        more_ticks(client)
        doomed.start()
    for scheduler in schedulers:
        scheduler.stop()
    ticks = ticks_of(client, "each-second")
    assert all(late - early == SECOND for early, late in zip(ticks, ticks[1:])), ticks
    terms = psql(platform.data_dir, "SELECT epoch FROM leases WHERE class = 'duty/scheduler'")
    assert int(terms) > 1, "nobody ever took over: the kills did not hit"
    last = background_tasks.by_tick(client, "each-second")
    for tasks in last.values():
        ended = background_tasks.wait_ended(client, tasks[0]["id"])
        assert (ended["status"], ended["attempts"]) == ("succeeded", 1), ended


def soon_once(platform, api) -> datetime.datetime:
    """The one tick of the schedule `daily`, which is still to come when its schedule is there."""
    for seconds in (5, 20):
        tick = (utc_now() + seconds * SECOND).replace(microsecond=0)
        daily = {**EACH_SECOND, "name": "daily", "schedule": once_a_day_at(tick)}
        monthly = {**EACH_SECOND, "name": "monthly", "schedule": "0 0 1 * *"}
        bring_in(platform, api, daily, monthly, EACH_SECOND)
        if utc_now() < tick:
            return tick
    raise AssertionError("the machine is too slow for this test")


@pytest.mark.long
def test_a_tick_missed_while_all_were_down_has_one_task_late(platform, api, client):
    bring_in(platform, api, EACH_SECOND)
    scheduler = Roles(platform, "scheduler")
    more_ticks(client, 1)
    scheduler.stop()
    missed = soon_once(platform, api)
    # As if nobody had scheduled for a year.
    psql(platform.data_dir, "UPDATE task_schedules SET done_until = now() - interval '1 year' WHERE name = 'monthly'")
    wait_until(lambda: utc_now() > missed + SECOND, 30, "the tick goes by")
    assert ticks_of(client, "daily") == [], "somebody was still up"
    back = utc_now()
    both = [Roles(platform, "scheduler"), Roles(platform, "scheduler")]
    wait_until(lambda: ticks_of(client, "daily"), 40, "the late task")
    more_ticks(client)
    for scheduler in both:
        scheduler.stop()
    assert ticks_of(client, "daily") == [missed]
    ((late,),) = background_tasks.by_tick(client, "daily").values()
    assert read_time(late["created_at"]) > back
    assert background_tasks.wait_ended(client, late["id"])["status"] == "succeeded"
    # Twelve were missed: the latest one is made up for.
    assert ticks_of(client, "monthly") == [month_of(back)]


def test_a_schedule_that_is_wrong_is_refused_with_its_line(platform, api):
    bundle = Bundle(platform.home / "bundle")
    path = bundle.add(SCHEDULE, {**EACH_SECOND, "schedule": "61 * * * *", "params": {"ahead": 1}})
    refused = bundle.reconcile(api.process, "schedules")
    assert refused.returncode == 1
    told = refused.stdout + refused.stderr
    assert f"{path}:3: schedule: `61 * * * *` is no cron expression" in told
    assert f"{path}:5: params.ahead: unknown field `ahead`" in told


def test_a_deleted_schedule_has_no_more_ticks(platform, api, client):
    bring_in(platform, api, EACH_SECOND, {**EACH_SECOND, "name": "doomed"})
    scheduler = Roles(platform, "scheduler")
    wait_until(lambda: ticks_of(client, "doomed"), 40, "its first tick")
    bring_in(platform, api, EACH_SECOND)
    more_ticks(client, 2)  # one of them may have been on its way
    seen = ticks_of(client, "doomed")
    more_ticks(client, 2)
    assert ticks_of(client, "doomed") == seen
    scheduler.stop()
