"""A test's configuration bundle: a copy of the repository's `configs/`, changed file by file and reconciled.

Files are found by their `$schema` line, since the layout of a bundle is not part of the contract. New files are written
as YAML with one key per line and flow values, so that a test knows the line of an error.
"""

import json
import pathlib
import re
import shutil

from stubs import REPOSITORY
from waiting import wait_until

ACCOUNT, LOCK, STATE = "/ledger/account-type-1.yml", "/ledger/lock-type-1.yml", "/ledger/state-type-1.yml"

# An account type with every attribute type, and groupings that do not contain one another.
WIDE = {
    "name": "client_commission",
    "description": "What a client paid, by all kinds of attributes",
    "key_attributes": [{"name": "client_id", "type": "int"}, {"name": "currency", "type": "string"}],
    "attributes": [
        {"name": "product", "type": "string"},
        {"name": "region", "type": "uuid"},
        {"name": "due", "type": "date"},
        {"name": "urgent", "type": "bool"},
        {"name": "rank", "type": "int"},
    ],
    "groupings": [["product"], ["region", "urgent"], ["due"], ["product", "due", "urgent"]],
    "shard_key": ["client_id", "currency"],
    "aggregate": "month",
}
# One lock and one state type whose only attribute is a string that is the shard key.
NAMED = {"attributes": [{"name": "label", "type": "string"}], "shard_key": ["label"]}
LABEL_LOCK = {"name": "label_lock", "description": "Guards a label", **NAMED}
LABEL_STATE = {"name": "label_state", "description": "Belongs to a label", **NAMED}


class Bundle:
    """A folder like `configs/`; `reconcile` brings it into the database of a service."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        shutil.copytree(REPOSITORY / "configs", folder)

    def files(self, schema: str) -> list[pathlib.Path]:
        """The files that name this schema. A prefix (`/ledger/posting`) will do."""
        line = re.compile(rf"""^["']?\$schema["']?:\s*["']?{re.escape(schema)}""", re.MULTILINE)
        files = [path for path in sorted(self.folder.rglob("*.y*ml")) if line.search(path.read_text())]
        assert files, f"no file of the bundle names {schema}"
        return files

    def file_of(self, schema: str, name: str) -> pathlib.Path:
        line = re.compile(rf"""^name:\s*["']?{name}["']?\s*$""", re.MULTILINE)
        (path,) = [path for path in self.files(schema) if line.search(path.read_text())]
        return path

    def add(self, schema: str, fields: dict) -> pathlib.Path:
        """One more file beside those of its kind (or the same file again, with other fields)."""
        path = self.files(schema)[0].parent / f"{fields['name']}.yaml"
        lines = [f"$schema: {schema}"] + [f"{key}: {json.dumps(value)}" for key, value in fields.items()]
        path.write_text("\n".join(lines) + "\n")
        return path

    def add_wide_types(self) -> None:
        self.add(ACCOUNT, WIDE)
        self.add(LOCK, LABEL_LOCK)
        self.add(STATE, LABEL_STATE)

    def reconcile(self, service, integration: str = "ledger-types", *flags):
        """The finished command."""
        return service.command_line("reconcile", integration, "--bundle", self.folder, *flags)

    def bring_in(self, service, integration: str = "ledger-types", *flags) -> str:
        """Reconciles, which must succeed; what it printed."""
        done = self.reconcile(service, integration, *flags)
        assert done.returncode == 0, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout


def type_named(client, kind: str, name: str) -> dict | None:
    """`kind`: account_types, lock_types or state_types, as `GET /v1/types` calls them."""
    return next((known for known in client.types()[kind] if known["name"] == name), None)


def wait_for_types(client, *names: str, timeout: float = 3) -> None:
    """Until the running service knows the account types."""

    def known() -> bool:
        return set(names) <= {known["name"] for known in client.types()["account_types"]}

    wait_until(known, timeout, f"account types {names} picked up")
