"""Hazard: the logs grow without bound while the service runs, or are full of spurious warnings."""

import json

import pytest

import embedded_postgres
from waiting import wait_until

LOG_BYTES = 16 << 20
# 40 MB of what the server logs.
TALK = "SET client_min_messages = error; DO $$ BEGIN FOR n IN 1..800 LOOP RAISE WARNING '% %', n, repeat('x', 50000); END LOOP; END $$"


def test_the_servers_log_is_bounded_while_it_runs(platform):
    service = platform.order_service()
    embedded_postgres.psql(platform.data_dir, TALK)
    now, before = platform.data_dir / "postgres.log", platform.data_dir / "postgres.log.1"
    wait_until(lambda: "WARNING:  800 x" in now.read_text(), 10, "the last line")
    assert before.stat().st_size <= LOG_BYTES and now.stat().st_size <= LOG_BYTES
    assert before.stat().st_size + now.stat().st_size > LOG_BYTES, "more is kept than one file"
    assert sorted(path.name for path in platform.data_dir.glob("postgres.log*")) == ["postgres.log", "postgres.log.1"]
    service.stop()


@pytest.mark.long
def test_waiting_for_another_process_of_ours_is_no_slow_statement(platform):
    """A replica finds its database missing while another session holds the lock for creating one."""
    platform.order_service()
    held = embedded_postgres.session(platform.data_dir, "postgres")
    platform.closing(held.close)
    held.say("SELECT pg_advisory_lock(1);")
    embedded_postgres.psql(platform.data_dir, "DROP DATABASE control WITH (FORCE)", "postgres")
    second = platform.order_service(replica=1, start=False)
    second.start(ready_within=None)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND now() - query_start > '1.2 s'"
    wait_until(lambda: embedded_postgres.psql(platform.data_dir, waits, "postgres") != "0", 30, "the second one waits")
    held.say("SELECT pg_advisory_unlock(1);")
    second.wait_ready(30)
    logged = [json.loads(line) for line in second.log.read_text().splitlines()]
    slow = [entry for entry in logged if "slow statement" in entry["message"] and "advisory" in str(entry)]
    assert slow == [] and any("creating a database" in entry["message"] for entry in logged)
