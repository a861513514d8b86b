"""Hazard: the ledger's commands print values that are not in the ledger, or scripts cannot tell a failure from an
answer.
"""

import http.server
import json
import subprocess
import threading

import pytest

from ledger_events import LOCK, OUTFLOW, outflow
from ledger_sharding import canonical, sha1_hex, shard_of
from platform_under_test import ORDER_SERVICE_BIN
from ports import free_port
from processes import clean_environment, run_command
from terminals import run_in_terminal

STORAGES = iter(range(80_000, 90_000))  # each test has an account of its own
WINTER, SPRING = "2026-01-01T00:00:00Z", "2026-03-01T00:00:00+02:00"


@pytest.fixture
def storage():
    return next(STORAGES)


@pytest.fixture
def ask(ledger_service, ledger):
    """Runs `ledger …` against the running service."""
    url = f"http://127.0.0.1:{ledger_service.http_port}"
    return lambda *words: ledger_service.command_line("ledger", *words, "--url", url)


def printed(done) -> str:
    assert done.returncode == 0, (done.returncode, done.stdout[-500:], done.stderr)
    return done.stdout


def rows(done) -> list[list[str]]:
    """The cells of a table, header first."""
    lines = [line for line in printed(done).splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("┆")] for line in lines]


def fill(client, storage: int) -> None:
    """Three events in winter and one in spring."""
    winter = [("12.50", {"product_id": 4}), ("1", {"product_id": 5, "pickup_point_id": 9}), ("2", {})]
    events = [outflow(storage, amount, at=WINTER, **auxiliary) for amount, auxiliary in winter]
    client.write([*events, outflow(storage, "100", at=SPRING, product_id=4)]).ok()


def test_balance(ask, ledger, storage):
    fill(ledger, storage)
    key = f"storage_id={storage}"
    assert rows(ask("balance", OUTFLOW, key)) == [["debit", "credit", "balance"], ["115.5", "0", "115.5"]]
    assert rows(ask("balance", OUTFLOW, key, "product_id=4"))[1] == ["112.5", "0", "112.5"]
    # Before the first moment of spring; the + of an offset must survive the way.
    assert rows(ask("balance", OUTFLOW, key, "--at", SPRING))[1] == ["15.5", "0", "15.5"]
    grouped = ask("balance", OUTFLOW, key, "--at", SPRING, "--group-by", "product_id,pickup_point_id")
    assert rows(grouped) == [
        ["product_id", "pickup_point_id", "debit", "credit", "balance"],
        ["-", "-", "2", "0", "2"],
        ["4", "-", "12.5", "0", "12.5"],
        ["5", "9", "1", "0", "1"],
    ]
    answer = ledger.balances(OUTFLOW, {"storage_id": storage}, at=SPRING, group_by=["product_id"]).ok()
    output = printed(ask("balance", OUTFLOW, key, "--at", SPRING, "--group-by", "product_id", "--output", "json"))
    assert json.loads(output) == answer and output.count("\n") == 1
    assert rows(ask("balance", OUTFLOW, f"storage_id={-storage}"))[1] == ["0", "0", "0"]


def test_what_writers_say_does_not_steer_the_terminal(ledger_service, ledger, storage):
    """ESC, BEL, the eight-bit CSI, line breaks, and marks that turn the direction of writing around."""
    said = f"e{storage}\x1b[2J\x07\x9b31m\nforged\u202e"
    ledger.write([{**outflow(storage, "1", at=WINTER), "event_id": said, "info": {"note": said}}]).ok()
    url, key = f"http://127.0.0.1:{ledger_service.http_port}", f"storage_id={storage}"
    command = [ORDER_SERVICE_BIN, "ledger", "events", OUTFLOW, key, "--url", url]
    for words, columns in ((), 300), (("--output", "json"), 300):
        shown = run_in_terminal([*command, *words], columns=columns)
        assert shown.returncode == 0, shown.text
        assert not [c for c in shown.text if c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160 or c == "\u202e")], repr(shown.text)
        assert not [line for line in shown.lines if line.startswith("forged")], shown.text
    assert json.loads(shown.text)["event_id"] == said, "the same document"
    assert "\\u{1b}[2J" in run_in_terminal(command, columns=300).text


