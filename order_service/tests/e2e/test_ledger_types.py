"""Hazard: a change of a type breaks stored data, takes effect late, or an invalid file is applied partially.

A running service picks up new attributes and groupings, and older events count as null there; unsafe changes, and
errors in any file, are refused with the remedy or the position, and nothing of the run is applied.

One bundle grows from test to test, as a bundle without a type would delete it.
"""

import json
import re

import pytest

from ledger_bundle import ACCOUNT, LOCK, STATE, Bundle, type_named
from ledger_events import OUTFLOW, new_id, outflow
from ledger_oracle import groups_of, total_of
from waiting import wait_until

NOTHING = "Plan: 0 to create, 0 to update, 0 to delete"
KEY = {"tenant_id": 1, "flat_id": 2}
ROOM = {"name": "room", "type": "int"}


def rent_type(name: str, **changes) -> dict:
    """An account type; each test has one of its own name."""
    whole = {
        "name": name,
        "description": "What a tenant owes",
        "key_attributes": [{"name": "tenant_id", "type": "int"}, {"name": "flat_id", "type": "int"}],
        "attributes": [{"name": "kind", "type": "string"}],
        "groupings": [["kind"]],
        "shard_key": ["tenant_id"],
        "aggregate": "hour",
    }
    return {**whole, **changes}


def rent(type_name: str, amount: str, **auxiliary) -> dict:
    event = {"type": type_name, "event_id": new_id(), "dt": "2024-01-01T00:00:00Z", "debit": amount}
    return {**event, "attributes": {**KEY, **auxiliary}}


@pytest.fixture(scope="module")
def bundle(module_platform, ledger_service, ledger):
    """Reconciled once, so that a plan shows the test's own changes alone."""
    grown = Bundle(module_platform.home / "types")
    grown.bring_in(ledger_service)
    return grown


def plan_line(output: str) -> str:
    (line,) = re.findall(r"Plan: \d+ to create, \d+ to update, \d+ to delete", output)
    return line


def bring_in_type(bundle, service, client, fields: dict) -> None:
    bundle.add(ACCOUNT, fields)
    assert plan_line(bundle.bring_in(service)) == "Plan: 1 to create, 0 to update, 0 to delete"
    wait_until(lambda: type_named(client, "account_types", fields["name"]), 2.5, "the new type picked up")


def test_the_default_bundle(ledger):
    outflow_type = type_named(ledger, "account_types", OUTFLOW)
    assert outflow_type["key_attributes"] == [{"name": "storage_id", "type": "int"}]
    names = [attribute["name"] for attribute in outflow_type["attributes"]]
    assert names == ["product_id", "pickup_point_id"] and outflow_type["shard_key"] == ["storage_id"]
    assert outflow_type["groupings"] == [["product_id"], ["product_id", "pickup_point_id"]]
    assert outflow_type["aggregate"] == "day" and outflow_type["description"]
    inflow_type = type_named(ledger, "account_types", "pickup_point_inflow")
    assert inflow_type["groupings"] == [["product_id"], ["product_id", "storage_id"]]
    for kind, name in (("lock_types", "storage_lock"), ("state_types", "storage_state")):
        found = type_named(ledger, kind, name)
        assert found["attributes"] == [{"name": "storage_id", "type": "int"}] and found["shard_key"] == ["storage_id"]


def test_a_new_type_then_an_attribute_and_a_grouping_live(bundle, ledger_service, ledger):
    ledger.write([rent("rent", "1")]).refused(400, "VALIDATION_ERROR")
    bundle.add(ACCOUNT, rent_type("rent"))
    dry = bundle.bring_in(ledger_service, "ledger-types", "--dry-run")
    assert "1 to create" in plan_line(dry) and "rent" in dry and type_named(ledger, "account_types", "rent") is None
    bring_in_type(bundle, ledger_service, ledger, rent_type("rent"))
    ledger.write([rent("rent", "1", kind="cold"), rent("rent", "2")]).ok()
    ledger.write([rent("rent", "4", room=7)]).refused(400, "VALIDATION_ERROR")

    attributes, groupings = [{"name": "kind", "type": "string"}, ROOM], [["kind"], ["room"], ["kind", "room"]]
    bundle.add(ACCOUNT, rent_type("rent", attributes=attributes, groupings=groupings))
    output = bundle.bring_in(ledger_service)
    assert plan_line(output) == "Plan: 0 to create, 1 to update, 0 to delete" and "room" in output
    wait_until(lambda: ledger.write([rent("rent", "4", room=7)]).status == 200, 2.5, "the new attribute accepted")
    by_room = groups_of(ledger.balances("rent", KEY, group_by=["room"]).ok(), ["room"])
    assert by_room == {(None,): (3, 0), (7,): (4, 0)}
    by_both = groups_of(ledger.balances("rent", KEY, group_by=["kind", "room"]).ok(), ["kind", "room"])
    assert by_both == {("cold", None): (1, 0), (None, None): (2, 0), (None, 7): (4, 0)}
    assert total_of(ledger.balances("rent", KEY, room=7).ok())[0] == 4
    assert total_of(ledger.balances("rent", KEY).ok())[0] == 7


