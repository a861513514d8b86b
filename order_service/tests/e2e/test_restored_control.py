"""Hazard: the control database is restored from an older backup, the ledger is not: orders conflict with their own
postings.

The service recognises its postings although their time differs. Where the data manager gives other data than before,
`orders reconcile` shows the differences and, on request, applies the ledger's data to the order.
"""

import json

import pytest

from client import FINISHED
from foreign_behaviours import first_data, other_data
from own_postgres import OwnPostgres, shard_map
from platform_under_test import ORDER_SERVICE_BIN
from processes import run_command
from waiting import wait_until


def other_pickup(order_id: int) -> tuple[int, int]:
    """Other data for the same storage, and so for the same shard key."""
    return (first_data(order_id)[0], other_data(order_id)[1])


class Restorable:
    """A control database and a ledger of one shard, apart; the first can be put back."""

    def __init__(self, platform):
        self.platform = platform
        self.postgres = OwnPostgres(platform.home / "own", "control", "ledger")
        platform.closing(self.postgres.stop)
        places = [("only", "00", "ff", self.postgres.url("ledger"))]
        shards = shard_map(platform.home / "shards.yaml", places)
        self.flags = ("--database-url", self.postgres.url("control"), "--shards", str(shards))
        done = run_command([ORDER_SERVICE_BIN, "migrate", *self.flags], timeout=60)
        assert done.returncode == 0, done.stderr
        self.service = platform.order_service(*self.flags)
        self.copy = platform.home / "control.dump"

    def process(self, orders: range) -> list:
        return self.platform.client(self.service).process([(order_id, 1) for order_id in orders], timeout=20)

    def put_back(self) -> None:
        self.service.stop()
        self.postgres.psql("DROP DATABASE control", "postgres")
        self.postgres.psql("CREATE DATABASE control", "postgres")
        self.postgres.restore(self.copy, "control")
        self.service.start()

    def reconcile(self, *flags) -> dict:
        done = self.service.command_line("orders", "reconcile", "--output", "json", *flags, *self.flags, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def posted(self) -> int:
        return int(self.postgres.psql("SELECT count(*) FROM events", "ledger"))


def test_orders_that_are_asked_for_again_are_the_same_postings(platform):
    platform.foreign_data_manager(batch=True)
    world = Restorable(platform)
    assert all(answer.is_processed for answer in world.process(range(20)))
    world.postgres.dump("control", world.copy)
    assert all(answer.is_processed for answer in world.process(range(20, 60)))
    world.put_back()
    assert world.posted() == 120
    assert all(answer.is_processed for answer in world.process(range(70)))
    assert world.posted() == 140, "nothing is posted twice"
    shown = world.reconcile()
    assert (shown["compared"], shown["differ"]) == (70, 0), shown


@pytest.mark.long
def test_an_order_gets_the_data_that_it_was_posted_with(platform):
    manager = platform.foreign_data_manager()
    world = Restorable(platform)
    world.postgres.dump("control", world.copy)
    assert all(answer.is_processed for answer in world.process(range(1, 4)))
    world.put_back()
    manager.data = other_pickup  # it has forgotten what it gave
    client = platform.client(world.service)
    answers = client.process([(n, 1) for n in range(1, 4)], timeout=3)
    assert not any(answer.is_processed for answer in answers)
    assert "CONFLICT" in client.get(1).last_error
    shown = world.reconcile()
    assert shown["dry_run"] and {order["difference"] for order in shown["orders"]} == {"posted_otherwise"}, shown
    assert client.get(1).pickup_point_id == other_pickup(1)[1], "a dry run changes nothing"
    assert world.reconcile("--apply")["put_right"] == 3
    for order_id in range(1, 4):
        order = client.wait_state(order_id, FINISHED, 20)
        assert (order.storage_id, order.pickup_point_id) == first_data(order_id)
    assert world.posted() == 6
    assert world.reconcile()["differ"] == 0


def test_data_of_another_storage_is_a_second_posting_which_the_check_names(platform):
    """Idempotency ends at the shard key, however many shards there are."""
    manager = platform.foreign_data_manager()
    world = Restorable(platform)
    world.postgres.dump("control", world.copy)
    assert all(answer.is_processed for answer in world.process(range(1, 4)))
    world.put_back()
    manager.data = other_data
    assert all(answer.is_processed for answer in world.process(range(1, 4)))
    done = world.service.command_line("ledger", "check", *world.flags, timeout=60)
    assert done.returncode == 1 and done.stdout.count("repeated_id: event ") == world.posted() // 2, done.stdout


def test_what_an_older_ledger_lacks_is_posted_again(platform):
    platform.foreign_data_manager()
    world = Restorable(platform)
    assert all(answer.is_processed for answer in world.process(range(1, 4)))
    # As an older copy of the ledger would have it.
    world.postgres.psql("TRUNCATE events, event_keys, pending_batches", "ledger")
    shown = world.reconcile("--apply")
    assert (shown["differ"], shown["put_right"]) == (3, 3), shown
    wait_until(lambda: world.posted() == 6, 20, "everything is posted again")
    client = platform.client(world.service)
    assert all(client.wait_state(n, FINISHED, 20) for n in range(1, 4))
