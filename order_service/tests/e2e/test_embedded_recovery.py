"""Hazard: processes of the embedded cluster are killed, one by one or all together, under load."""

import os
import pathlib
import signal

import pytest

import embedded_postgres
from client import FINISHED
from foreign_data_manager import first_data
from waiting import wait_until


def keeper(platform) -> int:
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"keep-postgres" in words and str(platform.data_dir).encode() in words:
            return int(process.name)
    raise AssertionError("no keeper")


@pytest.mark.parametrize("victim", ["keeper", "postmaster"])
def test_the_service_survives_the_death_of(platform, victim):
    platform.foreign_data_manager()
    client = platform.client(platform.order_service())
    client.process([(1, 1)])
    pid = keeper(platform) if victim == "keeper" else embedded_postgres.postmaster(platform.data_dir)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: embedded_postgres.postmaster(platform.data_dir) not in (None, pid), 20, "another server")

    def processed() -> bool:
        return client.process([(2, 1)], timeout=10)[0].is_processed

    def tried() -> bool:
        try:
            return processed()
        except Exception:  # noqa: BLE001 - unavailable for a moment is fine
            return False

    wait_until(tried, 20, "an order after the death")
    for order_id in (1, 2):
        order = client.wait_state(order_id, FINISHED, timeout=5)
        assert (order.storage_id, order.pickup_point_id) == first_data(order_id)


@pytest.mark.parametrize("turn", ["service first", "server first"])
def test_a_start_right_after_everything_was_killed_recovers(platform, turn):
    platform.foreign_data_manager()
    service = platform.order_service()
    client = platform.client(service)
    client.process([(order_id, 1) for order_id in range(100)])
    pids = [service.pid, keeper(platform), embedded_postgres.postmaster(platform.data_dir)]
    for pid in pids if turn == "service first" else reversed(pids):
        os.kill(pid, signal.SIGKILL)
    service.process.wait(10)
    service.start()
    assert all(client.get(order_id).state == FINISHED for order_id in range(100))
