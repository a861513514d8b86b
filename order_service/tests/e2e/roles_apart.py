"""A process with some roles only, such as `scheduler`; readiness is read from its HTTP port."""

import urllib.error
import urllib.request

from platform_under_test import DEBUG_ORDER_SERVICE_BIN
from ports import free_port
from waiting import wait_until


class Roles:
    """`platform.ledger_client(roles)` talks to its HTTP port."""

    def __init__(self, platform, roles: str, *flags, start: bool = True, debug: bool = False, replica: int = 0):
        self.http_port = free_port()
        flags = ("--roles", roles, "--http-port", self.http_port, *flags)
        self.process = platform.order_service(*flags, start=False, bare=True, replica=replica)
        if debug:
            # Only debug builds can be told to die at a named point.
            self.process.command[0] = str(DEBUG_ORDER_SERVICE_BIN)
        if start:
            self.start()

    def start(self, fail_point: str | None = None) -> None:
        """`fail_point`: where a debug build dies, as by kill -9; `name:3` at the third time."""
        self.process.env = {**self.process.env, "FAIL_POINT": fail_point or ""}
        self.process.start(ready_within=None)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Or until it has died where it was told to, which may be earlier."""
        told_to_die = self.process.env["FAIL_POINT"]

        def done() -> bool:
            return self._is_ready() or (told_to_die and not self.process.is_running())

        wait_until(done, 60, f"{self.process.name} to be ready")

    def stop(self) -> None:
        self.process.stop()

    def kill(self) -> None:
        self.process.kill()

    def _is_ready(self) -> bool:
        assert self.process.is_running() or self.process.env["FAIL_POINT"], self.process.log_tail()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/readyz", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False
