"""Independent reader of the exported files: folders of NDJSON segments."""

import json
import pathlib


def segments(export: pathlib.Path, shard: str) -> list[pathlib.Path]:
    """A shard's segments in their order, which is that of the numbers they are named after."""
    folder = export / shard
    found = sorted(folder.iterdir(), key=lambda path: int(path.stem)) if folder.exists() else []
    assert all(path.suffix == ".ndjson" for path in found), found
    return found


def read(export: pathlib.Path, shard: str) -> list[dict]:
    """All entries; every line must be whole, and each segment must begin with the number in its name."""
    entries = []
    for path in segments(export, shard):
        text = path.read_text()
        assert text.endswith("\n"), f"{path} ends in a torn line"
        lines = [json.loads(line) for line in text.splitlines()]
        assert lines[0]["seq"] == int(path.stem), path
        entries += lines
    return entries
