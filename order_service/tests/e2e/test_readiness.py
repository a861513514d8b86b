"""Hazard: a service reports ready and cannot write: its database is a standby, read-only or full."""

import json
import os
import subprocess
import time

import grpc
import pytest

from client import refusal_of
from own_postgres import OwnPostgres
from ports import free_port
from platform_under_test import DATA_MANAGER_BIN, ORDER_SERVICE_BIN
from processes import run_command
from raw_http import get
from waiting import wait_until


@pytest.fixture
def server(platform):
    server = OwnPostgres(platform.home / "postgres", "control", "shards", "given")
    platform.closing(server.stop)
    return server


def migrated(platform, server) -> list:
    flags = ["--database-url", server.url("control")]
    done = run_command([ORDER_SERVICE_BIN, "migrate", *flags, "--initial-shards", "4"], timeout=60)
    assert done.returncode == 0, done
    return flags


def reason(service) -> str:
    answer = get(service.http_port, "/readyz")
    if answer.status == 200:
        return ""
    assert answer.status == 503
    return json.loads(answer.body)["error"]["message"]


def test_a_server_that_is_made_read_only_and_writable_again(platform, server):
    service = platform.order_service(*migrated(platform, server))
    assert reason(service) == ""
    server.psql("ALTER SYSTEM SET default_transaction_read_only = on", "postgres")
    server.psql("SELECT pg_reload_conf()", "postgres")
    wait_until(lambda: "read-only" in reason(service), 10, "not ready, and why")
    refused = refusal_of(platform.client(service).process, [(1, 1)], timeout=2)
    assert refused.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    session = server.session("postgres")
    session.say("SET default_transaction_read_only = off;")
    session.say("ALTER SYSTEM RESET default_transaction_read_only;")
    session.say("SELECT pg_reload_conf();")
    wait_until(lambda: reason(service) == "", 20, "ready again")


@pytest.mark.long
def test_a_standby_is_called_one_at_the_start(platform, server):
    flags = migrated(platform, server)
    assert run_command([DATA_MANAGER_BIN, "migrate", "--database-url", server.url("given")]).returncode == 0
    server.kill()
    (server.folder / "standby.signal").touch()
    server.options["hot_standby"] = "on"
    (server.folder / "postmaster.pid").unlink(missing_ok=True)
    server.start()
    ports = ["--app-port", free_port()]
    for binary, more in [
        (ORDER_SERVICE_BIN, [*flags, "--http-port", free_port()]),
        (DATA_MANAGER_BIN, ["--database-url", server.url("given")]),
    ]:
        start = time.monotonic()
        done = run_command([binary, *more, *ports, "--startup-timeout", "2s"])
        assert done.returncode == 1 and time.monotonic() - start < 10, done
        assert "standby" in done.stderr.splitlines()[-1], done.stderr


@pytest.mark.long
def test_a_server_that_becomes_a_standby(platform, server):
    service = platform.order_service(*migrated(platform, server))
    server.kill()
    (server.folder / "standby.signal").touch()
    server.start()
    wait_until(lambda: "standby" in reason(service), 30, "not ready, and why")


def test_a_disk_without_room(platform):
    """The data dir on a file system of its own, which somebody fills."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    platform.data_dir.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=0755", "tmpfs", platform.data_dir])
    if mounted.returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        service = platform.order_service()
        assert reason(service) == ""
        filler = platform.data_dir / "filler"
        with filler.open("wb") as file:
            try:
                while True:
                    file.write(bytes(1 << 20))
                    file.flush()
            except OSError:
                pass
        wait_until(lambda: "full" in reason(service), 10, "not ready, and why")
        filler.unlink()
        wait_until(lambda: reason(service) == "", 40, "ready again")
        service.stop()
        wait_until(lambda: not list(platform.data_dir.glob("*/postmaster.pid")), 20, "the cluster has stopped")
    finally:
        for process in platform.processes:
            process.kill()
        wait_until(lambda: subprocess.run(["umount", platform.data_dir]).returncode == 0, 20, "unmounted")
