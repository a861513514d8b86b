"""Hazard: a wrong shard map writes to the wrong shard; or the platform's hash differs from the specification.

A gap, an overlap, another shard's database: refused at start with a line that names it. `shard-of`, write results and
Python's SHA-1 agree.
"""

import json

import pytest

import embedded_postgres

from ledger_bundle import WIDE
from ledger_events import new_id, outflow
from ledger_sharding import canonical, one_id_per_shard, sha1_hex, shard_of
from own_postgres import OwnPostgres, shard_map
from platform_under_test import ORDER_SERVICE_BIN
from ports import free_port
from processes import run_command

NOWHERE = "postgres://postgres@127.0.0.1:1/nowhere"


def refused_map(platform, text: str, *flags) -> str:
    """What a start with this `--shards` file says; it must end by itself, soon."""
    file = platform.home / "shards.yaml"
    file.write_text(text)
    ports = ("--http-port", free_port(), "-app_port", free_port())
    home = {"ORDER_SERVICE_DATA_DIR": str(platform.data_dir)}
    done = run_command([ORDER_SERVICE_BIN, *ports, "--shards", file, *flags], env=home)
    assert done.returncode in (1, 2), (done.returncode, done.stdout[-1000:], done.stderr[-1000:])
    assert "panicked" not in done.stderr and done.stderr.strip()
    return done.stderr


def ranges_text(*shards) -> str:
    lines = [f'  - {{name: {name}, range: ["{low}", "{high}"], url: "{NOWHERE}"}}' for name, low, high in shards]
    return "\n".join(["shards:", *lines, ""])


WRONG = {
    "a gap": (ranges_text(("left", "00", "7e"), ("right", "80", "ff")), ["7f"]),
    "a gap at the start": (ranges_text(("left", "01", "7f"), ("right", "80", "ff")), ["00"]),
    "a gap at the end": (ranges_text(("left", "00", "7f"), ("right", "80", "fe")), ["ff"]),
    "a gap of half a byte": (ranges_text(("left", "00", "7f7f"), ("right", "80", "ff")), ["7f80", "7f7f"]),
    "an overlap": (ranges_text(("left", "00", "80"), ("right", "80", "ff")), ["left", "right"]),
    "one within the other": (ranges_text(("left", "00", "ff"), ("right", "80", "8f")), ["left", "right"]),
    "upside down": (ranges_text(("left", "7f", "00"), ("right", "80", "ff")), ["left"]),
    "no hex": (ranges_text(("left", "00", "7g"), ("right", "80", "ff")), ["7g"]),
    "a name twice": (ranges_text(("left", "00", "7f"), ("left", "80", "ff")), ["left"]),
    "no shard": ("shards: []\n", ["shards"]),
    "an unknown key": (ranges_text(("left", "00", "ff")).replace("range:", "ragne:"), ["ragne"]),
    "no url": ('shards:\n  - {name: left, range: ["00", "ff"]}\n', ["left", "url"]),
    "two urls": (ranges_text(("left", "00", "ff")).replace("url:", "url_env: SOMETHING, url:"), ["left", "url"]),
    "an unset variable": ('shards:\n  - {name: left, range: ["00", "ff"], url_env: NOT_THERE}\n', ["NOT_THERE"]),
    "a missing file": ('shards:\n  - {name: left, range: ["00", "ff"], url_file: /no/such/url}\n', ["/no/such/url"]),
    "no YAML": ("shards: [", ["shards.yaml"]),
}


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_map_is_refused_at_start(module_platform, ledger_service, text, words):
    """Beside a running service, whose embedded cluster is at hand for the control database."""
    told = refused_map(module_platform, text)
    assert any(word in told for word in words), f"none of {words} in {told}"


def test_a_map_that_does_not_exist(platform):
    home, ports = (
        {"ORDER_SERVICE_DATA_DIR": str(platform.data_dir)},
        ("--http-port", free_port(), "-app_port", free_port()),
    )
    done = run_command([ORDER_SERVICE_BIN, *ports, "--shards", platform.home / "nobody.yaml"], env=home)
    assert done.returncode in (1, 2) and "nobody.yaml" in done.stderr


