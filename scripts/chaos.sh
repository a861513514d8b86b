#!/usr/bin/env bash
# Builds both programs and the proxy that breaks their database connections, and breaks them at random under load
# (order_service/tests/e2e/chaos.py). Nothing has to run beforehand. Arguments go to chaos.py:
#
#   scripts/chaos.sh --faults kill:front,hold --logs /tmp/logs
#   scripts/chaos.sh matrix     every named statement x every way to lose its connection (chaos_matrix.py)
#
# Environment: CHAOS_MINUTES (10), CHAOS_SEED (drawn, and printed); CARGO_TARGET_DIR.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

scripts/init-repo.sh --test
cargo build --release --workspace --bin order_service --bin data_manager --bin fault_proxy

# The programs are started from other folders: absolute.
bin=$(realpath -- "${CARGO_TARGET_DIR:-target}")/release
export ORDER_SERVICE_BIN=$bin/order_service DATA_MANAGER_BIN=$bin/data_manager FAULT_PROXY_BIN=$bin/fault_proxy
TMPDIR=$(scripts/scratch-dir.sh)
export TMPDIR
seed=${CHAOS_SEED:-$RANDOM}
run=(target/e2e-venv/bin/python order_service/tests/e2e/chaos.py --minutes "${CHAOS_MINUTES:-10}")
kept=chaos
if [[ ${1-} == matrix ]]; then
    shift
    run=(target/e2e-venv/bin/python order_service/tests/e2e/chaos_matrix.py)
    kept=fault-matrix
fi
exec "${run[@]}" --seed "$seed" --output "bench/results/$kept-$(date -u +%Y%m%d-%H%M%S).json" "$@"
