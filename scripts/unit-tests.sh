#!/usr/bin/env bash
# Runs `cargo test` with the arguments given, which name profile and packages, and counts what passed
# (target/unit-summary.txt).
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

mkdir -p target
TMPDIR=$(scripts/scratch-dir.sh)
# Most tests wait for a database or another process, so more of them run at a time than there are cores.
export TMPDIR RUST_TEST_THREADS=${RUST_TEST_THREADS:-6}
cargo test --no-fail-fast "$@" | tee target/unit-tests.log
awk '/^test result:/ { runs++; passed += $4; failed += $6; ignored += $8 }
    END { printf "cargo test: %d passed, %d failed, %d ignored in %d runs\n", passed, failed, ignored, runs }' \
    target/unit-tests.log | tee target/unit-summary.txt
