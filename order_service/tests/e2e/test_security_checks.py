"""docs/security-checks.md names tests for its requirements: they exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
E2E = Path(__file__).parent
TEXT = (ROOT / "docs/security-checks.md").read_text()
ROWS = [line.split("|") for line in TEXT.partition("## Requirements and their tests")[2].splitlines() if line.startswith("| ")][2:]
TESTS = "\n".join(path.read_text() for path in E2E.glob("test_*.py"))


def crate_of(name: str) -> Path:
    return ROOT / name if name == "order_service" else ROOT / "crates" / name


@pytest.mark.parametrize("row", ROWS, ids=[row[1].strip().split(" ")[0].strip(",") for row in ROWS])
def test_each_requirement_has_a_test_that_exists(row):
    named = re.findall(r"`([^`]+)`", row[3])
    assert named, row
    for name in named:
        if name.endswith(".py"):
            assert (E2E / name).exists(), name
        elif name.startswith("test_"):
            assert f"def {name}(" in TESTS, name
        elif "::" in name:
            crate, _, module = name.partition("::")
            inside = module.replace("::", "/")
            folders = [crate_of(crate) / "src", crate_of(crate) / "tests/it"]
            assert any((folder / f"{inside}.rs").exists() or (folder / inside).is_dir() for folder in folders), name
        else:
            assert name.startswith("make "), name
