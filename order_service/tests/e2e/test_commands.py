"""Hazard: the commands print something other than the stored state, or exit with the wrong code."""

import json
import re

import grpc
import pytest

from foreign_data_manager import Behaviour, first_data
from platform_under_test import ORDER_SERVICE_BIN
from ports import free_port
from processes import run_command


@pytest.fixture
def foreign(platform):
    return platform.foreign_data_manager()


@pytest.fixture
def service(platform, foreign):
    return platform.order_service()


def printed(done, exit_code: int = 0):
    """The JSON that a command printed."""
    assert done.returncode == exit_code, (done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout)


def processed(order_id: int, product_id: int) -> dict:
    storage_id, pickup_point_id = first_data(order_id)
    ids = {"order_id": order_id, "product_id": product_id, "storage_id": storage_id}
    return {**ids, "pickup_point_id": pickup_point_id, "is_processed": True}


def test_process(platform, foreign, service):
    done = service.client_command("process", "--order", "17:4", "--order", "-3:9", "--output", "json")
    assert printed(done)["processed_orders"] == [processed(17, 4), processed(-3, 9)]

    table = service.client_command("process", "--order", "17:4")
    assert table.returncode == 0 and "17" in table.stdout and str(first_data(17)[0]) in table.stdout

    csv, ndjson = platform.home / "orders.csv", platform.home / "orders.ndjson"
    csv.write_text("order_id,product_id\n20,1\n-21,2\n")
    ndjson.write_text('{"order_id": 22, "product_id": 3}\n{"order_id": -23, "product_id": 4}\n')
    done = service.client_command("process", "--file", csv, "--output", "json")
    assert printed(done)["processed_orders"] == [processed(20, 1), processed(-21, 2)]
    done = service.client_command("process", "--file", ndjson, "--output", "json")
    assert printed(done)["processed_orders"] == [processed(22, 3), processed(-23, 4)]
    done = service.client_command("process", "--file", "-", "--output", "json", input="30,5\n31,6\n")
    assert printed(done)["processed_orders"] == [processed(30, 5), processed(31, 6)]

    foreign.plans = {40: grpc.StatusCode.NOT_FOUND}
    done = service.client_command("process", "--order", "40:1", "--order", "41:1", "--output", "json")
    assert [order["is_processed"] for order in printed(done, exit_code=1)["processed_orders"]] == [False, True]
    refused = service.client_command("process", "--order", "17:5")
    assert refused.returncode == 1 and "17" in refused.stderr
    assert service.client_command("process", "--order", "seventeen").returncode == 2


def test_get_list_retry(foreign, service):
    foreign.plans = dict.fromkeys((1, 2), grpc.StatusCode.NOT_FOUND)
    orders = [word for order_id in (-5, 1, 2, 3) for word in ("--order", f"{order_id}:7")]
    assert service.client_command("process", *orders).returncode == 1

    finished = printed(service.client_command("orders", "get", "-5", "--output", "json"))
    storage_id, pickup_point_id = first_data(-5)
    assert (finished["order_id"], finished["product_id"]) == (-5, 7)
    assert (finished["storage_id"], finished["pickup_point_id"]) == (storage_id, pickup_point_id)
    assert finished["state"] == "order_process_finished" and finished["attempts"] == 1
    assert finished["next_attempt_at"] is None and finished["last_error"] == ""
    assert [change["state"] for change in finished["history"]] == [
        "order_initialized",
        "order_process_started",
        "order_finished_external_interaction",
        "order_process_finished",
    ]
    listed = printed(service.client_command("orders", "list", "--state", "order_failed", "--output", "json"))
    states = {order["order_id"]: order["state"] for order in listed["orders"]}
    assert states == dict.fromkeys((1, 2), "order_failed")
    assert listed["next_page_token"] == "" and "refused by plan" in listed["orders"][0]["last_error"]
    assert [change["state"] for change in listed["orders"][0]["history"]][-1] == "order_failed"

    foreign.plans = {}
    assert service.client_command("orders", "retry", "1", "2").returncode == 0
    again = service.client_command("process", "--order", "1:7", "--order", "2:7", "--output", "json")
    assert printed(again)["processed_orders"] == [processed(1, 7), processed(2, 7)]
    assert service.client_command("orders", "retry", "3").returncode == 1
    unknown = service.client_command("orders", "get", "404")
    assert unknown.returncode == 1 and "404" in unknown.stderr
    assert service.client_command("orders", "list", "--state", "nowhere").returncode == 2


