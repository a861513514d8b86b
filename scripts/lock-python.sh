#!/usr/bin/env bash
# Writes the lock files of the Python packages that the tests use: every version, and the hash of every file that may be
# installed, for all machines and from Python 3.11 on. What is wanted is in the .in file beside each; after a change of
# one, this is run and both are committed. It needs uv: python3 -m pip install uv.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

for wanted in order_service/tests/e2e/requirements.in scripts/requirements/*.in; do
    # Only what PyPI has: files that lie about on this machine have hashes that nobody else can check.
    UV_FIND_LINKS='' uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
        --custom-compile-command scripts/lock-python.sh "$wanted" --output-file "${wanted%.in}.txt"
done
