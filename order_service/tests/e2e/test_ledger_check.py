"""Hazard: an amount or sum is changed behind the service's back, and cannot be found."""

import json

import pytest

from embedded_postgres import psql
from ledger_events import OUTFLOW, outflow
from ledger_sharding import shard_of
from waiting import wait_until

STORAGE = 7
KEY = {"storage_id": STORAGE}


@pytest.fixture
def service(platform):
    """A service whose ledger has events of two accounts, all of them in the sums."""
    service = platform.order_service()
    client = platform.ledger_client(service)
    client.write([outflow(storage, f"{n}.5", product_id=n % 3) for n in range(200) for storage in (STORAGE, 8)]).ok()
    wait_until(lambda: aggregated(client), 20, "everything is in the sums")
    return service


def aggregated(client) -> bool:
    shards = client.shards().values()
    return all(shard["aggregated_seq"] == shard["last_seq"] == shard["events"] for shard in shards)


def check(service, *words):
    return service.command_line("ledger", "check", *words)


def home_shard() -> str:
    return shard_of(KEY)


def test_a_sound_ledger_is_found_sound_while_the_service_runs(service):
    done = check(service)
    assert done.returncode == 0, done.stderr
    assert "400 events: numbers, contents, places and sums are as they must be" in done.stdout
    report = json.loads(check(service, "--output", "json").stdout)
    assert report["holds"] and report["difference_count"] == 0 and report["differences"] == []
    assert sum(shard["events"] for shard in report["shards"]) == 400


def test_a_changed_event_is_named_in_itself_and_in_every_sum_that_holds_it(platform, service):
    found = psql(platform.data_dir, "SELECT event_id FROM events WHERE debit = 100.5", shard=home_shard()).splitlines()
    psql(platform.data_dir, f"UPDATE events SET debit = 100.6 WHERE event_id = '{found[0]}'", shard=home_shard())
    done = check(service)
    assert done.returncode == 1 and "the ledger is not what its events say" in done.stderr
    assert f"content: event {OUTFLOW}/{found[0]} is not what was written" in done.stdout
    report = json.loads(check(service, "--output", "json").stdout)
    kinds = [difference["kind"] for difference in report["differences"]]
    # The finest period of each of the three groupings.
    assert sorted(kinds) == ["content", "sums", "sums", "sums"]
    assert all(difference["shard"] == home_shard() for difference in report["differences"])


def test_a_changed_sum_is_named(platform, service):
    psql(platform.data_dir, "UPDATE aggregates SET credit = credit + 1 WHERE level = 'm'", shard=home_shard())
    done = check(service)
    assert done.returncode == 1 and "the month of" in done.stdout and "kept are" in done.stdout


def test_a_combination_whose_json_says_something_else_is_named(platform, service):
    change = """UPDATE tuples SET attributes = '{"product_id": "2"}' WHERE canonical = 'product_id=1'"""
    psql(platform.data_dir, change, shard=home_shard())
    done = check(service)
    named = 'combination product_id=1: filters and groups take it for {"product_id":"2"}, its events say {"product_id":"1"}'
    assert done.returncode == 1 and named in done.stdout, done.stdout


def test_one_id_under_two_shard_keys_is_reported(platform, service):
    client = platform.ledger_client(service)
    home = shard_of(KEY)
    away = next(n for n in range(100, 200) if shard_of({"storage_id": n}) != home)
    first = outflow(STORAGE)
    client.write([first]).ok()
    client.write([{**first, "attributes": {"storage_id": away}}]).ok()
    done = check(service)
    assert done.returncode == 1
    assert f"repeated_id: event {OUTFLOW}/{first['event_id']} has 2 keys, on the shards" in done.stdout
