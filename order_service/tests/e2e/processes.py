"""A child process: start, watch, stop, kill. Only processes started here are signalled, by pid."""

import os
import pathlib
import signal
import subprocess
import tempfile
import time

from client import open_channel
from grpc_health.v1 import health_pb2, health_pb2_grpc
import grpc

_OURS = ("ORDER_SERVICE_", "DATA_MANAGER_")


def clean_environment(extra: dict | None = None) -> dict:
    """This environment without the services' own variables (and without back traces), plus `extra`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_OURS) and k != "RUST_BACKTRACE"}
    return {**kept, **(extra or {})}


def run_command(command: list, timeout: float = 30, **kwargs) -> subprocess.CompletedProcess:
    """A short-lived command to its end; output as text, standard input empty."""
    environment = clean_environment(kwargs.pop("env", None))
    if "input" not in kwargs:
        kwargs["stdin"] = subprocess.DEVNULL
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout, env=environment, **kwargs)


class RealProcess:
    """A binary with its log file; `start` after `stop` or `kill` starts it again with the same command."""

    def __init__(self, name: str, command: list, log: pathlib.Path, health_port: int, env=None, cwd=None):
        self.name, self.command = name, [str(word) for word in command]
        self.log, self.health_port, self.env, self.cwd = log, health_port, env, cwd
        self.process: subprocess.Popen | None = None
        # With TLS: what its health is asked with.
        self.credentials: grpc.ChannelCredentials | None = None

    def start(self, ready_within: float | None = 60) -> None:
        """Starts it and, unless told not to, waits until gRPC health says SERVING."""
        assert not self.is_running(), f"{self.name} runs already"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=clean_environment(self.env),
                cwd=self.cwd or tempfile.gettempdir(),
                start_new_session=True,
            )
        if ready_within is not None:
            self.wait_ready(ready_within)

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def is_serving(self) -> bool:
        """One question to the health service on a connection of its own."""
        with open_channel(f"127.0.0.1:{self.health_port}", credentials=self.credentials) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.RpcError:
                return False
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    def wait_ready(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        while not self.is_serving():
            assert self.is_running(), f"{self.name} ended with {self.process.returncode}:\n{self.log_tail()}"
            assert time.monotonic() < end, f"{self.name} not ready in {timeout} s:\n{self.log_tail()}"
            time.sleep(0.05)

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self.process.send_signal(signal.SIGTERM)

    def wait_exit(self, timeout: float) -> int:
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {timeout} s:\n{self.log_tail()}") from None

    def stop(self, timeout: float = 35) -> None:
        """SIGTERM, and the exit code must be 0."""
        if not self.is_running():
            return
        self.terminate()
        code = self.wait_exit(timeout)
        assert code == 0, f"{self.name} ended with {code} after SIGTERM:\n{self.log_tail()}"

    def kill(self) -> None:
        """kill -9."""
        if self.is_running():
            self.process.kill()
            self.process.wait(10)

    def resident_mib(self) -> float:
        """Memory in use now, without what it shares with nobody-knows-whom: VmRSS."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise AssertionError(f"{self.name} has no VmRSS")

    def log_tail(self, lines: int = 40) -> str:
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
