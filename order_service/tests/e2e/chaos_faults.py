"""The faults of `chaos.py`: context managers `(world, target)` that yield a `Bite` once the fault has happened; leaving
one undoes what does not recover by itself.

`FAULTS`: kind -> (the fault, its targets).
"""

import contextlib
import dataclasses
import os
import random
import signal
import threading
import time

from chaos_world import DUTIES, ROLES, World
from foreign_behaviours import Behaviour
from separate_roles import LEASE_SECONDS
from waiting import elapsed_since, wait_until

# How long a fault is given to happen: a statement to be executed, callbacks to be made.
HAPPENS_WITHIN = 15
TIMES = 3


@dataclasses.dataclass
class Bite:
    """How often it happened (0: it did not bite; known for certain when the fault is over), and when that began."""

    times: int
    since: float


def _happened(count, wanted: int) -> int:
    """The count as soon as it is what is wanted, or when it is no use waiting any longer."""
    with contextlib.suppress(AssertionError):
        wait_until(lambda: count() >= wanted, HAPPENS_WITHIN, "the fault to happen")
    return count()


@contextlib.contextmanager
def kill(world: World, role: str):
    """kill -9 of one replica, which stays away until the platform works again."""
    victim, since = world.replicas[role].next_victim(), time.monotonic()
    bites = int(victim.process.is_running())
    victim.kill()
    try:
        yield Bite(bites, since)
    finally:
        victim.start()


@contextlib.contextmanager
def pause(world: World, role: str):
    """SIGSTOP beyond the lease; what it wakes up to is another holder."""
    before = world.database.epochs(role) if role in DUTIES else []
    victim, since = world.replicas[role].next_victim(), time.monotonic()
    bite = Bite(1, since)
    os.kill(victim.process.pid, signal.SIGSTOP)
    try:
        yield bite
        threading.Event().wait(max(0.0, LEASE_SECONDS + 2 - elapsed_since(since)))
        if before:
            # It slept for nothing if it was the one that stood by.
            bite.times = int(world.database.epochs(role) != before)
    finally:
        os.kill(victim.process.pid, signal.SIGCONT)
    victim.wait_ready()


@contextlib.contextmanager
def cut(world: World, _target):
    """All database connections of all processes."""
    since = time.monotonic()
    yield Bite(min(1, world.proxy.cut_all()), since)


@contextlib.contextmanager
def hold(world: World, _target):
    """All of them say nothing any more, and nobody is told; new ones work."""
    since = time.monotonic()
    silent = world.proxy.hold_all()
    yield Bite(min(1, silent), since)
    world.proxy.release_all()


@contextlib.contextmanager
def proxied(world: World, at, action: str):
    """At a point of the protocol, a few times if they come at once; not when it is tried again."""
    fault = world.proxy.inject(at, action, times=TIMES)
    try:
        times, since = _happened(lambda: world.proxy.injected(fault), 1), time.monotonic()
    finally:
        world.proxy.remove(fault)
    try:
        yield Bite(times, since)
    finally:
        # Those that were held.
        world.proxy.release_all()


def lost_commit(world: World, action: str):
    """A transaction is committed, and nobody is told."""
    return proxied(world, "commit", action)


def lost_answer(world: World, target: tuple[str, str]):
    """A named statement is carried out, and nobody is told."""
    statement, action = target
    return proxied(world, {"statement": statement}, action)


def cut_request(world: World, statement: str):
    """The connection ends before a named statement is carried out."""
    return proxied(world, {"statement": statement}, "cut_request")


@contextlib.contextmanager
def misbehaving(world: World, behaviour: Behaviour):
    """The data manager, for a while, with whatever it is asked for."""
    since, before = time.monotonic(), world.foreign.faults[behaviour]
    world.foreign.default = behaviour
    try:
        _happened(lambda: world.foreign.faults[behaviour] - before, 20)
    finally:
        world.foreign.default = Behaviour.BEFORE
    yield Bite(world.foreign.faults[behaviour] - before, since)


@contextlib.contextmanager
def backend_killed(world: World, _target):
    """kill -9 of one of Postgres's processes: it ends all others and recovers."""
    since = time.monotonic()
    pids = _backends(world)
    os.kill(pids[0], signal.SIGKILL)
    yield Bite(1, since)


@contextlib.contextmanager
def backends_terminated(world: World, _target):
    """As an administrator does it."""
    since, pids = time.monotonic(), _backends(world)[:10]
    ended = world.database.server.psql(
        f"SELECT count(*) FROM unnest(ARRAY[{','.join(map(str, pids))}]) pid WHERE pg_terminate_backend(pid)", "control"
    )
    yield Bite(int(ended), since)


def _backends(world: World) -> list[int]:
    """Of the platform, those that work first."""
    clients = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    return [int(line) for line in world.database.server.psql(f"{clients} ORDER BY state = 'idle', pid", "control").split()]


@contextlib.contextmanager
def postgres_stopped(world: World, _target):
    """Postgres's immediate stop, and a start."""
    since = time.monotonic()
    world.database.server.kill(signal.SIGQUIT)
    world.database.server.start()
    yield Bite(1, since)


# On the ways of orders, ledger events, tasks and events, and of the duties.
STATEMENTS = (
    ["accept_orders", "store_callbacks", "notify_callbacks", "finish_orders", "claim_jobs", "renew_leases"]
    + ["write_events", "number_batches", "fold_aggregates", "record_export"]
    + ["allocate_event_ids", "insert_events", "begin_task", "end_task", "fifo_delete"]
)
REPLY_LOST = ("cut_reply", "hold_reply")
FAULTS = {
    "kill": (kill, list(ROLES)),
    "pause": (pause, list(ROLES)),
    "cut": (cut, [None]),
    "hold": (hold, [None]),
    "lost_commit": (lost_commit, list(REPLY_LOST)),
    "lost_answer": (lost_answer, [(name, action) for name in STATEMENTS for action in REPLY_LOST]),
    "cut_request": (cut_request, STATEMENTS),
    "lost_callbacks": (misbehaving, [Behaviour.NOT_FIRST]),
    "late_callbacks": (misbehaving, [Behaviour.LATE_ONCE]),
    "doubled_callbacks": (misbehaving, [Behaviour.TWICE]),
    "backend_killed": (backend_killed, [None]),
    "backends_terminated": (backends_terminated, [None]),
    "postgres_stopped": (postgres_stopped, [None]),
}


def named(target) -> str:
    """A target for people."""
    if isinstance(target, Behaviour):
        return target.name.lower()
    return "" if target is None else target if isinstance(target, str) else " ".join(target)


def kind_of(wanted: str) -> str:
    """`kill` of `kill:front`, which is of the front only."""
    return wanted.partition(":")[0]


def _targets(wanted: str) -> list:
    kind, _, only = wanted.partition(":")
    return [target for target in FAULTS[kind][1] if only in ("", named(target))]


def drawn(kinds: list[str], chance: random.Random):
    """Endless `(kind, target)`: every kind once in a round, in another order each time; each kind's targets in turn."""
    waiting = {kind: [] for kind in kinds}
    while True:
        for kind in chance.sample(kinds, len(kinds)):
            targets = _targets(kind)
            waiting[kind] = waiting[kind] or chance.sample(targets, len(targets))
            yield kind_of(kind), waiting[kind].pop()
