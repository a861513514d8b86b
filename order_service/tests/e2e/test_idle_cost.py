"""Hazard: an idle platform costs a notebook a quarter of a gigabyte of memory and a busy core."""

import pathlib
import time
import urllib.request

import pytest

import embedded_postgres
from waiting import wait_until

pytestmark = pytest.mark.alone

MOST_PROCESSES = 28
# Of these some 75 MiB are shared memory that PostgreSQL fills when it starts, by the machine's memory.
MOST_CLUSTER_MIB = 180
# A second. What one costs is the machine's affair: where cores sleep, waking them up is most of it.
MOST_STATEMENTS = 60
WINDOW = 5


def pss_mib(pid: int) -> float:
    """The process's proportional share of the memory it uses; 0 of one that has ended."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0)


def statements(service) -> float:
    """Database work so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{service.http_port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("store_seconds_count"))


def test_an_idle_platform_is_small(platform):
    service = platform.order_service()

    def settled() -> list[int] | None:
        before = set(embedded_postgres.users(platform.data_dir))
        time.sleep(1)
        return sorted(before) if before == set(embedded_postgres.users(platform.data_dir)) else None

    # Connections that the start needed are closed after half a minute; autovacuum's workers come and go.
    def small() -> list[int] | None:
        cluster = settled()
        return cluster if cluster and len(cluster) <= MOST_PROCESSES else None

    cluster = wait_until(small, 75, f"{MOST_PROCESSES} server processes at most, the same for a second")
    memory = sum(pss_mib(pid) for pid in cluster)
    print(f"{len(cluster)} processes, cluster {memory:.0f} MiB, service {pss_mib(service.pid):.0f} MiB")
    assert memory < MOST_CLUSTER_MIB
    before = statements(service)
    time.sleep(WINDOW)
    rate = (statements(service) - before) / WINDOW
    print(f"{rate:.0f} statements a second")
    assert rate < MOST_STATEMENTS
