"""Hazard: terminal output is unreadable or dangerous: tables broken by the terminal's width, a help text longer than
the screen, an error text with escape sequences that clear the screen or forge a line.
"""

import json
import re
import socket

import pytest

from embedded_postgres import psql
from foreign_data_manager import Behaviour
from platform_under_test import DATA_MANAGER_BIN, ORDER_SERVICE_BIN
from ports import free_port
from processes import run_command
from terminals import run_in_terminal
from waiting import wait_until

HOSTILE = "\x1b[2J\x1b]0;gone\x07 no callback\nerror: forged " + "x" * 2000
# Two processes that share the work.
FRONT, BACK = "grpc,http,retry", "sequencer,aggregator,exporter,scheduler,tasks,configurator"
COMMANDS = [
    "serve", "process", "orders get", "orders list", "orders retry", "orders callbacks", "migrate", "ledger balance",
    "ledger turnovers", "ledger events", "ledger types", "ledger shards", "ledger check", "shard-of", "export verify",
    "export new-epoch", "export resume", "configurator forecast", "queues ensure", "queues bury", "integration check", "testproxy",
    "bundle validate", "reconcile", "action-configs", "status", "config print",
]  # fmt: skip


def screen(platform, *words, **kwargs):
    environment = {"ORDER_SERVICE_DATA_DIR": str(platform.data_dir)}
    return run_in_terminal([ORDER_SERVICE_BIN, *words], env=environment, **kwargs)


def set_error(platform, order_id: int, error: str) -> None:
    quoted = error.replace("'", "''")
    psql(platform.data_dir, f"UPDATE orders SET last_error = '{quoted}' WHERE order_id = {order_id}")


@pytest.fixture
def with_orders(platform):
    """A service that knows order 17, finished, and -2147483648, with a hostile error."""
    platform.foreign_data_manager()
    service = platform.order_service()
    platform.client(service).process([(17, 4), (-(2**31), 2**31 - 1)])
    set_error(platform, -(2**31), HOSTILE)
    return service


def test_orders_on_eighty_columns(platform, with_orders):
    server = f"127.0.0.1:{with_orders.port}"
    for columns in (80, 60, 200):
        shown = screen(platform, "orders", "list", "--server", server, columns=columns)
        assert shown.returncode == 0 and "17" in shown.text, shown
        assert columns == 60 or "callback" in shown.text, "narrower, and words are cut"
        shown.assert_fits(columns)
        assert "\x1b" not in shown.text and "\x07" not in shown.text
        assert not [line for line in shown.lines if line.startswith("error")], "a forged line"
    one = screen(platform, "orders", "get", "--server", server, "--", "-2147483648")
    one.assert_fits(80)
    assert one.text.count("x") >= 2000 and "\\u{1b}[2J" in one.text and "\x1b" not in one.text
    piped = with_orders.client_command("orders", "list")
    assert max(map(len, piped.stdout.splitlines())) <= 80 and "\x1b" not in piped.stdout
    listed = json.loads(with_orders.client_command("orders", "list", "--output", "json").stdout)
    assert listed["orders"][0]["last_error"] == HOSTILE


