"""Hazard: a password in a setting appears in a log, an error or the printed settings."""

import json

import pytest

from own_postgres import OwnPostgres
from platform_under_test import DATA_MANAGER_BIN
from ports import free_port
from processes import run_command
from waiting import wait_until

CANARY = "cAnArY0123"
URLS = {
    "--database-url": f"postgres://u:{CANARY}@127.0.0.1:1/x",
    "--nats-url": f"nats://u:{CANARY}@127.0.0.1:1",
    "--sqs-endpoint-url": f"http://u:{CANARY}@127.0.0.1:1",
    "--data-manager-address": f"http://u:{CANARY}@127.0.0.1:1",
}


@pytest.mark.parametrize("flag", URLS)
@pytest.mark.full
def test_no_setting_is_shown_with_its_password(platform, flag):
    service = platform.order_service(start=False)
    for output in ("text", "json"):
        printed = service.command_line("config", "print", "--output", output, flag, URLS[flag])
        assert printed.returncode == 0 and "***" in printed.stdout
        assert CANARY not in printed.stdout + printed.stderr
    broken = URLS[flag].replace("127.0.0.1:1", "[:no port")
    flags = ["--export-engine", "nats"] if flag == "--nats-url" else []
    refused = service.command_line("serve", "--startup-timeout", "1s", flag, broken, *flags)
    assert refused.returncode == 2 and flag in refused.stderr, refused.stderr
    assert CANARY not in refused.stdout + refused.stderr


@pytest.mark.full
def test_addresses_without_credentials_are_refused_with_some(platform):
    service = platform.order_service(start=False)
    for flag in ("--sqs-endpoint-url", "--data-manager-address"):
        refused = service.command_line("serve", flag, URLS[flag])
        assert refused.returncode == 2 and flag in refused.stderr and CANARY not in refused.stderr, refused.stderr
    manager = run_command([DATA_MANAGER_BIN, "--order-address", URLS["--data-manager-address"]])
    assert manager.returncode == 2 and CANARY not in manager.stderr, manager.stderr


def test_a_settings_file_that_does_not_parse_is_refused_without_its_lines(platform):
    file = platform.home / "settings.toml"
    file.write_text(f'database_url = "postgres://u:{CANARY}@h/x\n')
    refused = platform.order_service(start=False).command_line("config", "print", "--config", file)
    assert refused.returncode == 2 and "line 1" in refused.stderr and CANARY not in refused.stderr


@pytest.mark.full
def test_debug_logs_hold_no_password(platform):
    url = f"nats://u:{CANARY}@127.0.0.1:{free_port()}"
    filters = "trace,async_nats=trace,hyper=trace,sqlx=trace"
    service = platform.order_service("--export-engine", "nats", "--nats-url", url, "--log-filter", filters)
    wait_until(lambda: "nats" in service.log.read_text().lower(), 10, "it tries to reach NATS")
    service.stop()
    log = service.log.read_text()
    assert CANARY not in log
    levels = {json.loads(line)["level"] for line in log.splitlines() if line.startswith("{")}
    assert "INFO" in levels


def test_a_database_url_may_be_in_a_file_that_is_closed_to_others(platform):
    postgres = OwnPostgres(platform.home / "postgres", "given")
    platform.closing(postgres.stop)
    file = platform.home / "url"
    file.write_text(postgres.url("given") + "\n")
    file.chmod(0o644)
    refused = run_command([DATA_MANAGER_BIN, "--database-url-file", file])
    assert refused.returncode == 2 and "chmod" in refused.stderr and "postgres://" not in refused.stderr
    file.chmod(0o600)
    both = run_command([DATA_MANAGER_BIN, "--database-url-file", file, "--database-url", postgres.url("given")])
    assert both.returncode == 2 and "--database-url-file" in both.stderr
    platform.data_manager("--database-url-file", file).stop()
    another = platform.order_service(start=False).command_line("migrate", "--database-url-file", file, "--dry-run")
    assert another.returncode == 1 and "of another program" in another.stderr and "postgres://" not in another.stderr
    postgres.psql("CREATE DATABASE control", "postgres")
    file.write_text(postgres.url("control") + "\n")
    migrated = platform.order_service(start=False).command_line("migrate", "--database-url-file", file, "--dry-run")
    assert migrated.returncode == 0, migrated.stderr
