"""Hazard: the configurator deviates from the documented SQS protocol, and an integration that follows it fails."""

import json

import pytest

from boto_integration import Permanent, Running, Temporary, Watched
from sqs_emulator import CREDENTIALS, JOB_NAME
from waiting import wait_until

TWO_BLOCKS = """
type: module
name: global
inputs:
  - {name: id, scope: general, required: true}
  - {name: region, scope: env, default: eu}
outputs:
  - {name: service, value: $balance_service.id}
blocks:
  - name: balance_service
    type: integration
    integration: balance.set_service
    inputs:
      - global.id
    outputs:
      - name: id
    args:
      service_id: $global.id
  - name: price
    type: integration
    integration: balance.set_price
    inputs: [balance_service.id, global.region]
    args:
      nested:
        list: [1, $balance_service.id, "service $balance_service.id costs $$5 in $global.region"]
"""
ONE_BLOCK = TWO_BLOCKS[: TWO_BLOCKS.index("  - name: price")]


@pytest.fixture(scope="module")
def proxy(module_platform, sqs):
    """A test proxy that was started before the integrations' queues were there."""
    proxy = module_platform.test_proxy("--sqs-endpoint-url", sqs.url, "--queue-engine", "sqs", env=CREDENTIALS)
    made = proxy.command_line("queues", "ensure", "--env", "test", "balance", *proxy.queue_flags, env_more=CREDENTIALS)
    assert made.returncode == 0, made.stderr
    assert "balance-test.fifo" in made.stdout.split(), made.stdout
    return proxy


@pytest.fixture
def integration(sqs):
    running = []

    def start(handlers: dict, visibility: int = 30) -> Watched:
        watched = Watched(sqs.client(), "balance", "test", handlers, visibility=visibility)
        running.append(Running(watched))
        return watched

    yield start
    for each in running:
        each.close()


def service(action, params, state):
    return {"id": 17, "memory": {"kept": True}, "seen": action}


def price(action, params, state):
    return {"price": "5"}


def test_messages_and_export_are_exactly_as_written(proxy, integration, sqs):
    watched = integration({"set_service": service, "set_price": price})
    status, export = proxy.client.proxy(TWO_BLOCKS, "exact", {"id": 5})
    assert status == 200, export
    assert set(export) == {"run_id", "template_name", "env", "status", "blocks", "outputs"}
    assert (export["template_name"], export["env"], export["status"]) == ("exact", "test", "succeeded")
    state = {"id": 17, "memory": {"kept": True}, "seen": "create"}
    assert export["blocks"] == {"balance_service": {"state": state}, "price": {"state": {"price": "5"}}}
    assert export["outputs"] == {"service": 17}
    (first, first_attributes, _), (second, second_attributes, _) = watched.messages
    first, second = json.loads(first), json.loads(second)
    ids = first.pop("block_id"), second.pop("block_id")
    assert all(isinstance(number, int) and 0 < number < 2**53 for number in ids) and ids[0] != ids[1]
    assert first == {"task_type": "set_service", "action": "create", "params": {"service_id": 5}}
    nested = {"list": [1, 17, "service 17 costs $5 in eu"]}
    assert second == {"task_type": "set_price", "action": "create", "params": {"nested": nested}}
    assert (first_attributes, second_attributes) == ({"JobName": "set_service"}, {"JobName": "set_price"})

    watched.messages.clear()
    status, export = proxy.client.proxy(TWO_BLOCKS, "exact", {"id": 6}, {"region": "us"})
    assert status == 200, export
    bodies = [json.loads(body) for body, _, _ in watched.messages]
    assert [body["action"] for body in bodies] == ["update", "update"]
    assert bodies[0]["state"] == state and bodies[0]["params"] == {"service_id": 6}
    assert bodies[1]["state"] == {"price": "5"}

    watched.messages.clear()
    status, export = proxy.client.proxy(ONE_BLOCK, "exact", {"id": 6})
    assert status == 200 and set(export["blocks"]) == {"balance_service"}, export
    deleted = json.loads(watched.messages[1][0])
    del deleted["block_id"]
    nested = {"list": [1, 17, "service 17 costs $5 in us"]}
    expected = {"task_type": "set_price", "action": "delete", "params": {"nested": nested}, "state": {"price": "5"}}
    assert deleted == expected

    watched.messages.clear()
    assert proxy.client.proxy(ONE_BLOCK, "exact", {"id": 6})[0] == 200
    assert len(watched.messages) == 1, "what was deleted is not deleted again"