def test_turnovers(ask, ledger, storage):
    fill(ledger, storage)
    key = f"storage_id={storage}"
    assert rows(ask("turnovers", OUTFLOW, key, "--from", SPRING))[1] == ["100", "0", "100"]
    winter = ask("turnovers", OUTFLOW, key, "--from", WINTER, "--to", SPRING, "--output", "json")
    answer = ledger.turnovers(OUTFLOW, {"storage_id": storage}, WINTER, SPRING).ok()
    assert json.loads(printed(winter)) == answer and answer["groups"][0]["balance"] == "15.5"


def test_events_of_all_pages(ask, ledger, storage):
    ledger.write([outflow(storage, info={"text": f"{n}\n"}) for n in range(2_344)]).ok()
    # Kept as it is written: with line breaks between its words.
    written = {"events": [outflow(storage, event_id="a", info={"more": {"n": 1}})]}
    ledger.call("POST", "/v1/events", json.dumps(written, indent=1).encode()).ok()
    key, listed = f"storage_id={storage}", ledger.listing(OUTFLOW, {"storage_id": storage}, limit=10_000)
    lines = printed(ask("events", OUTFLOW, key, "--output", "json")).splitlines()
    assert [json.loads(line) for line in lines] == listed and len(listed) == 2_345
    for limit in (1, 1_000, 1_001, 9_999):
        lines = printed(ask("events", OUTFLOW, key, "--output", "json", "--limit", limit)).splitlines()
        assert [json.loads(line) for line in lines] == listed[:limit]
    table = rows(ask("events", OUTFLOW, key, "--limit", "3"))
    assert [row[1] for row in table] == ["event", *(event["event_id"] for event in listed[:3])]
    assert rows(ask("events", OUTFLOW, key, "--from", WINTER, "--to", WINTER))[1:] == []


