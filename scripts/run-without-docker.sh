#!/usr/bin/env bash
# Builds and runs the whole platform on this machine: installs what is missing, builds, starts the data
# manager and the order service with every role, processes a first small batch of orders, then serves until
# Ctrl-C, which stops everything. `make run` is this script.
#
# Environment: DATA_MANAGER_APP_PORT (8093), ORDER_SERVICE_APP_PORT (8094), ORDER_SERVICE_HTTP_PORT (8095),
# ORDER_SERVICE_DATA_DIR (where the service keeps its private PostgreSQL), CARGO_TARGET_DIR.
# The services' logs are in target/run/.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# Exported, so that the command line used below finds the service that this script started.
export DATA_MANAGER_APP_PORT=${DATA_MANAGER_APP_PORT:-8093}
export ORDER_SERVICE_APP_PORT=${ORDER_SERVICE_APP_PORT:-8094}
export ORDER_SERVICE_HTTP_PORT=${ORDER_SERVICE_HTTP_PORT:-8095}
bin=${CARGO_TARGET_DIR:-target}/release
logs=target/run

# The same at each start: a repeated order is answered with its stored result and changes nothing. Ids far
# from what one types by hand, because the same id with another product would be refused.
first_batch=(900001:10 900002:20 900003:30 900004:40 900005:50)
ready_seconds=90 # more than the service's own --startup-timeout, so that its message is the one seen

say() { printf 'run: %s\n' "$*"; }
die() { printf 'run: %s\n' "$*" >&2; exit 1; }

# --- starting and stopping ---------------------------------------------------------------------------

declare -A pid_of=()
serving=false

alive() { [[ -n ${pid_of[$1]-} ]] && kill -0 "${pid_of[$1]}" 2>/dev/null; }

# start NAME ARGUMENT…: in a session of its own, so that the terminal's Ctrl-C reaches the services only once
# and through this script (a second signal would cut their drain short). If this script is killed outright,
# the kernel sends them the SIGTERM that it no longer can.
start() {
    local name=$1
    shift
    setsid setpriv --pdeathsig TERM -- "$bin/$name" "$@" </dev/null >"$logs/$name.log" 2>&1 &
    pid_of[$name]=$!
    say "started $name (process $!, log $logs/$name.log)"
}

stop_one() {
    local name=$1 tenths
    alive "$name" || return 0
    kill -TERM "${pid_of[$name]}" 2>/dev/null
    # The service drains for 30 s at most; what is still there after that is stuck.
    for ((tenths = 0; tenths < 400; tenths++)); do
        alive "$name" || return 0
        sleep 0.1
    done
    say "$name does not stop: killing it"
    kill -KILL "${pid_of[$name]}" 2>/dev/null
}

# The private PostgreSQL is run by a process of its own, which stops it when its last user is gone.
postgres_runs() {
    local exe
    for exe in /proc/[0-9]*/exe; do
        if [[ $exe -ef $bin/order_service ]] && grep -qz '^keep-postgres$' "${exe%/exe}/cmdline" 2>/dev/null; then
            return 0
        fi
    done
    return 1
}

wait_for_postgres() {
    local tenths
    for ((tenths = 0; tenths < 100; tenths++)); do
        if ! postgres_runs; then
            say "everything is stopped"
            return
        fi
        sleep 0.1
    done
    say "stopped, but PostgreSQL still runs: another service uses it, or it takes its time"
}