def test_answers_sent_twice_or_for_nobody_change_nothing(proxy, integration, sqs):
    watched = integration({"set_service": service, "set_price": price})

    def again(message, block_id, answer):
        other = {"block_id": block_id, "state": {"id": 99}}
        for n, body in enumerate([other, {"block_id": 12345, "state": {}}, {"state": {}}, "no object"]):
            watched.sqs.send_message(
                QueueUrl=watched.answers_url,
                MessageBody=json.dumps(body),
                MessageGroupId=message["Attributes"]["MessageGroupId"],
                MessageDeduplicationId=f"again-{n}-{block_id}",
                MessageAttributes=JOB_NAME,
            )

    watched.after = again
    for _ in range(2):
        status, export = proxy.client.proxy(TWO_BLOCKS, "twice", {"id": 5})
        assert status == 200 and export["blocks"]["balance_service"]["state"]["id"] == 17, export
    assert [json.loads(body)["params"]["nested"]["list"][1] for body, _, _ in watched.messages[1::2]] == [17, 17]


def test_a_temporary_error_comes_again_and_a_permanent_one_is_told(proxy, integration):
    failures = [Temporary("not now"), Temporary("not yet")]

    def hesitant(action, params, state):
        if failures:
            raise failures.pop()
        return {"id": 17}

    def refusing(action, params, state):
        raise Permanent("OWN_CODE", {"why": "because"})

    watched = integration({"set_service": hesitant, "set_price": refusing}, visibility=1)
    status, answer = proxy.client.proxy(TWO_BLOCKS, "failing", {"id": 5})
    assert status == 422, answer
    assert answer["blocks"]["balance_service"] == {"status": "succeeded"}
    failed = {"status": "failed", "error": {"code": "OWN_CODE", "args": {"why": "because"}}}
    assert answer["blocks"]["price"] == failed
    assert answer["error"]["code"] == "OWN_CODE" and answer["error"]["args"]["block"] == "price"
    numbers = [json.loads(body)["block_id"] for body, _, _ in watched.messages]
    assert len(numbers) == 4 and len(set(numbers)) == 2, "the same message came three times"


def test_what_depends_on_a_failed_block_is_never_sent(proxy, integration):
    def refusing(action, params, state):
        raise Permanent("LOGIC_ERROR", {})

    watched = integration({"set_service": refusing, "set_price": price})
    status, answer = proxy.client.proxy(TWO_BLOCKS, "skipping", {"id": 5})
    assert status == 422
    assert {name: block["status"] for name, block in answer["blocks"].items()} == {
        "balance_service": "failed",
        "price": "skipped",
    }
    assert len(watched.messages) == 1


def test_bad_templates_are_400_and_nothing_is_sent(proxy, integration):
    watched = integration({"set_service": service, "set_price": price})
    cycle = TWO_BLOCKS.replace("      - global.id", "      - global.id\n      - price.x").replace(
        "    integration: balance.set_price", "    integration: balance.set_price\n    outputs: [{name: x}]"
    )
    twice = TWO_BLOCKS.replace("name: price", "name: balance_service")
    bomb = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
    )
    for template, block, line in [
        (cycle, "balance_service", 10),
        (TWO_BLOCKS.replace("$balance_service.id,", "$balance_servce.id,"), "price", 25),
        (TWO_BLOCKS.replace("[balance_service.id, ", "["), "price", 25),
        (twice, "balance_service", 19),
        (TWO_BLOCKS.replace("  - name: price\n", "  - nme: price\n"), "global", 19),
        ("blocks: [", "global", None),
        (bomb, "global", None),
    ]:
        status, answer = proxy.client.proxy(template, "bad", {"id": 5})
        assert status == 400, (template, answer)
        error = answer["error"]
        assert error["code"] == "VALIDATION_ERROR" and error["args"]["block"] == block, answer
        assert line is None or error["args"]["line"] == line, (answer, line)
    assert proxy.client.proxy(TWO_BLOCKS, "bad", {})[0] == 400, "a required input is missing"
    assert proxy.client.proxy(TWO_BLOCKS, "bad", {"id": 5}, env="stage")[0] == 400
    assert proxy.client.proxy(TWO_BLOCKS, "exact2", {"id": 5})[0] == 200
    assert len(watched.messages) == 2, "nothing was sent of the bad ones"


def test_the_example_of_the_docs_runs(proxy, sqs, module_platform):
    from boto_integration import example
    from processes import clean_environment
    import subprocess
    import sys

    command = [sys.executable, example.__file__, "--env", "test", "--endpoint-url", sqs.url]
    process = subprocess.Popen(command, env=clean_environment(CREDENTIALS))
    try:
        template = ONE_BLOCK
        status, export = proxy.client.proxy(template, "example", {"id": 5})
        assert status == 200 and export["outputs"] == {"service": 1005}, export
        status, answer = proxy.client.proxy(template.replace("set_service", "set_nothing"), "example2", {"id": 5})
        assert status == 422 and answer["blocks"]["balance_service"]["error"]["code"] == "VALIDATION_ERROR"
    finally:
        process.terminate()
        wait_until(lambda: process.poll() is not None, 20, "the example stops")
    assert process.returncode == 0