def test_status_on_one_screen(platform):
    foreign = platform.foreign_data_manager()
    front = platform.order_service("--roles", FRONT)
    back = platform.order_service("--roles", BACK, replica=1, start=False)
    back.start(ready_within=None)
    foreign.default = Behaviour.SILENT
    platform.client(front).process([(n, 1) for n in range(1, 40)], timeout=1)
    failed = "SELECT count(*) > 0 FROM jobs WHERE last_error <> ''"
    wait_until(lambda: psql(platform.data_dir, failed) == "t", 20, "an order waits with its error")
    wait_until(lambda: psql(platform.data_dir, "SELECT count(*) FROM processes") == "2", 20, "two processes")
    shown = screen(platform, "status")
    shown.assert_fits(80, 24)
    assert "\x1b" not in shown.text
    host = socket.gethostname()
    for process in (front, back):
        assert re.search(rf"^{re.escape(host)} +{process.pid} +\d+\.\d+\.\d+(-dev)? ", shown.text, re.MULTILINE), shown.text
    for expected in ("grpc, http, retry", "orders", "s0", "s3", "orders waiting", "no callback"):
        assert expected in shown.text, shown.text

    def reported():
        return json.loads(front.command_line("status", "--output", "json").stdout)

    status = reported()
    by_pid = {process["pid"]: process for process in status["processes"]}
    assert by_pid.keys() == {front.pid, back.pid}
    assert by_pid[front.pid]["roles"] == FRONT.split(",") and by_pid[back.pid]["roles"] == BACK.split(",")
    assert all(p["alive"] and p["host"] == host and p["up_seconds"] >= 0 for p in status["processes"])
    (queue,) = [queue for queue in status["queues"] if queue["queue"] == "orders"]
    assert queue["due"] + queue["delayed"] > 0 and queue["oldest_seconds"] >= 0
    assert [shard["shard"] for shard in status["shards"]] == ["s0", "s1", "s2", "s3"]
    wait_until(lambda: reported()["shards"][0]["on_duty"] == ["aggregator", "exporter", "sequencer"], 20, "duties")
    assert {shard["to_number"] for shard in status["shards"]} == {0}

    back.stop()
    assert [process["pid"] for process in reported()["processes"]] == [front.pid]


def test_a_killed_process_is_seen_to_be_silent(platform):
    service = platform.order_service()
    keeps_the_cluster = platform.order_service("--roles", BACK, replica=1, start=False)
    keeps_the_cluster.start(ready_within=None)
    wait_until(lambda: psql(platform.data_dir, "SELECT count(*) FROM processes") == "2", 20, "two processes")
    pid = service.pid
    service.kill()
    psql(platform.data_dir, f"UPDATE processes SET seen_at = seen_at - interval '30 s' WHERE pid = {pid}")
    shown = screen(platform, "status")
    assert re.search(rf"{pid} .* SILENT \d+ s", shown.text), shown.text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command):
    shown = run_in_terminal([ORDER_SERVICE_BIN, *command.split(), "-h"])
    assert shown.returncode == 0 and "Example: order_service" in shown.text
    assert "order_service help settings" in shown.text
    shown.assert_fits(80, 50 if command == "reconcile" else 24)
    # Settings of special cases are on the page, not here.
    assert "--webhook-ca" not in shown.text and "--fan-limit" not in shown.text


def test_the_first_help_fits_on_a_screen():
    for flag in ("-h", "--help"):
        shown = run_in_terminal([ORDER_SERVICE_BIN, flag])
        shown.assert_fits(80, 24)
        assert "help settings" in shown.text and "status" in shown.text
    run_in_terminal([DATA_MANAGER_BIN, "-h"]).assert_fits(80, 30)


@pytest.mark.parametrize(("binary", "prefix"), [(ORDER_SERVICE_BIN, "ORDER_SERVICE_"), (DATA_MANAGER_BIN, "DATA_MANAGER_")])
def test_every_setting_is_on_the_page_and_accepted_everywhere(binary, prefix, tmp_path):
    listed = json.loads(run_command([binary, "config", "print", "--output", "json"]).stdout)
    names = {setting["name"] for setting in listed} if isinstance(listed, list) else set(listed)
    page = run_in_terminal([binary, "help", "settings"], lines=400)
    assert page.returncode == 0
    page.assert_fits(80)
    assert run_command([binary, "settings"]).returncode == 0
    on_page = set(re.findall(r"^  --([a-z-]+)", page.text, re.MULTILINE))
    assert names <= on_page and len(on_page) > 10
    for name in on_page:
        assert prefix + name.upper().replace("-", "_") in page.text
    known = run_command([binary, "config", "print", "--startup-timeout", "7s"])
    assert known.returncode == 0 and re.search(r"startup-timeout\W+7s\W+flag", known.stdout), known.stdout


def test_a_setting_that_help_hides_is_accepted():
    nobody = f"127.0.0.1:{free_port()}"
    done = run_command([ORDER_SERVICE_BIN, "orders", "list", "--server", nobody, "--fan-limit", "3", "--workers", "9"])
    assert done.returncode == 1 and nobody in done.stderr, done