def test_many_are_retried_in_one_call_by_state_or_file_once_their_number_is_confirmed(foreign, service, platform):
    foreign.plans = dict.fromkeys(range(1, 61), grpc.StatusCode.NOT_FOUND)
    orders = [word for order_id in range(1, 61) for word in ("--order", f"{order_id}:7")]
    assert service.client_command("process", *orders).returncode == 1
    foreign.plans = {}

    unconfirmed = service.client_command("orders", "retry", "--state", "order_failed", input="")
    assert unconfirmed.returncode == 1 and "60 orders in state order_failed would be retried: give --yes" in unconfirmed.stderr
    file = platform.home / "retried.csv"
    file.write_text("order_id,product_id\n" + "".join(f"{n},7\n" for n in range(1, 11)) + "404,1\n")
    of_file = service.client_command("orders", "retry", "--file", file, "--yes", "--output", "json")
    told = printed(of_file, exit_code=1)
    assert told["retried"] == 10 and [error["order_id"] for error in told["errors"]] == [404]
    of_state = service.client_command("orders", "retry", "--state", "order_failed", "--yes")
    assert of_state.returncode == 0 and of_state.stdout.strip() == "50 orders are tried again", of_state
    again = printed(service.client_command("process", *orders, "--output", "json"))["processed_orders"]
    assert again == [processed(n, 7) for n in range(1, 61)]
    nothing = service.client_command("orders", "retry", "--state", "order_failed", input="")
    assert nothing.returncode == 1 and "no order in state order_failed can be retried" in nothing.stderr
    for words in ((), ("1", "--state", "order_failed"), ("--state", "order_failed", "--file", file)):
        assert service.client_command("orders", "retry", *words).returncode == 2


def test_times_are_written_in_one_way_and_migrate_prints_one_document(foreign, service):
    migrated = printed(service.command_line("migrate", "--output", "json"))
    assert [database["database"] for database in migrated["databases"]] == ["control", *(f"shard s{n}" for n in range(4))]
    assert migrated["dry_run"] is False and all(database["migrations"] == [] for database in migrated["databases"])
    assert service.client_command("process", "--order", "17:4").returncode == 0
    order = printed(service.client_command("orders", "get", "17", "--output", "json"))
    status = printed(service.command_line("status", "--output", "json"))
    times = [change["at"] for change in order["history"]] + [process["started_at"] for process in status["processes"]]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", time) for time in times), times


def test_a_request_that_can_never_fit_is_not_told_to_try_again(foreign, platform):
    service = platform.order_service("--max-in-flight-orders", "5")
    orders = [word for order_id in range(6) for word in ("--order", f"{order_id}:1")]
    done = service.client_command("process", *orders)
    assert done.returncode == 1 and "InvalidArgument" in done.stderr.replace(" ", ""), done.stderr
    assert "--max-in-flight-orders" in done.stderr


def test_status_and_migrate(foreign, service, platform):
    foreign.default = Behaviour.SILENT
    platform.client(service).process([(1, 1)], timeout=1)
    for words in (("status",), ("migrate", "--dry-run"), ("migrate",)):
        done = service.command_line(*words)
        assert done.returncode == 0 and done.stdout.strip(), (words, done.stderr)
    service.stop()
    assert service.command_line("migrate", "--dry-run").returncode == 0


def test_nobody_at_the_other_end():
    for words in (("process", "--order", "1:1"), ("orders", "get", "1"), ("orders", "list"), ("orders", "retry", "1")):
        server = f"127.0.0.1:{free_port()}"
        done = run_command([ORDER_SERVICE_BIN, *words, "--server", server])
        assert done.returncode == 1 and server in done.stderr and len(done.stderr.strip().splitlines()) == 1, done


def test_where_settings_come_from(platform):
    file, environment = platform.home / "settings.toml", {"ORDER_SERVICE_MAX_ATTEMPTS": "18"}
    file.write_text("max_attempts = 17\n")

    def max_attempts(*words, env=None):
        done = run_command([ORDER_SERVICE_BIN, "config", "print", *words], env=env)
        assert done.returncode == 0, done.stderr
        return re.search(r"max[-_]attempts\D*(\d+)", done.stdout).group(1)

    assert max_attempts() == "5"
    assert max_attempts("--config", file) == "17"
    assert max_attempts("--config", file, env=environment) == "18"
    assert max_attempts("--config", file, "--max-attempts", "19", env=environment) == "19"


def test_secrets_are_masked_and_foreign_variables_only_warned_about():
    secret = {"ORDER_SERVICE_DATABASE_URL": "postgres://me:canary-secret@127.0.0.1/control"}
    odd = {"ORDER_SERVICE_WORKRES": "3", "ORDER_SERVICE_PORT": "tcp://10.0.0.1:80"}
    done = run_command([ORDER_SERVICE_BIN, "config", "print"], env={**secret, **odd})
    assert done.returncode == 0 and "canary-secret" not in done.stdout + done.stderr
    assert "ORDER_SERVICE_WORKRES" in done.stdout + done.stderr
