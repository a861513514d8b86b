"""The fault proxy of other tests, used from Python: it injects the requested faults and counts them."""

import subprocess

import pytest

from fault_proxy import FaultProxy
from own_postgres import OwnPostgres, _program


@pytest.fixture
def postgres(platform):
    server = OwnPostgres(platform.home / "own", "db")
    platform.closing(server.stop)
    server.psql("CREATE TABLE written (id int)", "db")
    return server


def psql(url: str, sql: str) -> subprocess.CompletedProcess:
    command = [_program("psql"), url, "-X", "-At", "-c", sql]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, cwd="/")


def test_a_lost_reply_belongs_to_a_statement_that_was_carried_out(postgres):
    with FaultProxy(f"127.0.0.1:{postgres.port}") as proxy:
        fault = proxy.inject({"statement": "write"}, "cut_reply", skip=1)
        writes = [psql(proxy.url("db"), f"INSERT INTO written VALUES ({n}) -- write").returncode for n in (1, 2, 3)]
        assert writes[0] == writes[2] == 0 != writes[1]
        assert proxy.injected(fault) == 1
        assert postgres.psql("SELECT count(*) FROM written", "db") == "3"


def test_what_it_cannot_read_it_refuses(postgres):
    with FaultProxy(f"127.0.0.1:{postgres.port}") as proxy, pytest.raises(AssertionError, match="unknown variant"):
        proxy.inject({"statement": "write"}, "explode")
