"""Promise: who changed which configuration, and who did what as an operator, is in the audit trail with the difference, is
shown to admins only, and holds no secret.
"""

import getpass
import json
import socket

import pytest

from client import request_of
from configurator_client import ConfiguratorClient
from embedded_postgres import psql
from ledger_bundle import Bundle
from platform_under_test import ORDER_SERVICE_BIN
from processes import run_command
from test_access import ClientsFile, ask, bearer
from test_configurator_postgres import TYPE
from waiting import wait_until

CANARY = "canary-that-must-show-nowhere"
CONFIG = "/api/v1/action_configs/reorder"


def config(priority: int = 0, **params) -> dict:
    action = {"task": "http_request", "params": params} if params else {"task": "noop"}
    return {"name": "reorder", "on": [{"event": "e"}], "action": {**action, "priority": priority}}


@pytest.fixture
def world(platform):
    class World:
        file = ClientsFile(platform.home / "clients.yaml")

    World.root = World.file.add("root", "admin")
    World.robot = World.file.add("robot", "configs:write", "events:read", "events:write", "orders:process")
    World.file.write()
    World.service = platform.order_service("--clients", World.file.path)
    World.platform = platform
    return World


def trail(world, *words) -> list[dict]:
    """Entries by the command, from the running service; newest first."""
    url = f"http://127.0.0.1:{world.service.http_port}"
    done = world.service.command_line(
        "audit", "--url", url, "--token-file", world.file.token_file("root"), "--output", "json", *words
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["result"]


def test_a_change_over_rest_names_client_address_and_difference(world):
    assert ask(world.service, "PUT", CONFIG, world.robot, config(1))[0] == 201
    assert ask(world.service, "PUT", CONFIG, world.robot, config(1))[0] == 200
    assert ask(world.service, "PUT", CONFIG, world.robot, config(2))[0] == 200
    changed, created = trail(world, "--object", "action_config/reorder")
    assert created["id"] < changed["id"] and created["action"] == "action_config.put", created
    assert (changed["actor"], changed["origin"]) == ("robot", "127.0.0.1"), changed
    assert changed["difference"] == {"fields": [{"field": "action.priority", "before": 1, "after": 2}]}
    assert ask(world.service, "DELETE", CONFIG, world.robot)[0] == 204
    assert [entry["action"] for entry in trail(world, "--actor", "robot", "--limit", "1")] == ["action_config.delete"]
    assert len(trail(world, "--before", str(changed["id"]), "--actor", "robot")) == 1


def test_only_admins_read_it_and_wrong_filters_are_refused(world):
    assert ask(world.service, "GET", "/api/v1/audit", world.robot)[0] == 403
    assert ask(world.service, "GET", "/api/v1/audit")[0] == 401
    status, _, text = ask(world.service, "GET", "/api/v1/audit?action=nonsense", world.root)
    assert status == 400 and "action_config.put" in text, text
    done = world.service.command_line("audit", "--action", "nonsense")
    assert done.returncode == 2 and "--action" in done.stderr, done


def test_a_retry_over_grpc_is_one_entry(world):
    # Without a data manager the order waits for its next attempt.
    stub = world.platform.client(world.service).stub
    stub.ProcessOrders(request_of([(7, 1)]), timeout=2, metadata=bearer(world.robot))
    retry = ("orders", "retry", "7", "--token-file", world.file.token_file("root"))
    # Refused while an attempt runs: that is no act.
    wait_until(lambda: world.service.client_command(*retry).returncode == 0, 30, "the order waits")
    assert [(entry["actor"], entry["object"]) for entry in trail(world, "--action", "order.retry")] == [("root", "order/7")]


def test_a_command_on_the_database_is_its_users_act(world):
    folder = world.platform.home / "bundle"
    Bundle(folder)
    path = folder / "actions" / "reorder.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"$schema": "/events/action-config-1.yml", **config()}))
    done = world.service.command_line("action-configs", "--bundle", folder)
    assert done.returncode == 0, done.stderr
    (entry,) = trail(world, "--object", "action_config/reorder")
    assert (entry["actor"], entry["origin"]) == (f"cli:{getpass.getuser()}", socket.gethostname()), entry
    assert entry["action"] == "reconcile.apply" and entry["difference"]["action"] == "create", entry
    shown = world.service.command_line("audit", "--object", "action_config/reorder")
    assert shown.returncode == 0 and "reconcile.apply" in shown.stdout, shown


def test_blocks_of_a_run_and_commands_on_queues_are_in_the_trail(platform):
    service = platform.order_service()
    configurator = ConfiguratorClient(service.http_port)
    assert configurator.put_template("couriers", TYPE.format(groupings="[]", rule=""))[0] == 200
    run_id = configurator.begin("couriers", {"name": "couriers"})[1]["run_id"]
    assert configurator.ended(run_id)["status"] == "succeeded"
    done = service.command_line("queues", "ensure", "--env", "test", "balance")
    assert done.returncode == 0, done.stderr
    done = service.command_line("audit", "--output", "json")
    assert done.returncode == 0, done.stderr
    entries = [entry for entry in json.loads(done.stdout)["result"] if entry["actor"] != "service:start"]
    ensured, made, begun, put = entries
    assert (ensured["action"], ensured["object"]) == ("queue.ensure", "queue_env/test"), ensured
    assert (made["actor"], made["object"]) == ("service:configurator", "account_type/couriers"), made
    assert made["origin"].startswith("block/") and made["action"] == "object.set", made
    assert (begun["actor"], begun["action"], begun["object"]) == ("anonymous", "run.begin", f"run/{run_id}"), begun
    assert begun["difference"]["general_inputs"] == ["name"], begun
    assert (put["action"], put["object"]) == ("template.put", "template/couriers"), put


def test_a_migration_is_an_act(platform):
    home = {"ORDER_SERVICE_DATA_DIR": str(platform.data_dir)}
    for _ in range(2):  # the second has nothing to do
        done = run_command([ORDER_SERVICE_BIN, "migrate"], env=home)
        assert done.returncode == 0, done.stderr
    done = run_command([ORDER_SERVICE_BIN, "audit", "--action", "database.migrate", "--output", "json"], env=home)
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)["result"]
    assert [entry["object"] for entry in entries] == ["database/shard s0", "database/control"], entries
    assert entries[1]["difference"]["migrations"][-1] == "2 audit", entries


def test_no_secret_of_a_config_is_in_the_trail(world):
    hook = config(
        url=f"https://hooks.example/{CANARY}?key={CANARY}",
        headers={"X-Robot": CANARY, "Authorization": f"Bearer {CANARY}"},
        json={"password": CANARY},
    )
    status, _, text = ask(world.service, "PUT", CONFIG, world.robot, hook)
    assert status == 201, text
    (entry,) = trail(world, "--object", "action_config/reorder")
    assert CANARY not in json.dumps(entry) and "hooks.example" in json.dumps(entry), entry
    assert CANARY not in psql(world.platform.data_dir, "SELECT string_agg(a::text, ' ') FROM audit a")


def test_rows_stay_as_they_are(world):
    assert ask(world.service, "PUT", CONFIG, world.robot, config())[0] == 201
    for statement in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(AssertionError, match="never changed or deleted"):
            psql(world.platform.data_dir, statement)


def test_a_retention_below_a_day_is_refused_at_start(platform):
    home = {"ORDER_SERVICE_DATA_DIR": str(platform.data_dir)}
    refused = run_command([ORDER_SERVICE_BIN, "--audit-retention", "1h"], env=home)
    assert refused.returncode == 2 and refused.stderr.startswith("error: --audit-retention"), refused
