"""Hazard: another local user controls where the service writes, reads its export, or blocks the export by holding a
lock. As root, a planted symlink would be written through.
"""

import os
import pathlib
import shutil
import subprocess

import pytest

from exporting import wait_exported, write
from platform_under_test import ORDER_SERVICE_BIN
from refused_start import as_root, ports, refusal

WRITTEN = [
    "postgres",
    "postgres.new",
    "postgres.log",
    "postgres.log.1",
    "users.lock",
    "keeper.lock",
    "export",
    "export-locks",
    "export/s0",
    "export/s0/1.ndjson",
    "export-locks/s0.lock",
]


@pytest.fixture
def data_dir(platform):
    platform.data_dir.mkdir(mode=0o755)
    return platform.data_dir


def refused(data_dir: pathlib.Path) -> str:
    return refusal([ORDER_SERVICE_BIN, *ports()], {"ORDER_SERVICE_DATA_DIR": str(data_dir)})[0]


def mode(path: pathlib.Path) -> int:
    return path.stat(follow_symlinks=False).st_mode & 0o7777


@pytest.mark.parametrize("rights", [0o777, 0o775, 0o1777, 0o703], ids=oct)
def test_a_data_dir_that_others_may_write_in_is_refused(data_dir, rights):
    data_dir.chmod(rights)
    sentence = refused(data_dir)
    assert str(data_dir) in sentence and f"{rights:04o}" in sentence and "chmod go-w" in sentence
    assert list(data_dir.iterdir()) == []


@pytest.mark.parametrize("name", WRITTEN)
def test_a_link_where_we_write_is_refused(platform, data_dir, name):
    victim = platform.home / "victim"
    victim.write_text("of somebody else\n")
    victim.chmod(0o644)
    link = data_dir / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(victim)
    sentence = refused(data_dir)
    assert f"{link} is a symbolic link" in sentence
    assert victim.read_text() == "of somebody else\n" and mode(victim) == 0o644


@as_root
@pytest.mark.parametrize("name", ["users.lock", "export-locks/s0.lock", "export/s0"])
def test_what_somebody_else_put_there_is_refused(data_dir, name):
    planted = data_dir / name
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.touch()
    shutil.chown(planted, "nobody")
    assert f"{planted} belongs to user nobody" in refused(data_dir)


@pytest.mark.parametrize("rights", [0o755, 0o711], ids=oct)
def test_all_that_is_written_is_ours_alone(platform, data_dir, rights):
    """What an earlier version left open is closed at the start; the data dir itself stays as its owner wants it."""
    data_dir.chmod(rights)
    for folder in ("export", "export/s0", "export-locks"):
        (data_dir / folder).mkdir(mode=0o755)
    for file in ("export/s0/1.ndjson", "export-locks/s0.lock", "users.lock", "keeper.lock", "postgres.log"):
        (data_dir / file).touch(mode=0o644)
    service = platform.order_service()
    ledger = platform.ledger_client(service)
    write(ledger, 60, "e")
    wait_exported(ledger)
    assert mode(data_dir) == rights
    entries = [path for path in data_dir.rglob("*") if data_dir / "postgres" not in path.parents]
    assert {"export", "s0", "s3", "export-locks", "s3.lock", "postgres.log"} <= {path.name for path in entries}
    open_ones = [(path, oct(mode(path))) for path in entries if mode(path) != (0o700 if path.is_dir() else 0o600)]
    assert open_ones == []


@as_root
def test_a_strangers_lock_does_not_stop_the_export(platform):
    service = platform.order_service()
    ledger = platform.ledger_client(service)
    write(ledger, 20, "before")
    wait_exported(ledger)
    service.stop()
    platform.data_dir.chmod(0o755)
    locks = platform.data_dir / "export-locks"
    locks.chmod(0o755)  # as an earlier version made it
    held = ["setpriv", "--reuid", "nobody", "--clear-groups", "flock", "-n", locks / "s0.lock", "true"]
    assert subprocess.run(held, cwd="/", stderr=subprocess.DEVNULL).returncode != 0, "a stranger got the lock"
    assert os.access(locks / "s0.lock", os.R_OK)
