"""Hazard: a read-only command, for example with a mistyped data dir, creates a new empty platform and shows that.

A read-only command creates no data dir, no cluster and no database, and migrates nothing. Without a cluster it reports
that in one sentence, with exit code 1; it starts a stopped cluster, which stops again afterwards.
"""

import pytest

from embedded_postgres import psql, users, wait_stopped
from own_postgres import OwnPostgres
from platform_under_test import DATA_MANAGER_BIN, ORDER_SERVICE_BIN
from processes import run_command
from stubs import REPOSITORY
from waiting import wait_until

BUNDLE = str(REPOSITORY / "configs")
LOOKING = [
    "ledger check",
    "status",
    "export verify",
    "export new-epoch s0 --dry-run",
    "orders callbacks --orphans",
    "migrate --dry-run",
    "shard-of --type storage_outflow storage_id=7",
    "configurator forecast --template-name shop --env test",
    f"reconcile --bundle {BUNDLE} --dry-run",
    f"reconcile --bundle {BUNDLE} --drift",
    f"action-configs --bundle {BUNDLE} --dry-run",
    "integration check --queue balance",
]
DATABASES = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database"
NEWEST = "SELECT max(version) FROM _sqlx_migrations"


def looked(data_dir, command: str):
    return run_command([ORDER_SERVICE_BIN, *command.split()], env={"ORDER_SERVICE_DATA_DIR": str(data_dir)})


@pytest.mark.parametrize("command", LOOKING)
@pytest.mark.parametrize("place", ["no such dir", "an empty dir"])
def test_without_a_cluster_nothing_is_made(tmp_path, command, place):
    data_dir = tmp_path / "d"
    if place == "an empty dir":
        data_dir.mkdir()
    done = looked(data_dir, command)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1 and done.stdout == "" and len(lines) == 1, (done.stdout, done.stderr)
    assert f"there is no cluster here: {data_dir}" in lines[0] and "--data-dir" in lines[0]
    assert list(tmp_path.rglob("*")) == [data_dir] * (place == "an empty dir")


def test_a_stopped_cluster_is_started_and_stops_again(platform):
    service = platform.order_service()
    databases = psql(platform.data_dir, DATABASES)
    service.stop()
    assert wait_stopped(platform.data_dir)
    for command in ("ledger check", "status", "migrate --dry-run", "export verify", f"reconcile --bundle {BUNDLE} --drift"):
        done = looked(platform.data_dir, command)
        assert done.returncode == 0 and done.stdout, (command, done.stderr)
    wait_until(lambda: not users(platform.data_dir), 15, "the cluster stops again")
    assert "no process serves" in looked(platform.data_dir, "status").stdout
    service.start()
    assert psql(platform.data_dir, DATABASES) == databases


def test_an_older_schema_stays_and_the_command_is_named(platform):
    service = platform.order_service()
    newest = psql(platform.data_dir, NEWEST, shard="s1")
    psql(platform.data_dir, f"DELETE FROM _sqlx_migrations WHERE version = {newest}", shard="s1")
    for command in ("ledger check", "export verify"):
        done = looked(platform.data_dir, command)
        assert done.returncode == 1 and "shard s1" in done.stderr and "`migrate`" in done.stderr, done.stderr
    dry = looked(platform.data_dir, "migrate --dry-run")
    assert dry.returncode == 0 and f"shard s1: would apply {newest}" in dry.stdout, dry
    psql(platform.data_dir, "DROP TABLE processes; DELETE FROM _sqlx_migrations WHERE version = 1")
    for command in ("status", "orders callbacks --orphans"):
        done = looked(platform.data_dir, command)
        assert done.returncode == 1 and "control database" in done.stderr and "`migrate`" in done.stderr, done.stderr
    assert psql(platform.data_dir, "SELECT to_regclass('processes') IS NULL") == "t"
    service.kill()


def test_a_database_with_another_history_is_refused_by_every_command(platform):
    """As a development version made it, or a migration that was edited after it had landed."""
    platform.order_service()
    psql(platform.data_dir, "UPDATE _sqlx_migrations SET checksum = 'edited' WHERE version = 1")
    second = platform.order_service(replica=1, start=False)
    second.start(ready_within=None)
    assert second.wait_exit(30) == 1
    refused = [looked(platform.data_dir, command) for command in ("migrate", "status")]
    for told in [second.log_tail(), *(done.stderr for done in refused)]:
        assert "migration 1 of the control database" in told and "another --data-dir" in told, told
    assert [done.returncode for done in refused] == [1, 1]


def test_a_function_that_differs_is_installed_at_the_next_start(platform):
    service = platform.order_service()
    psql(platform.data_dir, "UPDATE installed_functions SET sha256 = 'another' WHERE name = 'write_events'", shard="s1")
    done = looked(platform.data_dir, "ledger check")
    assert done.returncode == 1 and "SQL functions (write_events): run `migrate` first" in done.stderr, done.stderr
    dry = looked(platform.data_dir, "migrate --dry-run")
    assert dry.returncode == 0 and "shard s1: would apply 1 SQL functions" in dry.stdout, dry
    service.stop()
    service.start()
    assert looked(platform.data_dir, "ledger check").returncode == 0


def test_a_shard_that_is_missing_is_not_made(platform):
    service = platform.order_service()
    psql(platform.data_dir, "DROP SCHEMA s3 CASCADE", "control")
    done = looked(platform.data_dir, "ledger check")
    assert done.returncode == 1 and "shard s3" in done.stderr, done.stderr
    dry = looked(platform.data_dir, "migrate --dry-run")
    assert "shard s2: up to date" in dry.stdout and "shard s3: would apply 1 " in dry.stdout, dry
    assert "s3" in looked(platform.data_dir, "status").stdout
    assert psql(platform.data_dir, "SELECT to_regnamespace('s3') IS NULL") == "t"
    service.kill()


def test_the_data_manager_looks_without_a_trace(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    for words in (["config", "print"], ["--help"], ["help", "settings"], ["settings"], ["migrate", "--help"]):
        done = run_command([DATA_MANAGER_BIN, *words], env={"HOME": str(home)}, cwd=home)
        assert done.returncode == 0 and done.stdout and not done.stderr, (words, done.stderr)
    assert list(home.rglob("*")) == []


def test_a_dry_run_of_the_data_manager_leaves_an_empty_database_empty(platform):
    postgres = OwnPostgres(platform.home / "pg", "given")
    try:
        done = run_command([DATA_MANAGER_BIN, "migrate", "--dry-run", "--database-url", postgres.url("given")])
        assert done.returncode == 0 and "would apply 0001" in done.stdout, done
        assert postgres.psql("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace", "given") == "0"
    finally:
        postgres.stop()


@pytest.mark.parametrize("words", [["config", "print"], ["--help"], ["help", "settings"], ["bundle", "validate"]], ids=" ".join)
def test_what_needs_no_database_leaves_no_trace(tmp_path, words):
    data_dir = tmp_path / "d"
    done = run_command([ORDER_SERVICE_BIN, *words], env={"ORDER_SERVICE_DATA_DIR": str(data_dir)}, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout, done
    assert list(tmp_path.rglob("*")) == []
