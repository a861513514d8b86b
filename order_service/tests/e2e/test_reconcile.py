"""Hazard: a wrong early exit, a plan applied to another state than it was made for, unreported drift.

Real bundles in real git repositories, against the database of a running service, and over HTTP.
"""

import json
import pathlib
import subprocess
import time

import pytest

import platform_under_test
from embedded_postgres import psql
from ledger_bundle import ACCOUNT, LOCK, Bundle, type_named
from processes import run_command
from waiting import wait_until

NOTHING = "Plan: 0 to create, 0 to update, 0 to delete"
GUARD = {"attributes": [{"name": "k", "type": "int"}], "shard_key": ["k"]}


def git(folder: pathlib.Path, *words: str) -> str:
    who = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    done = subprocess.run(["git", "-C", str(folder), *who, *words], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commit(bundle: Bundle) -> None:
    """The bundle as it is now is HEAD."""
    if not (bundle.folder / ".git").exists():
        git(bundle.folder, "init", "-q")
    git(bundle.folder, "add", "-A")
    git(bundle.folder, "commit", "-q", "--allow-empty", "-m", "as it is")


class Reconciled(Bundle):
    """A bundle that is brought in whole, by commands that need not be about a running service."""

    def __init__(self, folder: pathlib.Path, service):
        super().__init__(folder)
        self.service = service

    def run(self, *words, code: int = 0):
        done = self.service.command_line("reconcile", *words, "--bundle", self.folder)
        assert done.returncode == code, (words, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done

    def plan(self, *words, code: int = 0) -> str:
        """The last line."""
        return self.run(*words, code=code).stdout.splitlines()[-1]

    def json(self, *words, code: int = 0) -> dict:
        return json.loads(self.run(*words, "--output", "json", code=code).stdout)


@pytest.fixture(scope="module")
def bundle(module_platform, ledger_service, ledger):
    grown = Reconciled(module_platform.home / "reconciled", ledger_service)
    # A service that has just begun is as its bundle says, partitions and queues included.
    assert grown.plan() == NOTHING
    for number in range(50):
        grown.add(LOCK, {"name": f"guard_{number}", "description": "before", **GUARD})
    grown.run()
    commit(grown)
    return grown


def test_an_unchanged_bundle_is_checked_without_a_database(platform):
    service = platform.order_service(start=False)
    bundle = Reconciled(platform.home / "bundle", service)
    commit(bundle)
    done = bundle.run("--dry-run", "--early-exit-compare", "HEAD")
    lines = done.stdout.splitlines()
    assert "ledger-types: early exit: desired state unchanged" in lines and lines[-1] == NOTHING
    assert done.stderr == "" and not platform.data_dir.exists()
    told = bundle.json("--dry-run", "--early-exit-compare", "HEAD")
    for integration in told["integrations"]:
        evidence = integration["evidence"]
        assert evidence["desired_state"] == evidence["compared_desired_state"], integration
        assert evidence["inputs"]["files"] > 0 and len(evidence["inputs"]["sha256"]) == 64
    # Wrong usage needs none either.
    bundle.run("--early-exit-compare", "HEAD", code=2)
    bundle.run("nobody", "--dry-run", code=2)
    assert not platform.data_dir.exists()


@pytest.mark.parametrize("revision", ["no-such-revision", "broken"])
def test_a_comparison_that_cannot_be_had_is_a_warning_and_the_full_run(bundle, revision):
    if revision == "broken":
        bad = bundle.folder / "ledger" / "bad.yaml"
        bad.write_text("a: [\n")
        git(bundle.folder, "add", "-A")
        git(bundle.folder, "commit", "-q", "-m", "broken")
        git(bundle.folder, "tag", "-f", "broken")
        bad.unlink()
        commit(bundle)
    done = bundle.run("--dry-run", "--early-exit-compare", revision, "--check-only-affected-shards")
    assert done.stderr.startswith("warning: --early-exit-compare: ") and revision in done.stderr, done.stderr
    assert "early exit" not in done.stdout
    told = bundle.json("--dry-run", "--early-exit-compare", revision)
    assert {integration["run"] for integration in told["integrations"]} == {"full"} and told["warnings"]


def test_one_changed_type_of_fifty_is_its_shard_and_no_other(bundle):
    bundle.add(LOCK, {"name": "guard_17", "description": "after", **GUARD})
    check = ("--dry-run", "--early-exit-compare", "HEAD", "--check-only-affected-shards")
    told = bundle.json(*check)
    runs = {integration["name"]: integration["run"] for integration in told["integrations"]}
    assert runs.pop("ledger-types") == "shards" and set(runs.values()) == {"early_exit"}
    (types,) = [integration for integration in told["integrations"] if integration["name"] == "ledger-types"]
    ran = [shard for shard in types["shards"] if shard["status"] != "skipped"]
    assert [(shard["shard"], shard["why"]) for shard in ran] == [("guard_17", ["~ lock_type.guard_17.description"])]
    assert told["summary"]["skipped_shards"] >= 49 and told["summary"]["update"] == 1
    for skipped in types["shards"]:
        if skipped["status"] == "skipped":
            assert skipped["evidence"]["sha256"] == skipped["evidence"]["compared_sha256"]
    # Some of the skipped, all the same: they have nothing to do.
    sampled = bundle.json(*check, "--sample-skipped", "10%")
    assert len([shard for shard in sampled["integrations"][0]["shards"] if shard.get("sampled")]) >= 5
    # One of them has been changed by hand: a sample of all says so.
    psql(bundle.service.data_dir, "DELETE FROM ledger_types WHERE name = 'guard_3'")
    failed = bundle.run(*check, "--sample-skipped", "100%", code=1)
    assert "failed shard guard_3: it was skipped and would have changed something" in failed.stdout
    assert "1 shard failed" in failed.stderr
    bundle.run()
    commit(bundle)


@pytest.mark.long
def test_a_diff_that_takes_too_long_is_a_warning_and_the_full_run(bundle, debug_build):
    bundle.add(LOCK, {"name": "guard_1", "description": "slowly", **GUARD})
    words = ["reconcile", "ledger-types", "--bundle", bundle.folder, "--dry-run", "--early-exit-compare", "HEAD"]
    env = {"ORDER_SERVICE_DATA_DIR": str(bundle.service.data_dir), "PAUSE_POINT": "reconcile_diff:60000"}
    binary, begun = platform_under_test.ORDER_SERVICE_BIN, time.monotonic()
    done = run_command([binary, *words, "--check-only-affected-shards"], env=env, timeout=50)
    assert done.returncode == 0 and time.monotonic() - begun >= 10
    assert "warning: ledger-types: the diff of the desired states takes longer than 10s" in done.stderr, done.stderr
    assert done.stdout.startswith("ledger-types\n"), done.stdout
    bundle.run()
    commit(bundle)


def test_what_has_not_changed_since_a_revision_is_skipped_also_in_a_real_run(bundle):
    bundle.add(LOCK, {"name": "guard_2", "description": "since", **GUARD})
    told = bundle.json("--changed-since", "HEAD")
    runs = {integration["name"]: integration["run"] for integration in told["integrations"]}
    assert runs.pop("ledger-types") == "full" and set(runs.values()) == {"skipped"}
    assert told["summary"]["update"] == 1 and told["integrations"][0]["evidence"]["changed"]
    commit(bundle)
    # A schema that is listed, and metadata.
    for file, names in (("schemas/tasks/task-1.yml", {"schedules", "partitions"}), ("integrations/queues.yaml", {"queues"})):
        path = bundle.folder / file
        before = path.read_text()
        path.write_text(before + "\n# other words\n")
        told = bundle.json("--dry-run", "--changed-since", "HEAD")
        assert {one["name"] for one in told["integrations"] if one["run"] == "full"} == names
        path.write_text(before)


def test_a_plan_is_applied_or_refused_whole(bundle, module_platform):
    plan = module_platform.home / "plan.json"
    bundle.add(LOCK, {"name": "guard_4", "description": "planned", **GUARD})
    assert bundle.run("--plan-out", plan).stdout.splitlines()[-2] == "Plan: 0 to create, 1 to update, 0 to delete"
    by_hand = "UPDATE ledger_types SET definition = jsonb_set(definition, '{description}', '\"%s\"') WHERE name = 'guard_5'"
    psql(bundle.service.data_dir, by_hand % "by hand")
    done = bundle.run("--apply", plan, code=1)
    assert "the target of ledger-types has moved since the plan was made; nothing was applied" in done.stderr
    psql(bundle.service.data_dir, by_hand % "before")
    beside = bundle.add(LOCK, {"name": "guard_beside", **GUARD})
    done = bundle.run("--apply", plan, code=1)
    assert "is not the one that the plan was made from; nothing was applied" in done.stderr
    beside.unlink()
    assert bundle.plan("--apply", plan) == "Plan: 0 to create, 1 to update, 0 to delete"
    assert bundle.plan() == NOTHING
    commit(bundle)


def test_a_change_by_hand_is_drift(bundle):
    assert bundle.plan("--drift") == NOTHING
    psql(bundle.service.data_dir, "UPDATE task_schedules SET definition = jsonb_set(definition, '{schedule}', '\"1 1 * * *\"')")
    done = bundle.run("--drift", code=3)
    assert '      schedule: "1 1 * * *" -> "17 * * * *"' in done.stdout.splitlines()
    told = bundle.json("--drift", code=3)
    assert told["drift"] is True and told["dry_run"] is True and told["summary"]["update"] == 1
    assert bundle.plan() == "Plan: 0 to create, 1 to update, 0 to delete"
    assert bundle.json("--drift")["drift"] is False


def test_what_belongs_to_others_is_left_alone_until_it_is_taken_over(bundle):
    psql(bundle.service.data_dir, "UPDATE ledger_types SET owner = 'api' WHERE name IN ('guard_6', 'guard_7')")
    bundle.add(LOCK, {"name": "guard_6", "description": "ours", **GUARD})
    bundle.file_of(LOCK, "guard_7").unlink()
    done = bundle.run(code=1)
    assert "! refused to update lock_type guard_6: it belongs to api; --take-over takes it over" in done.stdout
    assert done.stdout.splitlines()[-1] == NOTHING and "guard_7" not in done.stdout
    assert bundle.plan("--take-over") == "Plan: 0 to create, 1 to update, 0 to delete"
    asked = "SELECT name || ' ' || owner FROM ledger_types WHERE name IN ('guard_6', 'guard_7') ORDER BY 1"
    assert psql(bundle.service.data_dir, asked).split("\n") == ["guard_6 bundle", "guard_7 api"]
    commit(bundle)


def test_a_service_is_brought_there_over_http(bundle, ledger, module_platform):
    url, plan = f"http://127.0.0.1:{bundle.service.http_port}", module_platform.home / "remote.json"
    remote = Reconciled(module_platform.home / "remote", module_platform.order_service(start=False, replica=1))
    remote.service.data_dir = module_platform.home / "nothing-here"
    for path in bundle.folder.glob("ledger/*.yaml"):
        (remote.folder / "ledger" / path.name).write_text(path.read_text())
    assert remote.plan("--url", url) == NOTHING
    remote.add(ACCOUNT, {**type_of_rent(), "name": "rent_remote"})
    assert remote.plan("--url", url, "--dry-run") == "Plan: 1 to create, 0 to update, 0 to delete"
    assert remote.run("--url", url, "--plan-out", plan).returncode == 0 and plan.exists()
    assert remote.plan("--url", url, "--apply", plan) == "Plan: 1 to create, 0 to update, 0 to delete"
    wait_until(lambda: type_named(ledger, "account_types", "rent_remote"), 10, "the new type picked up")
    refused = remote.run("--url", url, "--apply", plan, code=1)
    assert "the target of ledger-types has moved" in refused.stderr
    assert remote.plan("--url", url, "--drift") == NOTHING
    remote.file_of(ACCOUNT, "rent_remote").unlink()
    assert remote.run("--url", url, "--drift", code=3) and remote.run("--url", url)
    assert not remote.service.data_dir.exists()
    # Nobody there, and no address.
    assert "no-such-host" in remote.run("--url", "http://no-such-host.invalid:1", code=1).stderr
    remote.run("--url", "localhost", code=2)


def type_of_rent() -> dict:
    return {
        "key_attributes": [{"name": "tenant_id", "type": "int"}],
        "attributes": [],
        "groupings": [],
        "shard_key": ["tenant_id"],
        "aggregate": "day",
    }
