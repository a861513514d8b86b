"""Separate roles: processes over one database, two of them for each background role, and faults for them.

Of a pair one is on duty and the other on standby; the helper knows which, so that a fault always hits the one on duty.
"""

import os
import signal
import threading

from ledger_client import LostAnswer
from own_postgres import OwnPostgres
from platform_under_test import ORDER_SERVICE_BIN
from processes import run_command
from roles_apart import Roles
from waiting import wait_until

SHARDS = ["s0", "s1", "s2", "s3"]
LEASE_SECONDS = 8
# A lease must run out and be noticed, on a busy machine.
TAKEN_OVER_WITHIN = 40
FIGURES = {"sequencer": "last_seq", "aggregator": "aggregated_seq", "exporter": "exported_seq"}


class SharedDatabase:
    """A server of its own, migrated; the shards are schemas beside the control database's."""

    def __init__(self, platform, **more: str):
        """`more`: settings of the server."""
        self.server = OwnPostgres(platform.home / "postgres", "control", **more)
        platform.closing(self.server.stop)
        self.flags = ("--database-url", self.server.url("control"))
        done = run_command([ORDER_SERVICE_BIN, "migrate", *self.flags, "--initial-shards", "4"], timeout=60)
        assert done.returncode == 0, done.stderr

    def epochs(self, role: str) -> list[int]:
        """The fencing tokens of the role's living leases, shard by shard."""
        of_shard = "SELECT '{0}' AS shard, epoch FROM {0}.leases WHERE class = 'duty/{1}' AND expires_at > now()"
        every = " UNION ALL ".join(of_shard.format(shard, role) for shard in SHARDS)
        found = self.server.psql(f"SELECT epoch FROM ({every}) e ORDER BY shard", "control")
        return [int(line) for line in found.splitlines()]


class RoleProcess(Roles):
    """One that is killed again and again."""

    def __init__(self, platform, roles: str, *flags):
        self.kills = 0
        super().__init__(platform, roles, *flags)

    def kill(self) -> None:
        super().kill()
        self.kills += 1


class Pair(threading.Thread):
    """Two processes of one role. As a thread: so many rounds of faults."""

    def __init__(self, platform, database: SharedDatabase, ledger, role: str, rounds: int, flags=()):
        super().__init__(name=role, daemon=True)
        self.database, self.ledger, self.role, self.rounds = database, ledger, role, rounds
        self.pauses, self.failure = 0, None
        self.on_duty = RoleProcess(platform, role, *database.flags, *flags)
        wait_until(lambda: len(database.epochs(role)) == len(SHARDS), 30, f"the {role} to be on duty")
        self.standing_by = RoleProcess(platform, role, *database.flags, *flags)

    @property
    def kills(self) -> int:
        return self.on_duty.kills + self.standing_by.kills

    def run(self) -> None:
        try:
            for _ in range(self.rounds):
                self._one_sleeps()
                self._one_dies()
        except BaseException as problem:  # noqa: BLE001 - raised by the test
            self.failure = problem

    def _one_sleeps(self) -> None:
        """Beyond its lease; it wakes up, believing to be on duty, and is killed when all goes on."""
        sleeper, before = self.on_duty, self.database.epochs(self.role)
        os.kill(sleeper.process.pid, signal.SIGSTOP)
        try:
            self._wait_taken_over(before)
        finally:
            os.kill(sleeper.process.pid, signal.SIGCONT)
        self.pauses += 1
        sleeper.wait_ready()
        self._wait_goes_on()
        sleeper.kill()
        sleeper.start()

    def _one_dies(self) -> None:
        before = self.database.epochs(self.role)
        self.on_duty.kill()
        self._wait_taken_over(before)
        self.standing_by.start()

    def _wait_taken_over(self, before: list[int]) -> None:
        def taken_over() -> bool:
            now = self.database.epochs(self.role)
            return len(now) == len(before) and all(new > old for new, old in zip(now, before, strict=True))

        wait_until(taken_over, TAKEN_OVER_WITHIN, f"another {self.role} to take over from epochs {before}", every=0.3)
        self.on_duty, self.standing_by = self.standing_by, self.on_duty

    def _wait_goes_on(self) -> None:
        seen = wait_until(self._done, 30, "the ledger's figures")

        def goes_on() -> bool:
            now = self._done()
            return now is not None and (now[0] > seen[0] or now[0] == now[1])

        wait_until(goes_on, TAKEN_OVER_WITHIN, f"the {self.role} to go on from {seen}", every=0.3)

    def _done(self) -> tuple[int, int] | None:
        """(how much the role has done, how much there is to do), of all shards; None while nobody answers."""
        try:
            answer = self.ledger.get("/v1/shards")
        except LostAnswer:
            return None
        if answer.status == 503:
            return None
        figures = answer.ok()["shards"]
        given = "events" if self.role == "sequencer" else "last_seq"
        return sum(shard[FIGURES[self.role]] for shard in figures), sum(shard[given] for shard in figures)
