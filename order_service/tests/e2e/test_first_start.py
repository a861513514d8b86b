"""Hazard: the first start fails for a reason of the machine, reports it only after a minute, in PostgreSQL's words or
not at all, and leaves half a cluster behind.
"""

import json
import os
import pathlib
import shutil

import pytest

from platform_under_test import ORDER_SERVICE_BIN
from processes import run_command
from refused_start import AS_NAMELESS, NAMELESS, as_root, ports, refusal, with_shared_memory, with_tmpfs


@pytest.fixture
def home(platform):
    return {"ORDER_SERVICE_DATA_DIR": str(platform.data_dir)}


def half_made(data_dir: pathlib.Path) -> list[str]:
    """What a failed first start may not leave: anything but empty lock files."""
    return [path.name for path in data_dir.iterdir() if path.is_dir() or path.stat().st_size > 0]


@as_root
def test_without_room_nothing_is_begun(platform, home):
    platform.data_dir.mkdir()
    command = [*with_tmpfs(platform.data_dir, "60m"), ORDER_SERVICE_BIN, *ports()]
    sentence, left = refusal(command, home)
    assert str(platform.data_dir) in sentence and "MiB of free space" in sentence and "--data-dir" in sentence
    assert not [name for name in left.split() if not name.endswith(".lock")], left


@as_root
def test_a_user_without_a_name_is_told_how_to_get_one(platform, home):
    platform.data_dir.mkdir()
    os.chown(platform.data_dir, NAMELESS, NAMELESS)
    sentence, _ = refusal([*AS_NAMELESS, ORDER_SERVICE_BIN, *ports()], home, cwd="/")
    assert f"user id {NAMELESS} has no name" in sentence and "useradd" in sentence
    assert half_made(platform.data_dir) == []


@as_root
def test_a_shared_memory_that_is_too_small_is_named(platform, home):
    command = [*with_shared_memory(platform.home, "256k"), ORDER_SERVICE_BIN, *ports()]
    sentence, _ = refusal(command, home)
    assert "shared memory" in sentence and "--shm-size" in sentence
    assert half_made(platform.data_dir) == []


@as_root
def test_a_small_shared_memory_is_enough(platform):
    """A container's is 64 MiB; this is a part of that."""
    service = platform.order_service(start=False)
    service.command = [*with_shared_memory(platform.home, "4m"), *service.command]
    service.start()


@as_root
def test_a_data_dir_of_somebody_else_is_left_alone(platform, home):
    platform.data_dir.mkdir(mode=0o700)
    shutil.chown(platform.data_dir, "nobody")
    sentence, _ = refusal([ORDER_SERVICE_BIN, *ports()], home)
    assert f"{platform.data_dir} belongs to user nobody" in sentence and "user root" in sentence
    assert list(platform.data_dir.iterdir()) == []


def test_a_cluster_of_a_version_that_is_not_installed(platform, home):
    cluster = platform.data_dir / "postgres"
    cluster.mkdir(mode=0o700, parents=True)
    platform.data_dir.chmod(0o755)
    (cluster / "PG_VERSION").write_text("9\n")
    sentence, _ = refusal([ORDER_SERVICE_BIN, *ports()], home)
    assert str(cluster) in sentence and "PostgreSQL 9" in sentence
    assert "postgresql-9" in sentence and "pg_upgrade" in sentence
    assert [path.name for path in cluster.iterdir()] == ["PG_VERSION"]


@as_root
def test_without_a_home_only_who_needs_one_is_refused(platform):
    keep = ("PATH", "TMPDIR")
    nowhere = ["env", "-i", *(f"{name}={os.environ[name]}" for name in keep if name in os.environ)]
    sentence, _ = refusal([*AS_NAMELESS, *nowhere, ORDER_SERVICE_BIN, *ports()], {}, cwd="/")
    assert "HOME" in sentence and "XDG_DATA_HOME" in sentence and "--data-dir" in sentence
    shown = run_command([*AS_NAMELESS, *nowhere, ORDER_SERVICE_BIN, "config", "print", "--output", "json"], cwd="/")
    assert shown.returncode == 0 and "data-dir" not in json.loads(shown.stdout), shown.stderr