def test_another_shards_database_is_refused(platform):
    server = OwnPostgres(platform.home / "pg", "control", "left", "right")
    platform.closing(server.stop)
    control = ("--database-url", server.url("control"))

    def mapped(*shards) -> str:
        file = platform.home / "map.yaml"
        return shard_map(file, [(name, low, high, server.url(db)) for name, low, high, db in shards]).read_text()

    right_map = mapped(("left", "00", "7f", "left"), ("right", "80", "ff", "right"))
    done = run_command([ORDER_SERVICE_BIN, "migrate", *control, "--shards", platform.home / "map.yaml"], timeout=60)
    assert done.returncode == 0, done.stderr
    service = platform.order_service(*control, "--shards", str(platform.home / "map.yaml"))
    ledger = platform.ledger_client(service)
    ledger.write([outflow(n) for n in range(50)]).ok()
    assert {n: shard["range"] for n, shard in ledger.shards().items()} == {"left": ["00", "7f"], "right": ["80", "ff"]}
    service.stop()

    swapped = mapped(("left", "00", "7f", "right"), ("right", "80", "ff", "left"))
    told = refused_map(platform, swapped, *control)
    assert "left" in told or "right" in told, told
    moved = mapped(("left", "00", "3f", "left"), ("right", "40", "ff", "right"))
    told = refused_map(platform, moved, *control)
    assert any(word in told for word in ("3f", "7f", "40", "80")), told
    twice = mapped(("left", "00", "7f", "left"), ("right", "80", "ff", "left"))
    told = refused_map(platform, twice, *control)
    assert "right" in told, told

    (platform.home / "map.yaml").write_text(right_map)
    service.start()
    stored = [len(ledger.listing("storage_outflow", {"storage_id": n})) for n in range(50)]
    assert stored == [1] * 50 and sum(ledger.events_stored().values()) == 50


def test_write_results_name_the_shard_of_the_hash(ledger):
    storages = list(range(-100, 400)) + [2**63 - 1, -(2**63)]
    results = ledger.write([outflow(n) for n in storages]).ok()["results"]
    assert [r["shard"] for r in results] == [shard_of({"storage_id": n}) for n in storages]


LABELS = ["", "a", "A b", "ü", "a/b?c=d&e", "100%", "-._~", "*'()!", "+", "\N{MONEY BAG}", "日本", "a\tb", "x" * 256]


def test_shard_of_agrees_with_sha1(ledger_service, wide_ledger):
    """Percent-encoding and the order of the names, by the awkward values of strings."""
    for label in LABELS:
        told = printed_shard(ledger_service, "label_state", label=label)
        assert sha1_hex({"label": label}) in told and shard_of({"label": label}) in told, (label, told)
    for client, currency in ((1, "EUR"), (-5, "a b&c=d"), (2**63 - 1, "ü")):
        attributes = {"client_id": client, "currency": currency}
        told = printed_shard(ledger_service, WIDE["name"], **attributes)
        assert sha1_hex(attributes) in told and shard_of(attributes) in told, (canonical(attributes), told)
        event = {"type": WIDE["name"], "event_id": new_id(), "dt": "2026-01-01T00:00:00Z", "attributes": attributes}
        (result,) = wide_ledger.write([{**event, "debit": "1"}]).ok()["results"]
        assert result["shard"] == shard_of(attributes)


def printed_shard(service, type_name: str, **attributes) -> list:
    """The values that `shard-of` prints as JSON."""
    words = [f"{name}={value}" for name, value in attributes.items()]
    done = service.command_line("shard-of", "--type", type_name, *words, "--output", "json")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout).values())


def test_shard_of_for_people_and_its_refusals(ledger_service, ledger):
    done = ledger_service.command_line("shard-of", "--type", "storage_lock", "storage_id=17")
    assert done.returncode == 0 and sha1_hex({"storage_id": 17}) in done.stdout
    assert shard_of({"storage_id": 17}) in done.stdout
    lock = "storage_lock"
    for words in (("taxi", "storage_id=1"), (lock, "colour=1"), (lock, "storage_id=x"), (lock,)):
        done = ledger_service.command_line("shard-of", "--type", *words)
        assert done.returncode in (1, 2) and done.stderr.strip() and "panicked" not in done.stderr, words


