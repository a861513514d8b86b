"""Hazard: small faults at start and exit: one port for two listeners, a terminal that closes, a silent connection, an
empty environment variable, more workers than memory.
"""

import os
import pathlib
import signal
import socket
import time

import pytest

from client import assert_processed_as_given, request_of
from foreign_data_manager import Behaviour, first_data
from platform_under_test import DATA_MANAGER_BIN, ORDER_SERVICE_BIN
from ports import free_port
from processes import run_command
from waiting import elapsed_since, wait_until


def test_one_port_for_both_listeners_is_refused_at_once(platform):
    port, start = free_port(), time.monotonic()
    done = run_command([ORDER_SERVICE_BIN, "--app-port", port, "--http-port", port], env={"ORDER_SERVICE_DATA_DIR": str(platform.data_dir)})
    assert done.returncode == 2 and elapsed_since(start) < 2, done
    assert "--http-port" in done.stderr and "--app-port" in done.stderr


def test_a_port_that_is_taken_meanwhile_ends_the_service_soon(platform):
    service = platform.order_service(start=False)
    service.start(ready_within=None)
    taken = socket.socket()

    def take() -> bool:
        try:
            taken.bind(("127.0.0.1", service.port))
            taken.listen()
            return True
        except OSError:
            return False

    time.sleep(0.2)  # not a wait: the port is tried at the very beginning
    wait_until(take, 1, "the port", every=0.001)
    start = time.monotonic()
    assert service.wait_exit(20) == 1 and elapsed_since(start) < 15
    assert f"port {service.port} is in use" in service.log_tail()
    taken.close()


@pytest.mark.parametrize("default", [True, False])
def test_the_http_port_gives_way_if_nobody_asked_for_it(platform, default):
    # 8095 is the HTTP port's default; with the gRPC port there, the next free one is taken.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if probe.connect_ex(("127.0.0.1", 8095)) == 0:
            pytest.skip("somebody serves on 8095")
    platform.order_ports[0] = 8095 if default else 8096
    service = platform.order_service(bare=True)
    assert service.is_serving()


def test_a_closed_terminal_is_a_stop_in_order(platform):
    foreign = platform.foreign_data_manager(default=Behaviour.AFTER)
    foreign.delay = 1.5
    service = platform.order_service()
    answer = platform.client(service).stub.ProcessOrders.future(request_of([(1, 1)]), timeout=12)
    wait_until(lambda: foreign.questions[1], 5, "it is asked for")
    service.process.send_signal(signal.SIGHUP)
    service.process.send_signal(signal.SIGHUP)
    assert_processed_as_given(answer.result().processed_orders, {1: first_data(1)})
    assert service.wait_exit(35) == 0


def test_the_data_manager_hangs_up_as_well(platform):
    manager = platform.data_manager()
    manager.process.send_signal(signal.SIGHUP)
    assert manager.wait_exit(15) == 0


@pytest.mark.parametrize("program", ["order_service", "data_manager"])
def test_nohup_is_heeded(platform, program):
    process = getattr(platform, program)(start=False)
    process.command = ["nohup", *process.command]
    process.start()
    process.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)  # not a wait: it must go on
    assert process.is_running() and process.is_serving()


@pytest.mark.parametrize("said", [b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PRI * HT"])
@pytest.mark.parametrize("program", ["order_service", "data_manager"])
def test_a_silent_connection_does_not_hold_up_the_end(platform, program, said):
    process = getattr(platform, program)()
    silent = socket.create_connection(("127.0.0.1", process.port))
    silent.sendall(said)
    time.sleep(0.2)  # not a wait: so that it is taken
    start = time.monotonic()
    process.terminate()
    assert process.wait_exit(20) == 0
    assert elapsed_since(start) < (1.5 if program == "data_manager" else 4)
    silent.close()


def test_empty_variables_are_as_if_not_set(platform):
    names = ["APP_PORT", "WORKERS", "LISTEN", "DATABASE_URL", "ROLES", "CONFIG", "SHARDS", "CALLBACK_TIMEOUT", "ALLOW_UNAUTHENTICATED"]
    env = {f"ORDER_SERVICE_{name}": "" for name in names}
    done = run_command([ORDER_SERVICE_BIN, "config", "print"], env=env)
    assert done.returncode == 0 and "environment ORDER" not in done.stdout and "environment DATA" not in done.stdout, done
    env = {f"DATA_MANAGER_{name}": "" for name in ["APP_PORT", "SEED", "LISTEN", "DATABASE_URL", "CONFIG", "ONCE"]}
    done = run_command([DATA_MANAGER_BIN, "config", "print"], env=env)
    assert done.returncode == 0 and "environment ORDER" not in done.stdout and "environment DATA" not in done.stdout, done
    assert platform.order_service(env={f"ORDER_SERVICE_{name}": "" for name in names}).is_serving()


def test_the_largest_pipeline_costs_what_it_is_used_for(platform):
    service = platform.order_service("--workers", "100000", "--fan-limit", "100000")
    platform.data_manager()
    answers = platform.client(service).process([(n, 1) for n in range(1, 1001)])
    assert all(answer.is_processed for answer in answers)
    assert service.resident_mib() < 500


def listening(pid: int) -> set[tuple[str, int]]:
    """The addresses of all sockets that this process listens on."""
    inodes = set()
    for file in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(file))
        except OSError:
            pass
    found = set()
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                address, port = words[1].split(":")
                found.add((table, int(port, 16)))
    return found


def test_any_free_port_is_the_same_on_both_addresses(platform):
    service = platform.order_service(start=False)
    for flag in ("-app_port", "--http-port"):
        service.command[service.command.index(flag) + 1] = "0"
    service.start(ready_within=None)
    wait_until(lambda: b"order service ready" in service.log.read_bytes(), 60, "ready")
    bound = listening(service.pid)
    assert len(bound) == 4 and len({port for _, port in bound}) == 2, bound
