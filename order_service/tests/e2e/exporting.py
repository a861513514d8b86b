"""Events to export, the ledger's feed of them, and the comparison of export and feed."""

import concurrent.futures
import json
import threading

from ledger_client import LostAnswer
from ledger_events import outflow, statuses
from waiting import wait_until

SHARDS = ["s0", "s1", "s2", "s3"]
# For all tests: a client keeps one connection for each thread.
_CALLERS = concurrent.futures.ThreadPoolExecutor(8)


def write(ledger, count: int, name: str) -> list[str]:
    """Writes this many events on all shards in calls of different sizes; the ids of those that were acknowledged."""
    events = [outflow(n % 40, f"{n}.50", f"{name}-{n}", info={"n": n, "text": "a\nb"}) for n in range(count)]
    calls, begin = [], 0
    while begin < count:
        calls.append(events[begin : begin + 1 + len(calls) * 7 % 60])
        begin += len(calls[-1])
    written = []

    def call(part: list[dict]) -> None:
        try:
            answer = ledger.write(part)
        except (LostAnswer, OSError):
            return
        if answer.status == 200:
            written.extend(event["event_id"] for event in part)
            assert len(statuses(answer)) == len(part)

    list(_CALLERS.map(call, calls))
    return written


class Writing:
    """Writes without end until left."""

    def __init__(self, ledger, name: str):
        self.ledger, self.name, self.written = ledger, name, []
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        turn = 0
        while not self._left.is_set():
            written = write(self.ledger, 60, f"{self.name}-{turn}")
            self.written += written
            turn += 1
            # Nobody answers just now.
            self._left.wait(0 if written else 0.05)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._left.set()
        self._thread.join()


def dies_there(service, ledger, point: str, count: int) -> list[str]:
    """The service, under load, dies when it passes the point for the `count`th time, and is started again; the ids of what
    was acknowledged, all exported."""
    service.env["FAIL_POINT"] = f"{point}:{count}"
    service.start()
    with Writing(ledger, "before") as writing:
        wait_until(lambda: not service.is_running(), 60, f"the process to die at {point}")
    del service.env["FAIL_POINT"]
    service.start()
    written = writing.written + write(ledger, 300, "after")
    wait_exported(ledger)
    return written


def shards(ledger) -> dict[str, dict]:
    return {shard["name"]: shard for shard in ledger.call("GET", "/v1/shards").ok()["shards"]}


def exports_more(ledger, count: int) -> None:
    """Until so many more events are exported."""

    def exported() -> int:
        return sum(shard["exported_seq"] for shard in shards(ledger).values())

    seen = exported()
    wait_until(lambda: exported() > seen + count, 60, "exporting goes on")


def wait_exported(ledger, timeout: float = 60) -> None:
    """Until everything that is committed is numbered and exported."""

    def done() -> bool:
        figures = shards(ledger).values()
        return all(s["events"] == s["last_seq"] == s["exported_seq"] and s["export_alarm"] is None for s in figures)

    wait_until(done, timeout, "everything exported")


def feed(ledger, shard: str) -> list[dict]:
    events = []
    while page := ledger.call("GET", f"/v1/feed/{shard}?after={len(events)}&limit=1000").ok()["events"]:
        events += page
    return events


def assert_replay(ledger, read, written: list[str]) -> int:
    """`read(shard)` is 1 to N of every shard, as the feed has it, and nothing acknowledged is missing; how many."""
    seen = set()
    for shard in SHARDS:
        expected = [{"shard": shard, "epoch": 1, **event} for event in feed(ledger, shard)]
        entries = read(shard)
        assert [entry["seq"] for entry in entries] == list(range(1, len(expected) + 1)), shard
        assert entries == expected, shard
        seen |= {entry["event_id"] for entry in entries}
    assert set(written) <= seen, f"acknowledged and not exported: {sorted(set(written) - seen)[:5]}"
    return len(seen)


def verified(service, *words) -> dict:
    """The proof of `export verify`, which must hold."""
    done = service.command_line("export", "verify", "--output", "json", *words, timeout=60)
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr)
    proof = json.loads(done.stdout)
    assert proof["holds"] and all(shard["differences"] == [] for shard in proof["shards"])
    return proof
