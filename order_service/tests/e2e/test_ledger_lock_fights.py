"""Hazard: two holders of a lock, a queue out of order, a dead holder that blocks forever or whose late write counts.

200 clients, each with a thread and a connection, contend for one lock; a history of all holds is checked.
"""

import random
import threading
import time

import pytest

from ledger_client import LedgerClient, LostAnswer
from ledger_events import LOCK, outflow, read_time, statuses
from ledger_oracle import total_of
from lock_history import EXCLUSIVE, SHARED, Hold, LockHistory, displacement
from waiting import wait_until

pytestmark = pytest.mark.alone

CLIENTS = 200
DEATHS = 4  # of those clients: they take the lock and are never heard of again


class Fight:
    """Threads that take one lock once each; the failures of any of them are raised at the end."""

    def __init__(self, ledger, storage_id: int):
        self.ledger, self.storage_id, self.history = ledger, storage_id, LockHistory()
        self.failures, self.threads, self.events = [], [], []

    def start(self, *args) -> None:
        thread = threading.Thread(target=self._guarded, args=args)
        self.threads.append(thread)
        thread.start()

    def _guarded(self, *args) -> None:
        client = LedgerClient(self.ledger.port, timeout=90)
        try:
            self._take(client, *args)
        except BaseException as problem:  # noqa: BLE001 - raised by `finish`
            self.failures.append(problem)
        finally:
            client.close()

    def _take(self, client, mode: str, dies: bool = False, hold_for: float = 0.0) -> None:
        """Waits in line, writes one event under the lock, and gives it back, or dies with it."""
        asked = time.time()
        answer = client.lock(LOCK, {"storage_id": self.storage_id}, mode, 1 if dies else 30, wait_seconds=60)
        grant, arrived = answer.ok(201), time.time()
        ended = read_time(grant["expires_at"]).timestamp()
        if not dies:
            event = outflow(self.storage_id)
            assert statuses(client.write([event], grant["lock_id"])) == ["created"]
            self.events.append(event["event_id"])
            time.sleep(hold_for)  # not a wait: how long somebody holds it
            ended = time.time()
            assert client.release(grant["lock_id"]).status in (200, 204)
        self.history.add(Hold(mode, grant["fencing_token"], asked, arrived, ended, dies))

    def finish(self, seconds: float = 90) -> None:
        for thread in self.threads:
            thread.join(seconds)
        assert not self.failures, f"{len(self.failures)} failed, the first: {self.failures[0]!r}"
        self.history.check(len(self.threads))
        listed = self.ledger.listing("storage_outflow", {"storage_id": self.storage_id})
        assert sorted(event["event_id"] for event in listed) == sorted(self.events)


def test_two_hundred_clients_fight_for_one_exclusive_lock(ledger):
    fight = Fight(ledger, 31_001)
    dying = set(random.sample(range(CLIENTS), DEATHS))
    for number in range(CLIENTS):
        fight.start(EXCLUSIVE, number in dying)
    fight.finish()
    assert fight.history.deaths() == DEATHS


def test_two_hundred_clients_share_and_exclude(ledger):
    fight, chance = Fight(ledger, 31_002), random.Random()
    for number in range(CLIENTS):
        mode = EXCLUSIVE if number % 8 == 0 else SHARED
        fight.start(mode, number % 67 == 1, chance.uniform(0, 0.01))
    fight.finish()
    assert fight.history.shared_together() > 0, "nobody shared"
    assert fight.history.deaths() == 3


def test_the_line_is_kept(ledger):
    """Twenty clients that arrive one after another, 50 ms apart, are granted in that order."""
    fight = Fight(ledger, 31_003)
    holder = ledger.lock(LOCK, {"storage_id": 31_003}).ok(201)
    for _ in range(20):
        fight.start(EXCLUSIVE)
        time.sleep(0.05)  # the distance is what is tested
    assert not fight.history.holds, "granted while another held it"
    ledger.release(holder["lock_id"])
    fight.finish()
    assert displacement(fight.history) <= 1, sorted((h.asked, h.token) for h in fight.history.holds)


def test_sharing_never_starves_an_exclusive_one(ledger):
    """Shared holders that come and go without a gap, eight of them."""
    stop, storage_id, shared = threading.Event(), 31_004, []

    def share():
        client = LedgerClient(ledger.port)
        while not stop.is_set():
            grant = client.lock(LOCK, {"storage_id": storage_id}, SHARED, 30, wait_seconds=20).ok(201)
            shared.append(grant)
            stop.wait(0.05)  # held, so that the holds of the eight overlap
            client.release(grant["lock_id"])
        client.close()

    threads = [threading.Thread(target=share) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(shared) > 30, 20, "eight that share")
        start = time.monotonic()
        grant = ledger.lock(LOCK, {"storage_id": storage_id}, EXCLUSIVE, 30, wait_seconds=20).ok(201)
        assert time.monotonic() - start < 5, "it had to wait for a gap"
        count = len(shared)
        ledger.release(grant["lock_id"])
        wait_until(lambda: len(shared) > count, 10, "shared again afterwards")
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def test_a_dead_holders_lock_goes_to_the_next_in_line_after_its_ttl(ledger):
    key = {"storage_id": 31_005}
    dead = ledger.lock(LOCK, key, ttl=2, owner="dead").ok(201)
    heir = ledger.lock(LOCK, key, wait_seconds=20, owner="heir").ok(201)
    late = time.time() - read_time(dead["expires_at"]).timestamp()
    assert -0.05 < late < 1.5, f"granted {late:.2f} s after the end of the dead one"
    assert heir["fencing_token"] > dead["fencing_token"]
    ledger.write([outflow(31_005)], dead["lock_id"]).refused(409, "CONFLICT")
    assert total_of(ledger.balances("storage_outflow", key).ok())[0] == 0


def test_waiting_ends_when_it_should(ledger):
    key = {"storage_id": 31_006}
    ledger.lock(LOCK, key, ttl=60, owner="holder").ok(201)
    for seconds in (0, 1):
        start = time.monotonic()
        ledger.lock(LOCK, key, wait_seconds=seconds).refused(423, "LOCKED")
        assert seconds <= time.monotonic() - start + 0.05 < seconds + 1.5


def test_who_went_away_while_waiting_keeps_nobody_waiting(ledger):
    """Clients that hang up in line get no grant that nobody holds."""
    key, gone = {"storage_id": 31_007}, 10
    holder = ledger.lock(LOCK, key).ok(201)
    for _ in range(gone):
        impatient = LedgerClient(ledger.port, timeout=0.2)
        with pytest.raises(LostAnswer):
            impatient.lock(LOCK, key, ttl=60, wait_seconds=30)
        impatient.close()
    start = time.monotonic()
    ledger.release(holder["lock_id"])
    ledger.lock(LOCK, key, wait_seconds=20).ok(201)
    assert time.monotonic() - start < 5, "a grant went to somebody who had hung up"