def test_the_second_run_has_nothing_to_do(bundle, ledger_service, ledger):
    bundle.add_wide_types()
    assert plan_line(bundle.bring_in(ledger_service)) == "Plan: 3 to create, 0 to update, 0 to delete"
    for flags in ((), ("--dry-run",)):
        assert plan_line(bundle.bring_in(ledger_service, "ledger-types", *flags)) == NOTHING
    done = bundle.reconcile(ledger_service, "ledger-types", "--output", "json")
    assert done.returncode == 0 and json.loads(done.stdout) is not None
    before = ledger.types()
    ledger_service.stop()
    ledger_service.start()
    assert ledger.types() == before and plan_line(bundle.bring_in(ledger_service)) == NOTHING


UNSAFE = {
    "shard key": {"shard_key": ["tenant_id", "flat_id"]},
    "another key attribute": {"key_attributes": [*rent_type("")["key_attributes"], ROOM]},
    "a key attribute gone": {"key_attributes": rent_type("")["key_attributes"][:1]},
    "a key attribute of another type": {
        "key_attributes": [{"name": "tenant_id", "type": "string"}, {"name": "flat_id", "type": "int"}]
    },
    "an attribute in use gone": {"attributes": [], "groupings": []},
    "an attribute of another type": {"attributes": [{"name": "kind", "type": "int"}]},
}


@pytest.mark.parametrize("change", UNSAFE, ids=lambda change: change)
def test_an_unsafe_change_is_refused_with_what_to_do_instead(bundle, ledger_service, ledger, change):
    name = "rent_" + change.replace(" ", "_")
    bring_in_type(bundle, ledger_service, ledger, rent_type(name))
    ledger.write([rent(name, "1", kind="cold")]).ok()
    before = ledger.types()
    bundle.add(ACCOUNT, rent_type(name, **UNSAFE[change]))
    beside = bundle.add(LOCK, {"name": "beside_lock", "attributes": [ROOM], "shard_key": ["room"]})
    for flags in (("--dry-run",), ()):
        done = bundle.reconcile(ledger_service, "ledger-types", *flags)
        told = done.stdout + done.stderr
        assert done.returncode == 1 and name in told, told
        assert re.search(r"instead|new type|another name|another type|first", told), f"no way out is told: {told}"
    assert ledger.types()["account_types"] == before["account_types"]
    assert total_of(ledger.balances(name, KEY).ok())[0] == 1
    bundle.add(ACCOUNT, rent_type(name))
    beside.unlink()
    bundle.bring_in(ledger_service)


def test_a_type_with_events_is_not_dropped(bundle, ledger_service, ledger):
    bring_in_type(bundle, ledger_service, ledger, rent_type("rent_kept"))
    ledger.write([rent("rent_kept", "1")]).ok()
    bundle.file_of(ACCOUNT, "rent_kept").unlink()
    done = bundle.reconcile(ledger_service)
    assert done.returncode == 1 and "rent_kept" in done.stdout + done.stderr
    assert total_of(ledger.balances("rent_kept", KEY).ok())[0] == 1
    bundle.add(ACCOUNT, rent_type("rent_kept"))
    assert plan_line(bundle.bring_in(ledger_service)) == NOTHING


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


def test_the_repositorys_own_bundle_is_valid(ledger_service, tmp_path):
    bundle = Bundle(tmp_path / "bundle")
    done = ledger_service.command_line("bundle", "validate", "--bundle", bundle.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    bundle.add(ACCOUNT, rent_type("rent_valid"))
    assert ledger_service.command_line("bundle", "validate", "--bundle", bundle.folder).returncode == 0


def test_two_files_of_one_name(ledger_service, ledger, tmp_path):
    bundle, before = Bundle(tmp_path / "bundle"), ledger.types()
    path = bundle.add(ACCOUNT, rent_type("rent_twice"))
    path.with_name("rent-again.yaml").write_text(path.read_text())
    done = bundle.reconcile(ledger_service)
    assert done.returncode == 1 and "rent_twice" in done.stdout + done.stderr
    assert ledger.types() == before


def test_events_go_on_while_a_type_changes(bundle, ledger_service, ledger):
    """Writers of another type notice nothing."""
    for number in range(3):
        bundle.add(ACCOUNT, rent_type(f"rent_meanwhile_{number}"))
        bundle.bring_in(ledger_service)
        ledger.write([outflow(1) for _ in range(100)]).ok()
    assert total_of(ledger.balances(OUTFLOW, {"storage_id": 1}).ok())[0] == 300
