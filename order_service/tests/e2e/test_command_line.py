"""Hazard: a program that cannot start prints a page of text, exits with the wrong code, or reports nothing.

An unknown flag, a port in use, an unreachable or refusing database, a read-only data dir: one clear line on standard
error; exit code 2 for wrong usage, 1 for the rest.
"""

import contextlib
import os
import socket
import threading
import time

import pytest

from platform_under_test import DATA_MANAGER_BIN, ORDER_SERVICE_BIN
from ports import free_port, is_open
from processes import run_command
from raw_http import get
from waiting import elapsed_since, wait_until


def clear_line(text: str) -> str:
    """The one line that is for a person: what is no log record."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("{")]
    assert len(lines) == 1, f"not one line: {lines}"
    assert "panicked" not in lines[0] and len(lines[0]) < 400, lines[0]
    return lines[0]


def refused_start(binary, *words, exit_code: int, env=None, **kwargs) -> str:
    """The one line of a start that must fail."""
    done = run_command([binary, *words], env=env, **kwargs)
    assert done.returncode == exit_code, (done.returncode, done.stdout[-1000:], done.stderr[-1000:])
    return clear_line(done.stderr)


@pytest.fixture
def home(platform):
    """The environment of a data dir that the platform cleans up."""
    return {"ORDER_SERVICE_DATA_DIR": str(platform.data_dir)}


@pytest.fixture
def taken_port():
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        yield port


@pytest.mark.parametrize(
    ("binary", "flag", "nearest"),
    [
        (ORDER_SERVICE_BIN, "--ap-port", "app-port"),
        (ORDER_SERVICE_BIN, "--calback-timeout", "callback-timeout"),
        (DATA_MANAGER_BIN, "--order-adress", "order-address"),
    ],
)
def test_an_unknown_flag(binary, flag, nearest):
    line = refused_start(binary, flag, "1", exit_code=2)
    assert flag in line and f"--{nearest}" in line


@pytest.mark.parametrize(
    "words", [("--app-port", "many"), ("--callback-timeout", "soon"), ("--workers", "-1"), ("sreve",)], ids=" ".join
)
def test_a_value_or_command_that_is_none(words):
    assert words[-1] in refused_start(ORDER_SERVICE_BIN, *words, exit_code=2)


def test_an_unknown_key_in_the_file(platform, home):
    file = platform.home / "settings.toml"
    file.write_text("app_prot = 1\n")
    done = run_command([ORDER_SERVICE_BIN, "--config", file], env=home)
    line = clear_line(done.stderr).replace("-", "_")
    assert done.returncode in (1, 2) and "app_prot" in line and "app_port" in line


def test_ports_in_use(home, taken_port):
    flags = ("--http-port", str(free_port()))
    line = refused_start(ORDER_SERVICE_BIN, "-app_port", taken_port, *flags, exit_code=1, env=home)
    assert str(taken_port) in line and "use" in line
    flags = ("-app_port", str(free_port()))
    line = refused_start(ORDER_SERVICE_BIN, "--http-port", taken_port, *flags, exit_code=1, env=home)
    assert str(taken_port) in line and "use" in line
    line = refused_start(DATA_MANAGER_BIN, "-app_port", taken_port, exit_code=1)
    assert str(taken_port) in line and "use" in line


@pytest.mark.long
def test_an_unreachable_database(platform):
    nobody = free_port()
    flags = ("--database-url", f"postgres://me@127.0.0.1:{nobody}/control", "--startup-timeout", "3s")
    service = platform.order_service(*flags, start=False)
    start = time.monotonic()
    service.start(ready_within=None)
    wait_until(lambda: is_open(service.http_port), 2, "HTTP opens first", every=0.02)
    assert get(service.http_port, "/healthz").status == 200
    assert get(service.http_port, "/readyz").status == 503
    assert not is_open(service.port), "gRPC opened before it can serve"
    assert service.wait_exit(10) == 1 and elapsed_since(start) >= 3
    assert str(nobody) in service.log_tail()
    done = run_command(service.command, env=service.env)
    assert done.returncode == 1 and str(nobody) in clear_line(done.stderr)


class RefusingDatabase:
    """A PostgreSQL server that refuses every password."""

    ERROR = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user me\0\0"

    def __init__(self):
        self.port, self.refused = free_port(), 0
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self._refuse(connection)

    def _refuse(self, connection):
        connection.settimeout(2)
        if connection.recv(1024)[4:8] == (80877103).to_bytes(4, "big"):  # SSLRequest: no
            connection.sendall(b"N")
            connection.recv(1024)
        self.refused += 1
        connection.sendall(b"E" + (len(self.ERROR) + 4).to_bytes(4, "big") + self.ERROR)

    def close(self):
        self._listener.close()


def test_refused_credentials_end_it_at_once_and_stay_secret(platform, home):
    database = RefusingDatabase()
    platform.closing(database.close)
    url = f"postgres://me:canary-secret@127.0.0.1:{database.port}/control"
    flags = ("--http-port", str(free_port()), "-app_port", str(free_port()), "--database-url", url)
    start = time.monotonic()
    done = run_command([ORDER_SERVICE_BIN, *flags], env=home)
    assert done.returncode == 1 and elapsed_since(start) < 10 and database.refused > 0
    assert "password authentication failed" in clear_line(done.stderr)
    assert "canary-secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["read-only", "a file"])
def test_a_data_dir_that_cannot_be_written(platform, home, kind):
    if kind == "a file":
        platform.data_dir.write_text("not a folder")
    else:
        platform.data_dir.mkdir(mode=0o555)
    # Root may write anywhere, so somebody else starts it.
    as_somebody_else = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
    flags = ("--http-port", str(free_port()), "-app_port", str(free_port()))
    line = refused_start(ORDER_SERVICE_BIN, *flags, exit_code=1, env=home, cwd="/", **as_somebody_else)
    assert str(platform.data_dir) in line


@pytest.mark.parametrize("binary", [ORDER_SERVICE_BIN, DATA_MANAGER_BIN])
@pytest.mark.parametrize(
    "url",
    [
        "postgres://u:x@127.0.0.1:1/db?sslpassword=canary",
        "postgres://u:canary@81/x@127.0.0.1:1/db",
        "mysql://u:canary@127.0.0.1:1/db",
    ],
)
def test_a_bad_database_url_is_refused_without_its_secret(binary, url, home):
    line = refused_start(binary, "--database-url", url, exit_code=2, env=home)
    assert "database-url" in line and "canary" not in line
