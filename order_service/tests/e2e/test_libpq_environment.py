"""Hazard: an environment variable meant for psql silently changes how the service connects to its database.

Nothing of libpq's environment reaches the embedded cluster; an external database is defined by its URL alone, and a
warning names such variables as unused.
"""

import json
import pathlib

import pytest

import embedded_postgres
from own_postgres import OwnPostgres
from platform_under_test import DATA_MANAGER_BIN, ORDER_SERVICE_BIN
from ports import free_port
from processes import run_command
from test_command_line import clear_line

FOUR = ("--initial-shards", "4")
HOSTILE = {
    "PGHOST": "nowhere.invalid",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "1",
    "PGUSER": "stranger",
    "PGDATABASE": "elsewhere",
    "PGPASSWORD": "canary-5e1f",
    "PGPASSFILE": "/nonexistent/pgpass",
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": "/nonexistent/root.crt",
    "PGSSLCERT": "/nonexistent/client.crt",
    "PGSSLKEY": "/nonexistent/client.key",
    "PGOPTIONS": "-c default_transaction_read_only=on -c search_path=pg_catalog",
    "PGSERVICE": "nobody",
    "PGAPPNAME": "psql",
    "PGDATA": "/nonexistent",
    "PGTZ": "Asia/Tokyo",
    "LC_MESSAGES": "de_DE.UTF-8",
    "LANG": "tr_TR.UTF-8",
}


def processes_an_order(platform, service) -> None:
    platform.data_manager()
    client = platform.client(service)
    assert client.process([(1, 10)])[0].is_processed


def test_no_variable_reaches_the_embedded_cluster(platform):
    service = platform.order_service(env=HOSTILE)
    processes_an_order(platform, service)
    names = "SELECT DISTINCT split_part(application_name, '/', 1) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    assert embedded_postgres.psql(platform.data_dir, names) == "order_service"
    server = pathlib.Path(f"/proc/{embedded_postgres.postmaster(platform.data_dir)}/environ").read_bytes()
    # The server itself adds where it found its files.
    assert {word.split(b"=")[0] for word in server.split(b"\0") if word} - {b"PG_GRANDPARENT_PID", b"PGSYSCONFDIR"} == {
        b"PATH",
        b"LC_ALL",
    }
    assert "of the environment" not in service.log.read_text(), "nobody has to be told"


def test_a_url_is_the_whole_truth_about_a_database(platform):
    database = OwnPostgres(platform.home / "pg", "control", "given")
    platform.closing(database.stop)
    migrated = run_command([ORDER_SERVICE_BIN, "migrate", *FOUR, "--database-url", database.url("control")], env=HOSTILE)
    assert migrated.returncode == 0, migrated.stderr
    service = platform.order_service("--database-url", database.url("control"), env=HOSTILE)
    processes_an_order(platform, service)
    warned = [json.loads(line) for line in service.log.read_text().splitlines() if "of the environment" in line]
    assert [entry["level"] for entry in warned] == ["WARN"], warned
    assert "PGOPTIONS" in warned[0]["message"] and "PGSSLMODE" in warned[0]["message"]
    manager = run_command([DATA_MANAGER_BIN, "migrate", "--database-url", database.url("given")], env=HOSTILE)
    assert manager.returncode == 0, manager.stderr
    assert "canary" not in service.log.read_text() + manager.stderr + migrated.stderr


@pytest.mark.parametrize("binary", [ORDER_SERVICE_BIN, DATA_MANAGER_BIN])
def test_who_is_refused_learns_which_variables_are_not_used(platform, binary):
    flags = ["--database-url", f"postgres://me@127.0.0.1:{free_port()}/db", "--startup-timeout", "1s"]
    environment = {"ORDER_SERVICE_DATA_DIR": str(platform.data_dir), "PGPASSWORD": "canary-5e1f"}
    done = run_command([binary, "migrate", *flags], env=environment)
    assert done.returncode == 1
    line = clear_line(done.stderr)
    assert "PGPASSWORD of the environment: not used" in line and "canary" not in done.stderr