def test_the_account_its_lock_and_its_state_lie_together(ledger_service, ledger):
    for kind in ("storage_outflow", "storage_lock", "storage_state"):
        for storage in (1, -1, 99):
            told = printed_shard(ledger_service, kind, storage_id=storage)
            assert sha1_hex({"storage_id": storage}) in told and shard_of({"storage_id": storage}) in told


def test_the_figures_of_the_shards(ledger):
    shards = ledger.shards()
    assert {n: s["range"] for n, s in shards.items()} == {
        "s0": ["00", "3f"],
        "s1": ["40", "7f"],
        "s2": ["80", "bf"],
        "s3": ["c0", "ff"],
    }
    before = ledger.events_stored()
    counts = {"s0": 1, "s1": 20, "s2": 0, "s3": 300}
    storages = one_id_per_shard(start=5000)
    events = [outflow(storages[shard]) for shard, count in counts.items() for _ in range(count)]
    ledger.write(events).ok()
    ledger.write(events).ok()
    after = ledger.events_stored()
    assert {name: after[name] - before[name] for name in after} == counts


@pytest.mark.parametrize("count", [1, 8])
def test_the_first_start_makes_the_shards_and_later_ones_find_them(platform, count):
    service = platform.order_service("--initial-shards", str(count))
    ledger = platform.ledger_client(service)
    ledger.write([outflow(n) for n in range(50)]).ok()
    names = [f"s{n}" for n in range(count)]
    assert list(ledger.shards()) == names
    stored = [embedded_postgres.psql(platform.data_dir, "SELECT count(*) FROM events", shard=name) for name in names]
    assert sum(map(int, stored)) == 50
    # Whoever asks for no number takes what there is.
    here = {"ORDER_SERVICE_DATA_DIR": str(platform.data_dir)}
    status = run_command([ORDER_SERVICE_BIN, "status", "--output", "json"], env=here)
    assert [shard["shard"] for shard in json.loads(status.stdout)["shards"]] == names, status
    refused = service.command_line("status", "--initial-shards", "2")
    assert refused.returncode == 2 and f"2 are wanted, but this database was begun with {count}" in refused.stderr


@pytest.mark.parametrize("count", ["0", "3", "512", "-1", "x"])
def test_a_number_of_shards_that_there_cannot_be(platform, count):
    done = run_command([ORDER_SERVICE_BIN, f"--initial-shards={count}", "--data-dir", platform.data_dir])
    assert done.returncode == 2 and "initial-shards" in done.stderr, done.stderr
    assert not platform.data_dir.exists()


def test_a_number_of_shards_beside_a_map(platform):
    told = refused_map(platform, ranges_text(("left", "00", "ff")), "--initial-shards", "1")
    assert "--initial-shards (flag): not together with --shards" in told


def test_shards_of_a_map_may_be_schemas_of_one_database(platform):
    server = OwnPostgres(platform.home / "pg", "control")
    platform.closing(server.stop)
    url, file = server.url("control"), platform.home / "map.yaml"
    # One of them is a word of SQL.
    shards = [("left", "00", "7f", "one"), ("right", "80", "ff", "user")]
    lines = [f'  - {{name: {n}, range: ["{a}", "{b}"], url: "{url}", schema: {schema}}}' for n, a, b, schema in shards]
    file.write_text("\n".join(["shards:", *lines, ""]))
    flags = ("--database-url", url, "--shards", str(file))
    migrated = run_command([ORDER_SERVICE_BIN, "migrate", *flags], timeout=60)
    assert migrated.returncode == 0, migrated.stderr
    service = platform.order_service(*flags)
    ledger = platform.ledger_client(service)
    ledger.write([outflow(n) for n in range(50)]).ok()
    stored = {schema: int(server.psql(f'SELECT count(*) FROM "{schema}".events', "control")) for *_, schema in shards}
    assert sum(stored.values()) == 50 and all(stored.values()), stored
