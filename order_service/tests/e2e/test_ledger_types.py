"""Hazard: a change of a type breaks what is stored, takes effect late, or a bad file is applied half.

A running service picks up new attributes and groupings, and older events count as null there; what is unsafe, or
wrong in any file, is refused with what to do or where it stands, and nothing of the run is applied.
"""

import json
import re

import pytest

from ledger_bundle import ACCOUNT, LOCK, STATE, Bundle, type_named
from ledger_events import OUTFLOW, new_id, outflow
from ledger_oracle import groups_of, total_of
from waiting import wait_until

EUROS = {
    "name": "rent",
    "description": "What a tenant owes",
    "key_attributes": [{"name": "tenant_id", "type": "int"}, {"name": "flat_id", "type": "int"}],
    "attributes": [{"name": "kind", "type": "string"}],
    "groupings": [["kind"]],
    "shard_key": ["tenant_id"],
    "aggregate": "hour",
}
KEY = {"tenant_id": 1, "flat_id": 2}
ROOM = {"name": "room", "type": "int"}


def rent(amount: str, **auxiliary) -> dict:
    event = {"type": "rent", "event_id": new_id(), "dt": "2024-01-01T00:00:00Z", "debit": amount}
    return {**event, "attributes": {**KEY, **auxiliary}}


@pytest.fixture
def bundle(platform):
    return Bundle(platform.home / "bundle")


@pytest.fixture
def service(platform):
    return platform.order_service()


@pytest.fixture
def client(platform, service):
    return platform.ledger_client(service)


def plan_line(output: str) -> str:
    (line,) = re.findall(r"Plan: \d+ to create, \d+ to update, \d+ to delete", output)
    return line


def applied(client, kind: str, name: str):
    return wait_until(lambda: type_named(client, kind, name), 2.5, f"{name} picked up")


def test_the_default_bundle(client):
    outflow_type = type_named(client, "account_types", OUTFLOW)
    assert outflow_type["key_attributes"] == [{"name": "storage_id", "type": "int"}]
    names = [attribute["name"] for attribute in outflow_type["attributes"]]
    assert names == ["product_id", "pickup_point_id"] and outflow_type["shard_key"] == ["storage_id"]
    assert outflow_type["groupings"] == [["product_id"], ["product_id", "pickup_point_id"]]
    assert outflow_type["aggregate"] == "day" and outflow_type["description"]
    inflow_type = type_named(client, "account_types", "pickup_point_inflow")
    assert inflow_type["groupings"] == [["product_id"], ["product_id", "storage_id"]]
    for kind, name in (("lock_types", "storage_lock"), ("state_types", "storage_state")):
        found = type_named(client, kind, name)
        assert found["attributes"] == [{"name": "storage_id", "type": "int"}] and found["shard_key"] == ["storage_id"]


def test_a_new_type_then_an_attribute_and_a_grouping_live(bundle, service, client):
    client.write([rent("1")]).refused(400, "VALIDATION_ERROR")
    bundle.add(ACCOUNT, EUROS)
    dry = bundle.bring_in(service, "ledger-types", "--dry-run")
    assert "1 to create" in plan_line(dry) and "rent" in dry and type_named(client, "account_types", "rent") is None
    assert "1 to create" in plan_line(bundle.bring_in(service))
    applied(client, "account_types", "rent")
    client.write([rent("1", kind="cold"), rent("2")]).ok()
    client.write([rent("4", room=7)]).refused(400, "VALIDATION_ERROR")

    grown = {**EUROS, "attributes": [*EUROS["attributes"], ROOM], "groupings": [["kind"], ["room"], ["kind", "room"]]}
    bundle.add(ACCOUNT, grown)
    output = bundle.bring_in(service)
    assert "0 to create, 1 to update, 0 to delete" in plan_line(output) and "room" in output
    wait_until(lambda: client.write([rent("4", room=7)]).status == 200, 2.5, "the new attribute accepted")
    by_room = groups_of(client.balances("rent", KEY, group_by=["room"]).ok(), ["room"])
    assert by_room == {(None,): (3, 0), (7,): (4, 0)}
    by_both = groups_of(client.balances("rent", KEY, group_by=["kind", "room"]).ok(), ["kind", "room"])
    assert by_both == {("cold", None): (1, 0), (None, None): (2, 0), (None, 7): (4, 0)}
    assert total_of(client.balances("rent", KEY, room=7).ok())[0] == 4
    assert total_of(client.balances("rent", KEY).ok())[0] == 7


def test_the_second_run_has_nothing_to_do(bundle, service, client):
    bundle.add_wide_types()
    assert "3 to create" in plan_line(bundle.bring_in(service))
    for flags in ((), ("--dry-run",)):
        output = bundle.bring_in(service, "ledger-types", *flags)
        assert plan_line(output) == "Plan: 0 to create, 0 to update, 0 to delete"
    done = bundle.reconcile(service, "ledger-types", "--output", "json")
    assert done.returncode == 0 and json.loads(done.stdout) is not None
    service.stop()
    service.start()
    assert type_named(client, "account_types", "client_commission") is not None


