"""Assertion of a refused start: one sentence, exit code 1, immediately, the same words in the log and on the terminal.
"""

import json
import os
import pathlib
import time

import pytest

from ports import free_port
from processes import run_command

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may be somebody else")
# What another user, in a world of their own, is made by; the command follows.
NAMELESS = 12345
AS_NAMELESS = ["setpriv", "--reuid", str(NAMELESS), "--regid", str(NAMELESS), "--clear-groups"]


def with_tmpfs(place: pathlib.Path, size: str) -> list[str]:
    """A small file system of the command's own at `place`; what is in it at the end is listed on standard output."""
    script = 'mount -t tmpfs -o "size=$1,mode=0755" tmpfs "$0" && shift && { "$@"; code=$?; ls -A "$0"; exit $code; }'
    return ["unshare", "-m", "sh", "-c", script, str(place), size]


def with_shared_memory(home: pathlib.Path, size: str) -> list[str]:
    """A /dev/shm of the command's own; `home`, which may lie there, is where it was."""
    script = """exec 3<"$0" && mount -t tmpfs -o "size=$1,mode=1777" tmpfs /dev/shm && mkdir -p "$0" &&
        mount --no-canonicalize --bind /proc/self/fd/3 "$0" && exec 3<&- && shift && exec "$@" """
    return ["unshare", "-m", "sh", "-c", script, str(home), size]


def ports() -> list[str]:
    return ["--http-port", str(free_port()), "--app-port", str(free_port())]


def refusal(command: list, env: dict, within: float = 10, **kwargs) -> tuple[str, str]:
    """The sentence, and standard output."""
    begun = time.monotonic()
    done = run_command(command, env=env, **kwargs)
    assert time.monotonic() - begun < within, "it took its time"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith("{")]
    assert done.returncode == 1 and len(said) == 1, (done.returncode, done.stdout[-1000:], done.stderr[-2000:])
    sentence = said[0].removeprefix("error: ")
    logged = [json.loads(line) for line in lines if line.startswith("{")]
    assert [entry["message"] for entry in logged if entry["level"] == "ERROR"] == [sentence], logged
    return sentence, done.stdout
