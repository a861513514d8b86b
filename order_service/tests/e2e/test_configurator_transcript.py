"""Hazard: a recorded run cannot be replayed without its integration, or a forecast is wrong."""

import json

from test_configurator_postgres import EMPTY, RULE, TYPE


def test_a_recorded_run_is_a_golden_test_without_the_integration(platform):
    transcript = platform.home / "transcript.ndjson"
    template = TYPE.format(groupings="[]", rule=RULE)
    recording = platform.test_proxy("--record", transcript)
    status, recorded = recording.client.proxy(template, "golden", {"name": "couriers"})
    assert status == 200, recorded
    bad = TYPE.format(groupings="[[courier_id]]", rule="")
    status, refused = recording.client.proxy(bad, "refused", {"name": "couriers2"})
    assert status == 422, refused
    file = platform.home / "template.yaml"
    file.write_text(EMPTY)
    words = ["configurator", "forecast", "--template", file, "--template-name", "golden", "--env", "test"]
    forecast = recording.command_line(*words, "--output", "json")
    assert forecast.returncode == 0, forecast.stderr
    foreseen = {block["name"]: block["action"] for block in json.loads(forecast.stdout)["blocks"]}
    assert foreseen == {"account": "delete", "rule": "delete"}
    status, emptied = recording.client.proxy(EMPTY, "golden", {})
    assert status == 200, emptied
    run = recording.client.run(emptied["run_id"])
    assert {name: block["action"] for name, block in run["blocks"].items()} == foreseen
    recording.stop()
    entries = [json.loads(line) for line in transcript.read_text().splitlines()]
    assert [entry["action"] for entry in entries] == ["create", "create", "create", "delete", "delete"]

    # The same messages, other instances: nothing of the platform's own integration runs here.
    replaying = platform.test_proxy("--replay", transcript)
    status, replayed = replaying.client.proxy(template, "replayed", {"name": "couriers"})
    assert status == 200, replayed
    assert replayed["blocks"] == recorded["blocks"]
    status, answer = replaying.client.proxy(bad, "refused too", {"name": "couriers2"})
    assert status == 400, "a template's name has no spaces"
    status, answer = replaying.client.proxy(bad, "refused2", {"name": "couriers2"})
    assert status == 422 and answer["blocks"] == refused["blocks"]
    status, answer = replaying.client.proxy(template, "other", {"name": "others"})
    assert status == 422 and answer["blocks"]["account"]["error"]["code"] == "CONSISTENCY_ERROR", answer
    assert replaying.client.proxy(EMPTY, "replayed", {})[0] == 200


def test_a_run_that_takes_too_long_is_504_and_does_not_stand_in_the_way(platform):
    proxy = platform.test_proxy("--timeout", "1s")
    nobody = EMPTY.replace("blocks: []", "blocks: [{name: a, type: integration, integration: nobody.does}]")
    for _ in range(2):
        status, answer = proxy.client.proxy(nobody, "slow", {})
        assert status == 504 and answer["error"]["code"] == "TIMEOUT", answer
