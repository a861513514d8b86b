"""Inspection of the embedded PostgreSQL cluster of a data dir, from outside."""

import os
import pathlib
import signal
import subprocess
import time

from own_postgres import Session


def psql(data_dir: pathlib.Path, sql: str, database: str = "control", shard: str | None = None) -> str:
    """The unaligned output of one statement, over the cluster's Unix socket; `shard`: in its schema."""
    command = ["psql", "-h", str(data_dir / "postgres"), "-U", "postgres", "-d", database, "-X", "-At", "-c", sql]
    environment = {**os.environ, **({"PGOPTIONS": f"-csearch_path={shard}"} if shard else {})}
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, env=environment)
    assert done.returncode == 0, f"psql: {done.stderr}"
    return done.stdout.strip()


def session(data_dir: pathlib.Path, database: str) -> Session:
    """A connection to that cluster that stays open."""
    return Session(["psql", "-h", str(data_dir / "postgres"), "-U", "postgres", "-d", database, "-X", "-q", "-At"])


def database_url(data_dir: pathlib.Path, database: str) -> str:
    """How another program reaches that cluster."""
    return f"postgres://postgres@localhost/{database}?host={data_dir / 'postgres'}"


def postmaster(data_dir: pathlib.Path) -> int | None:
    """The pid of the server that runs on this data dir now, and on no other."""
    for pid_file in data_dir.rglob("postmaster.pid"):
        try:
            pid = int(pid_file.read_text().split()[0])
            where = pathlib.Path(f"/proc/{pid}/cwd").resolve(strict=True)
        except (OSError, ValueError, IndexError):
            continue
        if where == pid_file.parent.resolve() and data_dir.resolve() in where.parents:
            return pid
    return None


def users(data_dir: pathlib.Path) -> list[int]:
    """Processes that work in this data dir or were started for it: the server and its keeper."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            works_here = data_dir in (process / "cwd").resolve(strict=True).parents
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if works_here or str(data_dir).encode() in words:
            found.append(int(process.name))
    return found


def wait_stopped(data_dir: pathlib.Path, timeout: float = 15) -> bool:
    """Whether the cluster stopped by itself; one that outlives `timeout` is told to quit, so that no test leaves it."""
    end = time.monotonic() + timeout
    while users(data_dir):
        if time.monotonic() > end:
            if (pid := postmaster(data_dir)) is not None:
                os.kill(pid, signal.SIGQUIT)
            return False
        time.sleep(0.05)
    return True
