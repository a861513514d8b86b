"""A persistent shell: variables of one command are visible to the next."""

import os
import pathlib
import select
import shlex
import signal
import subprocess
import time

from processes import clean_environment

_END = "== end of the command =="


class Shell:
    """A bash in `cwd`. `close` also ends what was started with `&`."""

    def __init__(self, cwd: pathlib.Path, env: dict):
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=clean_environment(env),
            start_new_session=True,
        )

    def run(self, command: str, timeout: float = 30) -> list[str]:
        """The lines it prints on both outputs; an `AssertionError` if it is not done in `timeout` seconds."""
        self.process.stdin.write(f"eval {shlex.quote(command)} </dev/null\nprintf '%s\\n' '{_END}'\n".encode())
        self.process.stdin.flush()
        end, printed = time.monotonic() + timeout, b""
        while not printed.endswith(f"{_END}\n".encode()):
            left = max(end - time.monotonic(), 0)
            ready, _, _ = select.select([self.process.stdout], [], [], left)
            assert ready, f"not done in {timeout} s: {command}\n{printed.decode(errors='replace')}"
            more = os.read(self.process.stdout.fileno(), 65_536)
            assert more, f"the shell is gone after: {command}\n{printed.decode(errors='replace')}"
            printed += more
        return printed.decode().removesuffix(f"{_END}\n").splitlines()

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.kill()
        self.process.wait(10)
        self.process.stdin.close()
        self.process.stdout.close()