UNSAFE = {
    "shard key": {"shard_key": ["tenant_id", "flat_id"]},
    "another key attribute": {"key_attributes": [*EUROS["key_attributes"], ROOM]},
    "a key attribute gone": {"key_attributes": EUROS["key_attributes"][:1]},
    "a key attribute of another type": {
        "key_attributes": [{"name": "tenant_id", "type": "string"}, {"name": "flat_id", "type": "int"}]
    },
    "an attribute in use gone": {"attributes": [], "groupings": []},
    "an attribute of another type": {"attributes": [{"name": "kind", "type": "int"}]},
}


@pytest.mark.parametrize("change", UNSAFE.values(), ids=UNSAFE)
def test_an_unsafe_change_is_refused_with_what_to_do_instead(bundle, service, client, change):
    bundle.add(ACCOUNT, EUROS)
    bundle.bring_in(service)
    applied(client, "account_types", "rent")
    client.write([rent("1", kind="cold")]).ok()
    before = client.types()
    bundle.add(ACCOUNT, {**EUROS, **change})
    bundle.add(LOCK, {"name": "other_lock", "attributes": [ROOM], "shard_key": ["room"]})
    for flags in (("--dry-run",), ()):
        done = bundle.reconcile(service, "ledger-types", *flags)
        told = done.stdout + done.stderr
        assert done.returncode == 1 and "rent" in told, told
        assert re.search(r"instead|new type|another name|another type|first", told), f"no way out is told: {told}"
    assert client.types()["account_types"] == before["account_types"]
    assert total_of(client.balances("rent", KEY).ok())[0] == 1


BAD_FILES = {
    "an unknown attribute type": (("type: int", "type: integer"), "integer"),
    "an unknown key": (("shard_key:", "shard_keys:"), "shard_keys"),
    "a shard key of nobody": (("shard_key: [storage_id]", "shard_key: [store_id]"), "store_id"),
    "a shard key that is auxiliary": (("shard_key: [storage_id]", "shard_key: [product_id]"), "product_id"),
    "a grouping of nobody": (("- [product_id]", "- [product]"), "product"),
    "an unknown interval": (("aggregate: day", "aggregate: week"), "week"),
    "a reserved name": (("name: pickup_point_id", "name: group_by"), "group_by"),
    "one name twice": (("name: pickup_point_id", "name: product_id"), "product_id"),
    "no YAML": (("groupings:", "groupings: ["), ""),
}
GOOD = """$schema: /ledger/account-type-1.yml
name: shelf
description: Units on a shelf
key_attributes:
  - {name: storage_id, type: int}
attributes:
  - {name: product_id, type: int}
  - {name: pickup_point_id, type: int}
groupings:
  - [product_id]
shard_key: [storage_id]
aggregate: day
"""


@pytest.mark.parametrize(("change", "word"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_refused_with_file_line_and_field(ledger_service, ledger, change, word, tmp_path):
    bundle, before = Bundle(tmp_path / "bundle"), ledger.types()
    good, bad = change
    assert good in GOOD
    text = GOOD.replace(good, bad, 1)
    lines = [str(number) for number, line in enumerate(text.splitlines(), 1) if bad in line or not word]
    (bundle.files(ACCOUNT)[0].parent / "shelf.yaml").write_text(text)
    bundle.add(STATE, {"name": "fine_state", "attributes": [ROOM], "shard_key": ["room"]})
    for command in (("reconcile", "ledger-types"), ("bundle", "validate")):
        done = ledger_service.command_line(*command, "--bundle", bundle.folder)
        told = done.stdout + done.stderr
        assert done.returncode == 1 and "shelf.yaml" in told and word in told, (command, told)
        assert re.search(rf"(?:shelf\.yaml:|line )(?:{'|'.join(lines)})\b", told), f"lines {lines}: {told}"
    assert ledger.types() == before, "something of a refused bundle was applied"


def test_the_repositorys_own_bundle_is_valid(ledger_service, ledger, tmp_path):
    bundle = Bundle(tmp_path / "bundle")
    done = ledger_service.command_line("bundle", "validate", "--bundle", bundle.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    bundle.add(ACCOUNT, EUROS)
    assert ledger_service.command_line("bundle", "validate", "--bundle", bundle.folder).returncode == 0


def test_two_files_of_one_name(ledger_service, ledger, tmp_path):
    bundle, before = Bundle(tmp_path / "bundle"), ledger.types()
    path = bundle.add(ACCOUNT, EUROS)
    path.with_name("rent-again.yaml").write_text(path.read_text())
    done = bundle.reconcile(ledger_service)
    assert done.returncode == 1 and "rent" in done.stdout + done.stderr
    assert ledger.types() == before


def test_events_go_on_while_a_type_changes(bundle, service, client):
    """Writers of another type notice nothing."""
    for number in range(3):
        bundle.add(ACCOUNT, {**EUROS, "name": f"rent_{number}"})
        bundle.bring_in(service)
        client.write([outflow(1) for _ in range(100)]).ok()
    assert total_of(client.balances(OUTFLOW, {"storage_id": 1}).ok())[0] == 300