def test_a_reader_that_has_seen_enough(ledger_service, ledger, storage):
    ledger.write([outflow(storage) for _ in range(5_000)]).ok()
    words = [ORDER_SERVICE_BIN, "ledger", "events", OUTFLOW, f"storage_id={storage}", "--output", "json"]
    words += ["--url", f"http://localhost:{ledger_service.http_port}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    with subprocess.Popen([str(word) for word in words], env=clean_environment(), text=True, **pipes) as command:
        assert json.loads(command.stdout.readline())["type"] == OUTFLOW
        command.stdout.close()
        assert command.stderr.read() == "" and command.wait(20) == 0


def test_types_and_shards(ask, ledger):
    types = rows(ask("types"))
    known = {(row[0], row[1]) for row in types[1:]}
    assert {("account", OUTFLOW), ("lock", LOCK), ("state", "storage_state")} <= known
    (outflow_row,) = [row for row in types if row[1] == OUTFLOW]
    assert "[product_id] [product_id, pickup_point_id]" in outflow_row and "day" in outflow_row
    assert json.loads(printed(ask("types", "--output", "json"))) == ledger.types()
    shards = rows(ask("shards"))
    assert [row[:3] for row in shards] == [
        ["name", "range", "available"],
        ["s0", "00-3f", "yes"],
        ["s1", "40-7f", "yes"],
        ["s2", "80-bf", "yes"],
        ["s3", "c0-ff", "yes"],
    ]
    assert len(json.loads(printed(ask("shards", "--output", "json")))["shards"]) == 4


def test_shard_of_with_and_without_a_service(platform):
    service = platform.order_service()
    attributes = {"storage_id": 17}
    told = {"type": LOCK, "kind": "lock", "shard_key": canonical(attributes), "hash": sha1_hex(attributes)}
    words = ("shard-of", "--type", LOCK, "storage_id=17")
    told["shard"] = shard_of(attributes)
    assert json.loads(printed(service.command_line(*words, "--output", "json"))) == told
    service.stop()
    lines = printed(service.command_line(*words)).splitlines()
    assert [line.split()[-1] for line in lines] == [canonical(attributes), sha1_hex(attributes), shard_of(attributes)]
    assert service.command_line(*words, "--kind", "account").returncode == 1
    assert service.command_line(*words, "--kind", "boat").returncode == 2
    # What is not of the shard key may be there, and is checked; no shard is asked, whatever the map.
    account = ("shard-of", "--type", OUTFLOW, "storage_id=17", "product_id=4")
    assert shard_of(attributes) in printed(service.command_line(*account))
    file = platform.home / "map.yaml"
    file.write_text('shards:\n  - {name: only, range: ["00", "ff"], url: "postgres://nobody@127.0.0.1:1/x"}\n')
    assert "only" in printed(service.command_line(*account, "--shards", file))


REFUSED = {
    "an unknown type": (("balance", "taxi", "storage_id=1"), "taxi"),
    "no key": (("balance", OUTFLOW), "storage_id"),
    "a wrong key": (("turnovers", OUTFLOW, "storage_id=one"), "storage_id"),
    "an unknown attribute": (("events", OUTFLOW, "storage_id=1", "colour=red"), "colour"),
    "a bad time": (("balance", OUTFLOW, "storage_id=1", "--at", "yesterday"), "at"),
    "a grouping that is not allowed": (("balance", OUTFLOW, "storage_id=1", "--group-by", "pickup"), "pickup"),
}
WRONG = {
    "no type": ("balance",),
    "a word that is no pair": ("balance", OUTFLOW, "storage_id"),
    "an option as an attribute": ("events", OUTFLOW, "storage_id=1", "limit=5"),
    "a limit of nothing": ("events", OUTFLOW, "storage_id=1", "--limit", "0"),
    "an unknown option": ("balance", OUTFLOW, "storage_id=1", "--limit", "5"),
    "an unknown command": ("balances", OUTFLOW, "storage_id=1"),
}


@pytest.mark.parametrize(("words", "named"), REFUSED.values(), ids=REFUSED)
def test_what_the_service_refuses(ask, words, named):
    done = ask(*words)
    assert done.returncode == 1 and done.stdout == "", done
    assert "VALIDATION_ERROR" in done.stderr and named in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("words", WRONG.values(), ids=WRONG)
def test_wrong_usage(ask, words):
    done = ask(*words)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done


COMMANDS = [("balance", OUTFLOW, "storage_id=1"), ("events", OUTFLOW, "storage_id=1"), ("types",), ("shards",)]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_nobody_at_the_other_end(words):
    port = free_port()
    urls = (f"http://127.0.0.1:{port}", f"https://127.0.0.1:{port}", f"localhost:{port}")
    for address in (("--http-port", port), *(("--url", url) for url in urls)):
        done = run_command([ORDER_SERVICE_BIN, "ledger", *words, *address])
        assert done.returncode == 1 and str(port) in done.stderr and done.stderr.count("\n") == 1, done
    for url in ("ftp://localhost:1", "http://me:canary-secret@localhost:1", "nonsense://", ""):
        done = run_command([ORDER_SERVICE_BIN, "ledger", *words, "--url", url])
        assert done.returncode == 2 and "--url" in done.stderr and "canary" not in done.stderr, done


class Gateway(http.server.BaseHTTPRequestHandler):
    """Somebody else who answers there: `status` and `body` are set by the test."""

    status, body = 502, b"<html>bad\ngateway</html>"

    def do_GET(self):
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_):
        pass


ODD = [(502, b"<html>bad\ngateway</html>"), (200, b"<html>"), (200, b"{}"), (200, b"\xff")]


@pytest.mark.parametrize(("status", "body"), ODD)
def test_somebody_else_at_the_other_end(status, body):
    handler = type("Answers", (Gateway,), {"status": status, "body": body})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        words = ("ledger", "balance", OUTFLOW, "storage_id=1", "--url", f"http://127.0.0.1:{server.server_port}")
        done = run_command([ORDER_SERVICE_BIN, *words])
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and str(server.server_port) in done.stderr, done
    assert "panicked" not in done.stderr and (status == 200 or "502" in done.stderr)


@pytest.mark.parametrize("command", ["balance", "turnovers", "events", "types", "shards"])
def test_help_has_an_example(command):
    assert f"order_service ledger {command}" in printed(run_command([ORDER_SERVICE_BIN, "ledger", command, "--help"]))
