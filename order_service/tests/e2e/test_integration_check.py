"""Hazard: an integration violates the protocol, and the conformance kit does not notice."""

import itertools
import json

import pytest

import platform_under_test
from boto_integration import Running, Temporary, Watched
from processes import run_command
from sqs_emulator import CREDENTIALS


def order_service(sqs, *words, timeout=120):
    command = [platform_under_test.ORDER_SERVICE_BIN, *words, "--sqs-endpoint-url", sqs.url]
    return run_command(command, env=CREDENTIALS, timeout=timeout)


def check(sqs, queue: str, *words):
    """Exit code and report of a check of `set_service`."""
    task = ["--task", "set_service", "--args", '{"service_id": 5}', "--patience", "3s"]
    done = order_service(sqs, "integration", "check", "--queue", queue, *task, *words, "--output", "json")
    report = json.loads(done.stdout)
    return done.returncode, report, {each["name"]: each["outcome"] for each in report["checks"]}


def service(action, params, state):
    if params.get("later"):
        raise Temporary("not now")
    return {"id": 1000 + int(params["service_id"])}


class Faulty(Watched):
    """Deletes, and only then answers; and leaves bad JSON without an answer."""

    def one(self, message: dict) -> None:
        try:
            task = json.loads(message["Body"])
        except ValueError:
            task = None
        self.delete(message)
        if isinstance(task, dict) and isinstance(task.get("block_id"), int):
            try:
                answer = json.dumps({"block_id": task["block_id"], "state": self.carry_out(message["Body"])})
            except Exception as problem:  # noqa: BLE001 - whatever it is
                answer = self.failed(task["block_id"], "INTERNAL_ERROR", {"reason": repr(problem)})
            self.send(message, task["block_id"], answer)


@pytest.mark.long
def test_the_kit_passes_the_example_and_finds_seeded_faults(sqs):
    made = order_service(sqs, "queues", "ensure", "--env", "test", "sound", "faulty")
    assert made.returncode == 0, made.stderr
    count = itertools.count()
    sound = Running(Watched(sqs.client(), "sound", "test", {"set_service": service}, visibility=1))
    faulty = {"set_service": lambda action, params, state: {"id": next(count)}}
    faulty = Running(Faulty(sqs.client(), "faulty", "test", faulty, visibility=1))
    more = ["--permanent-args", '{"service_id": "none"}', "--temporary-args", '{"service_id": 5, "later": true}']
    results = {"sound": check(sqs, "sound", *more), "faulty": check(sqs, "faulty")}
    sound.close()
    faulty.close()
    code, report, outcomes = results["sound"]
    assert code == 0 and report["holds"], report
    assert set(outcomes.values()) == {"ok"} and len(outcomes) == 16, report
    assert (report["queue"], report["engine"], report["left_behind"]) == ("sound-test.fifo", "sqs", 0)
    code, report, outcomes = results["faulty"]
    assert code == 1 and not report["holds"], report
    failed = {name for name, outcome in outcomes.items() if outcome == "FAIL"}
    expected = {"malformed-body", "answer-before-delete", "idempotent", "duplicate-delivery", "late-message"}
    assert failed == expected, report


def test_what_is_wrong_is_said(sqs):
    nothing = order_service(sqs, "integration", "check", "--queue", "nobodys")
    assert nothing.returncode == 1 and "queues ensure --env test nobodys" in nothing.stderr, nothing.stderr
    assert order_service(sqs, "queues", "ensure", "--env", "test", "silent").returncode == 0
    silent = order_service(sqs, "integration", "check", "--queue", "silent", "--patience", "300ms")
    lines = silent.stdout.splitlines()
    assert silent.returncode == 1 and lines[0].split()[:2] == ["FAIL", "answers"], silent
    assert "is the integration running on silent-test.fifo?" in lines[0]
    assert {line.split()[0] for line in lines[1:16]} == {"skipped"} and lines[16] == "0 ok, 1 failed, 15 skipped"
    for words in [["--queue", "a.b"], ["--args", "{}"], ["--task", "t", "--args", "[]"], ["--patience", "soon"]]:
        wrong = order_service(sqs, "integration", "check", "--queue", "silent", *words)
        assert wrong.returncode == 2, (words, wrong)
