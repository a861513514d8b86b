#!/usr/bin/env bash
# Builds both programs (and the proxy that breaks their database connections) and runs the end-to-end tests
# (order_service/tests/e2e) against the two real binaries. Nothing has to run beforehand. Arguments go to pytest:
#
#   scripts/local-test-script.sh                            # make e2e: what takes less than five seconds, on the
#                                                           # programs that `make run` builds
#   scripts/local-test-script.sh --long                     # make e2e-long: all others, on programs with all features
#   scripts/local-test-script.sh test_first_contact.py -x   # what pytest is told, on programs with all features
#
# Environment: E2E_PROFILE=debug tests target/debug instead of target/release; CARGO_TARGET_DIR.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

say() { printf 'e2e: %s\n' "$*"; }

profile=${E2E_PROFILE:-release}
build=(cargo build -p order_service -p data_manager -p faults --bins)
if (($# == 0)); then build+=(--no-default-features); fi
case $profile in
    release) build+=(--release) ;;
    debug) ;;
    *) printf 'e2e: E2E_PROFILE is release or debug, not %s\n' "$profile" >&2; exit 2 ;;
esac

scripts/init-repo.sh --test
say "${build[*]}"
"${build[@]}"
if (($#)); then
    # Only debug builds can be told to die at a named point (test_fail_points.py).
    say 'cargo build -p order_service (the debug build, for the fail points)'
    cargo build -p order_service
fi

# The tests take the binaries from here; absolute, because they are started from other folders.
target=$(realpath -- "${CARGO_TARGET_DIR:-target}")
bin=$target/$profile
export ORDER_SERVICE_BIN=$bin/order_service DATA_MANAGER_BIN=$bin/data_manager FAULT_PROXY_BIN=$bin/fault_proxy
export DEBUG_ORDER_SERVICE_BIN=$target/debug/order_service
python=$PWD/target/e2e-venv/bin/python
TMPDIR=$(scripts/scratch-dir.sh)
export TMPDIR

cd order_service/tests/e2e
if (($#)) && [[ $1 != --long ]]; then
    say "pytest $* (in order_service/tests/e2e, binaries of $bin)"
    exec "$python" -m pytest "$@"
fi
# Most tests wait more than they compute.
say "pytest, three at a time (in order_service/tests/e2e, binaries of $bin)"
if (($# == 0)); then
    exec "$python" -m pytest -n 3 --dist loadgroup -m 'not alone and not long and not full'
fi
"$python" -m pytest -n 3 --dist loadgroup -m '(long or full) and not alone'
say 'pytest, those that measure time'
exec "$python" -m pytest -m alone
