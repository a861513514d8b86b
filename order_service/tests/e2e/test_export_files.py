"""Hazard: the service dies between reading events, writing their lines and recording the cursor; a line is torn; a
segment is started and never filled. And: a row is changed behind the service's back.

A consumer that reads only the files must find every event once, in order, 1 to N per shard.
"""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

import embedded_postgres
import exported_files
from exporting import assert_replay, dies_there, shards, verified, wait_exported, write
from platform_under_test import Platform
from waiting import wait_until

# Each point, and the time it is passed at which the process dies.
POINTS = [
    ("export_segment_begun", 1),
    ("export_segment_begun", 3),
    ("export_line_torn", 1),
    ("export_line_torn", 12),
    ("export_written", 1),
    ("export_written", 12),
    ("exported", 1),
    ("exported", 12),
    ("export_recording", 1),
    ("export_recording", 9),
    ("export_recorded", 1),
    ("export_recorded", 9),
]


def leaves_exact_files(point: str, count: int) -> None:
    """One case on a platform of its own."""
    platform = Platform()
    try:
        service = platform.order_service(start=False)
        ledger = platform.ledger_client(service)
        written = dies_there(service, ledger, point, count)
        events = assert_replay(ledger, lambda shard: exported_files.read(platform.data_dir / "export", shard), written)
        proof = verified(service)
        assert sum(shard["exported_seq"] for shard in proof["shards"]) == events
    finally:
        platform.close()


@pytest.mark.timeout(400)
@pytest.mark.long
def test_dying_anywhere_leaves_exact_files(debug_build):
    """All points, six platforms at a time: most of each case is waiting for the dead process's leases to run out."""
    with ThreadPoolExecutor(6) as pool:
        cases = {point: pool.submit(leaves_exact_files, *point) for point in POINTS}
    failed = {point: repr(case.exception()) for point, case in cases.items() if case.exception()}
    assert not failed, failed


@pytest.mark.long
def test_verify_names_a_row_that_was_changed_behind_the_services_back(platform):
    service = platform.order_service()
    ledger = platform.ledger_client(service)
    write(ledger, 200, "e")
    wait_exported(ledger)
    sound = service.command_line("export", "verify")
    assert sound.returncode == 0 and "200 events, each exported once and in order" in sound.stdout, sound.stderr
    entry = exported_files.read(platform.data_dir / "export", "s1")[6]
    change = f"UPDATE events SET debit = debit + 1 WHERE event_id = '{entry['event_id']}'"
    embedded_postgres.psql(platform.data_dir, change, shard="s1")
    done = service.command_line("export", "verify")
    assert done.returncode == 1 and "error: stream and ledger differ" in done.stderr
    more = str(int(entry["debit"].split(".")[0]) + 1) + ".50"
    named = f'event storage_outflow/{entry["event_id"]}: debit is "{entry["debit"]}" in the stream, "{more}" in the ledger'
    assert f"s1 number 7: {named}" in done.stdout, done.stdout
    done = service.command_line("export", "verify", "--shard", "s1", "--output", "json")
    proof = json.loads(done.stdout)
    assert not proof["holds"] and proof["shards"][0]["differences"] == [{"seq": 7, "what": named}]
    # The others are as they were.
    assert service.command_line("export", "verify", "--shard", "s0").returncode == 0
    assert service.command_line("export", "verify", "--shard", "s9").returncode == 2


def test_a_damaged_line_is_named_by_file_line_and_the_number_before_it(platform):
    service = platform.order_service()
    ledger = platform.ledger_client(service)
    write(ledger, 200, "e")
    wait_exported(ledger)
    (segment,) = exported_files.segments(platform.data_dir / "export", "s1")
    lines = segment.read_bytes().splitlines(keepends=True)
    lines[6] = lines[6].replace(b'"seq":7', b'"seq":\x007')
    segment.write_bytes(b"".join(lines))
    done = service.command_line("export", "verify", "--shard", "s1")
    assert done.returncode == 1, done.stdout
    assert f"{segment}, line 7, after number 6 of epoch 1: no exported event: " in done.stderr, done.stderr
    assert "line 1 column" not in done.stderr


@pytest.mark.long
def test_without_an_engine_nothing_is_exported_and_a_wrong_one_is_refused(platform):
    service = platform.order_service("--export-engine", "none")
    ledger = platform.ledger_client(service)
    write(ledger, 20, "e")
    wait_until(lambda: sum(s["last_seq"] for s in shards(ledger).values()) == 20, 10, "numbers")
    assert all(shard["exported_seq"] == 0 for shard in shards(ledger).values())
    assert not (platform.data_dir / "export").exists()
    for words in (["--export-engine", "none"], ["--export-engine", "kafka"], ["--export-engine", "nats"]):
        done = service.command_line("export", "verify", *words)
        assert done.returncode == 2, (words, done.stderr)
    canary = "nats://user:canary-5e1f@127.0.0.1:1"
    done = service.command_line("export", "verify", "--export-engine", "nats", "--nats-url", canary)
    assert done.returncode == 1 and "NATS at 127.0.0.1:1" in done.stderr
    shown = service.command_line("config", "print", "--nats-url", canary)
    assert "canary" not in done.stdout + done.stderr + shown.stdout + shown.stderr
