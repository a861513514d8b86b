"""Hazard: `kill -9` of the configurator at any point loses a block, or has one executed twice."""

import collections
import json
import random
import time

import pytest

from boto_integration import Running, Watched
from configurator_client import ConfiguratorClient
from sqs_emulator import CREDENTIALS, SqsEmulator

BLOCKS, KILLS = 200, 20


def template() -> str:
    """Twenty chains of ten."""
    lines = ["type: module", "name: global", "blocks:"]
    for n in range(BLOCKS):
        needs = f"inputs: [b{n - 20}.id], " if n >= 20 else ""
        value = f"$b{n - 20}.id" if n >= 20 else "0"
        args = f"args: {{service_id: {n}, before: {value}}}"
        block = f"name: b{n}, type: integration, integration: balance.set_service, {needs}outputs: [id], {args}"
        lines.append(f"  - {{{block}}}")
    return "\n".join(lines)


@pytest.mark.long
def test_each_block_is_carried_out_once_whatever_is_killed(platform):
    emulator = SqsEmulator()
    platform.closing(emulator.close)
    flags = ["--sqs-endpoint-url", emulator.url, "--roles", "grpc,http,configurator"]
    service = platform.order_service(*flags, env=CREDENTIALS)
    made = service.command_line("queues", "ensure", "--env", "test", "balance", *flags[:2])
    assert made.returncode == 0, made.stderr

    def handler(action, params, state):
        time.sleep(0.02)
        return {"id": params["service_id"], "action": action}

    integration = Watched(emulator.client(), "balance", "test", {"set_service": handler})
    running = Running(integration)
    platform.closing(running.close)
    client = ConfiguratorClient(service.http_port)
    status, begun = client.begin("killed", template=template())
    assert status == 200, begun
    kills_in_the_run = 0
    for _ in range(KILLS):
        time.sleep(random.uniform(0.05, 0.6))
        kills_in_the_run += client.run(begun["run_id"])["status"] == "running"
        service.kill()
        service.start()
    assert kills_in_the_run >= KILLS // 2, f"the run had ended: only {kills_in_the_run} kills could bite"
    run = client.ended(begun["run_id"], within=120)
    assert run["status"] == "succeeded", run
    assert {block["status"] for block in run["blocks"].values()} == {"succeeded"}
    numbers = collections.defaultdict(set)
    for body, _, _ in integration.messages:
        task = json.loads(body)
        assert task["action"] == "create"
        numbers[task["params"]["service_id"]].add(task["block_id"])
    assert len(numbers) == BLOCKS
    assert all(len(of) == 1 for of in numbers.values()), "one message, however often it was delivered"
    print(f"{KILLS} kills, {kills_in_the_run} while it ran; {len(integration.messages)} deliveries of {BLOCKS} messages")
