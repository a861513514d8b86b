"""Hazard: the reader of the log exits, stops reading, or has no space left, and the program fails with it.

Log lines are lost and counted, and everything else continues. Exit codes are the documented ones, even if their message
cannot be written.
"""

import json
import os
import re
import signal
import subprocess
import time

import pytest

import platform_under_test
from ports import free_port
from processes import clean_environment, run_command
from raw_http import get
from waiting import wait_until

FULL = "/dev/full"


class Reader:
    """The end of a pipe that a program logs to."""

    def __init__(self):
        self._end, self.program = os.pipe()

    def read_some(self) -> bytes:
        return os.read(self._end, 1000)

    def go_away(self) -> None:
        os.close(self._end)


def logging_to(monkeypatch, stderr):
    """Programs started from now on log there."""
    real = subprocess.Popen

    def popen(*args, **kwargs):
        return real(*args, **{**kwargs, "stderr": stderr})

    monkeypatch.setattr("processes.subprocess.Popen", popen)


def lost_lines(service) -> int:
    found = re.search(r"^log_lines_lost_total (\d+)", get(service.http_port, "/metrics").body.decode(), re.M)
    return int(found[1]) if found else 0


def orders_go_on(client, first: int) -> None:
    answers = client.process([(order_id, 1) for order_id in range(first, first + 200)])
    assert all(answer.is_processed for answer in answers)


@pytest.mark.parametrize("end", ["gone", "not reading", "disk full"])
def test_the_platform_goes_on_without_its_logs(platform, monkeypatch, end):
    reader, full = Reader(), os.open(FULL, os.O_WRONLY)
    logging_to(monkeypatch, full if end == "disk full" else reader.program)
    manager = platform.data_manager("--log-filter", "debug")
    service = platform.order_service("--log-filter", "debug")
    client = platform.client(service)
    if end != "disk full":
        assert reader.read_some()
    if end == "gone":
        os.close(reader.program)
        reader.go_away()
    for first in range(0, 2000, 200):
        orders_go_on(client, first)
    # An order that waits: its reason is logged as well.
    manager.stop()
    assert not client.process([(-1, 1)], timeout=2)[0].is_processed
    if end == "gone":
        logging_to(monkeypatch, subprocess.DEVNULL)
    manager.start()
    wait_until(lambda: client.get(-1).state == 4, 20, "it is processed after all")
    orders_go_on(client, 5000)
    assert get(service.http_port, "/readyz").status == 200
    if end != "not reading":
        assert lost_lines(service) > 0, "nothing was lost: nothing was shown"
    start = time.monotonic()
    service.stop()
    manager.stop()
    assert time.monotonic() - start < 10


def programs():
    return [platform_under_test.ORDER_SERVICE_BIN, platform_under_test.DATA_MANAGER_BIN]


def exit_code(command: list, **kwargs) -> int:
    words = [str(word) for word in command]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, timeout=30, env=clean_environment(kwargs.pop("env", None)), **kwargs)
    return done.returncode


@pytest.mark.parametrize("place", ["closed", "gone", "full"])
@pytest.mark.parametrize("program", [0, 1])
def test_exit_codes_are_the_documented_ones_whoever_hears(platform, program, place):
    binary = programs()[program]
    nowhere = "postgres://nobody@127.0.0.1:1/nothing"
    cases = [
        (["--no-such-flag"], 2),
        (["--app-port", "no-port"], 2),
        (["--log-filter", "=,="], 2),
        (["--database-url", nowhere, "--startup-timeout", "1s", "--app-port", free_port()], 1),
    ]
    ports = {"ORDER_SERVICE_HTTP_PORT": str(free_port()), "ORDER_SERVICE_DATA_DIR": str(platform.data_dir)}
    for flags, code in cases:
        line = " ".join(f"'{word}'" for word in [binary, *flags])
        shell = {
            "closed": f"exec {line} 2>&- >&-",
            "gone": f"set -o pipefail; {{ {line}; }} 2>&1 | true",
            "full": f"exec {line} 2>{FULL} >{FULL}",
        }[place]
        assert exit_code(["bash", "-c", shell], env=ports) == code, (flags, place)


def test_a_result_that_cannot_be_written_is_no_success(platform):
    for binary in programs():
        with open(FULL, "wb") as full:
            words = [binary, "config", "print"]
            done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, env=clean_environment())
        assert done.returncode == 1 and "No space left" in done.stderr, done
        gone = run_command(["bash", "-c", f"set -o pipefail; '{binary}' config print | true"])
        assert gone.returncode == 0, gone


def test_all_lines_of_the_log_are_plain_json_at_any_level(platform):
    service = platform.order_service("--log-filter", "trace")
    manager = platform.data_manager("--log-filter", "trace")
    platform.client(service).process([(1, 1)])
    for process in (service, manager):
        process.stop()
        for line in process.log.read_bytes().splitlines():
            assert b"\x1b" not in line, line
            json.loads(line)


@pytest.mark.long
def test_a_second_signal_ends_a_program_whose_log_nobody_reads(platform, monkeypatch):
    reader = Reader()
    logging_to(monkeypatch, reader.program)
    service = platform.order_service("--log-filter", "trace")
    client = platform.client(service)
    for first in range(0, 2000, 200):
        client.process([(order_id, 1) for order_id in range(first, first + 200)], timeout=0.5)
    service.terminate()
    service.process.send_signal(signal.SIGTERM)
    assert service.wait_exit(10) in (0, 1)
