"""Hazard: all connections of a process silently vanish; or a pooler, or too many connections, stand in front of the
database.

A process recovers by itself and is not ready until then; a configuration that cannot work is refused at start with the
reason.
"""

import http.client
import time

import pytest

from own_postgres import OPTIONS, OwnPostgres
from platform_under_test import ORDER_SERVICE_BIN
from pooler import Pooler
from ports import free_port
from processes import run_command
from silent_way import SilentWay
from waiting import wait_until


@pytest.fixture
def server(platform):
    own = OwnPostgres(platform.home / "pg", "control")
    platform.closing(own.stop)
    done = run_command([ORDER_SERVICE_BIN, "migrate", "--database-url", own.url("control"), "--initial-shards", "4"], timeout=60)
    assert done.returncode == 0, done.stderr
    return own


def ask(service, path: str, timeout: float = 5) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", service.http_port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def refused_at_start(platform, url: str, *flags) -> str:
    command = [ORDER_SERVICE_BIN, "--database-url", url, "--http-port", free_port(), "-app_port", free_port(), *flags]
    done = run_command(command, env={"ORDER_SERVICE_DATA_DIR": str(platform.data_dir)})
    assert done.returncode == 1, (done.returncode, done.stderr[-2000:])
    return done.stderr


@pytest.mark.long
def test_connections_that_all_go_silent_are_replaced(platform, server):
    way = SilentWay(server.port)
    platform.closing(way.stop)
    service = platform.order_service("--database-url", f"postgres://postgres@127.0.0.1:{way.port}/control")
    platform.data_manager()
    client = platform.client(service)
    assert len(client.process([(n, 1) for n in range(1, 101)])) == 100
    silent = way.silence()
    assert silent >= 5, "hardly anything went silent"
    began = time.monotonic()

    def works() -> bool:
        try:
            number = int(time.monotonic() * 1000) % 10**9
            return client.process([(number, 1)], timeout=5)[0].order_id == number
        except Exception:
            return False

    wait_until(works, 30, "an order is processed again")
    wait_until(lambda: ask(service, "/readyz")[0] == 200, 30, "ready again")
    assert time.monotonic() - began < 30
    status, metrics = ask(service, "/metrics")
    assert status == 200 and "store_no_answer_total" in metrics and 'store_connections{pool="control"}' in metrics
    expired = server.psql("SELECT count(*) FROM leases WHERE owner IS NOT NULL AND expires_at < now() AND expires_at <> '-infinity'", "control")
    assert expired == "0", f"{expired} leases expired"


@pytest.mark.long
def test_a_database_that_takes_nothing_shows_in_readyz(platform, server):
    way = SilentWay(server.port)
    platform.closing(way.stop)
    service = platform.order_service("--database-url", f"postgres://postgres@127.0.0.1:{way.port}/control")
    assert ask(service, "/readyz")[0] == 200
    server.psql("ALTER DATABASE control SET default_transaction_read_only = on", "postgres")
    way.silence()
    wait_until(lambda: "is read-only" in ask(service, "/readyz")[1], 20, "not ready, and why")
    assert ask(service, "/readyz")[0] == 503
    server.psql("ALTER DATABASE control SET default_transaction_read_only = off", "postgres")
    way.silence()
    wait_until(lambda: ask(service, "/readyz")[0] == 200, 20, "ready again")


def test_a_session_pooler_works(platform, server):
    pooler = Pooler(platform.home / "pgbouncer", server.port, "session")
    platform.closing(pooler.stop)
    service = platform.order_service("--database-url", pooler.url("control"))
    platform.data_manager()
    client = platform.client(service)
    assert len(client.process([(n, 1) for n in range(1, 51)])) == 50
    settings = server.psql(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'order_service/%' AND client_addr = '127.0.0.1'",
        "control",
    )
    assert int(settings) >= 3
    service.stop()


def test_a_transaction_pooler_is_refused(platform, server):
    pooler = Pooler(platform.home / "pgbouncer", server.port, "transaction")
    platform.closing(pooler.stop)
    told = refused_at_start(platform, pooler.url("control"))
    assert "pool_mode = session" in told, told


def test_more_connections_than_the_server_has_are_refused_with_the_flags(platform, server):
    limit = int(OPTIONS["max_connections"])
    told = refused_at_start(platform, server.url("control"), "--database-connections", limit)
    assert "--database-connections" in told and "--shard-connections" in told and "max_connections" in told, told
