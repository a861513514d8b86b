"""A proxy in front of PostgreSQL that breaks connections at named statements: the program `fault_proxy` (crates/faults).

    with FaultProxy(f"127.0.0.1:{postgres.port}") as proxy:
        service = platform.order_service("--database-url", proxy.url("orders"))
        fault = proxy.inject({"commit_of": "put_state"}, "cut_reply")
        ...
        assert proxy.injected(fault) == 1
"""

import json
import os
import pathlib
import subprocess
import threading

from stubs import REPOSITORY

FAULT_PROXY_BIN = pathlib.Path(
    os.environ.get("FAULT_PROXY_BIN", REPOSITORY / "target" / "release" / "fault_proxy")
).resolve()


class FaultProxy:
    """Runs until it is closed. `upstream` is `host:port` or the path of a Unix socket."""

    def __init__(self, upstream: str):
        self.upstream = upstream
        command = [str(FAULT_PROXY_BIN), "127.0.0.1:0", str(upstream)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/", start_new_session=True
        )
        self._turn = threading.Lock()
        self.address = json.loads(self._process.stdout.readline())["listening"]

    def url(self, database: str) -> str:
        return f"postgres://postgres@{self.address}/{database}"

    def _command(self, command):
        with self._turn:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer

    def inject(self, at, action, **more) -> int:
        """The number of the new fault. `at`: "connect", "commit", {"statement": name} or {"commit_of": name}; `action`:
        cut_request, cut_reply, hold_request, hold_reply, {"delay_ms": 5}; also skip, times, rate, seed."""
        return self._command({"inject": {"at": at, "action": action, **more}})["id"]

    def remove(self, fault: int) -> None:
        self._command({"remove": fault})

    def injected(self, fault: int) -> int:
        """How often it has happened: a test whose fault did not happen shows nothing."""
        return self._command("counts")["faults"][str(fault)]["injected"]

    def matched(self, fault: int) -> int:
        """How often its point was passed: a delay has begun then, and has happened when it is over."""
        return self._command("counts")["faults"][str(fault)]["matched"]

    def executed(self) -> dict[str, int]:
        """The named statements that have passed, and how often each."""
        return self._command("executed")

    def connections(self) -> dict:
        """How many were `made`, are `open`, are `held`."""
        return self._command("counts")["connections"]

    def hold_all(self) -> int:
        """Silence on every open connection; new ones work."""
        return self._command("hold_all")["connections"]

    def release_all(self) -> int:
        return self._command("release_all")["connections"]

    def cut_all(self) -> int:
        return self._command("cut_all")["connections"]

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