# The order service first: orders in flight still want the data manager's answers.
stop_all() {
    set +e # whatever fails here, the rest must still be stopped
    # A second Ctrl-C passes on to the services, which then exit at once.
    trap 'for name in "${!pid_of[@]}"; do alive "$name" && kill -TERM "${pid_of[$name]}"; done' INT TERM HUP
    if alive order_service || alive data_manager; then say "stopping"; fi
    stop_one order_service
    stop_one data_manager
    if [[ ${#pid_of[@]} -gt 0 ]]; then wait_for_postgres; fi
}

on_signal() {
    printf '\n'
    # Ctrl-C is how one leaves a running platform; before that it is an interrupted start.
    if $serving; then exit 0; else exit 130; fi
}
trap stop_all EXIT
trap on_signal INT TERM HUP

# Says what an exited service said last, and leaves.
fail_with_log() {
    printf 'run: %s; the end of %s/%s.log:\n' "$2" "$logs" "$1" >&2
    tail -n 20 "$logs/$1.log" | sed 's/^/    /' >&2
    exit 1
}

# --- is it there yet? (by bash alone: the machine may have no curl) -----------------------------------

port_open() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null || (exec 3<>"/dev/tcp/::1/$1") 2>/dev/null
}

http_ok() { # http_ok PORT PATH
    (
        exec 3<>"/dev/tcp/127.0.0.1/$1" &&
            printf 'GET %s HTTP/1.1\r\nHost: localhost:%s\r\nConnection: close\r\n\r\n' "$2" "$1" >&3 &&
            IFS= read -r -t 2 line <&3 && [[ $line == *' 200 '* ]]
    ) 2>/dev/null
}

require_free() { # require_free PORT SETTING
    if port_open "$1"; then
        die "port $1 is taken: stop what listens there, or choose another with $2=PORT"
    fi
}

wait_until() { # wait_until NAME CHECK…
    local name=$1 deadline=$((SECONDS + ready_seconds))
    shift
    until "$@"; do
        alive "$name" || fail_with_log "$name" "$name exited while starting"
        ((SECONDS < deadline)) || fail_with_log "$name" "$name is not ready after $ready_seconds s"
        sleep 0.1
    done
}

# --- what happens ------------------------------------------------------------------------------------

# Before the build: who has to change a port should not wait minutes to be told.
require_free "$DATA_MANAGER_APP_PORT" DATA_MANAGER_APP_PORT
require_free "$ORDER_SERVICE_APP_PORT" ORDER_SERVICE_APP_PORT
require_free "$ORDER_SERVICE_HTTP_PORT" ORDER_SERVICE_HTTP_PORT

scripts/init-repo.sh
say "building (the first time takes minutes, later seconds)"
cargo build --release --workspace --bin order_service --bin data_manager

mkdir -p "$logs"
start data_manager -app_port "$DATA_MANAGER_APP_PORT" -order_address "localhost:$ORDER_SERVICE_APP_PORT"
start order_service -app_port "$ORDER_SERVICE_APP_PORT" --http-port "$ORDER_SERVICE_HTTP_PORT" \
    -data_manager_address "localhost:$DATA_MANAGER_APP_PORT"
# The data manager opens its port when it can serve; the order service says so on /readyz.
wait_until data_manager port_open "$DATA_MANAGER_APP_PORT"
wait_until order_service http_ok "$ORDER_SERVICE_HTTP_PORT" /readyz
say "both are ready"

orders=()
for order in "${first_batch[@]}"; do orders+=(--order "$order"); done
say "$bin/order_service process ${orders[*]}"
if ! "$bin/order_service" process "${orders[@]}"; then
    say "the first batch was not processed completely (see above); the services go on"
fi

# In another terminal the exports above are not set: show those that differ from the defaults.
settings=
if [[ $ORDER_SERVICE_APP_PORT != 8094 ]]; then settings+="ORDER_SERVICE_APP_PORT=$ORDER_SERVICE_APP_PORT "; fi
if [[ $ORDER_SERVICE_HTTP_PORT != 8095 ]]; then settings+="ORDER_SERVICE_HTTP_PORT=$ORDER_SERVICE_HTTP_PORT "; fi
command=$settings$bin/order_service
http=http://localhost:$ORDER_SERVICE_HTTP_PORT
cat <<END

gRPC          localhost:$ORDER_SERVICE_APP_PORT (orders, with reflection and health), localhost:$DATA_MANAGER_APP_PORT (data manager)
HTTP          $http/docs (the REST API), /healthz, /readyz, /metrics
one order     $command process --order 900006:60
all orders    $command orders list
how it is     $command status   (Ctrl-C here stops everything)
END

serving=true
if alive data_manager && alive order_service; then wait -n || true; fi
for name in data_manager order_service; do
    alive "$name" || fail_with_log "$name" "$name exited by itself"
done
