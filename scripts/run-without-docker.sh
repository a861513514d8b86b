#!/usr/bin/env bash
# Builds and runs the whole platform on this machine: installs what is missing, builds, starts the data
# manager and the order service with every role, processes a first small batch of orders, then serves until
# Ctrl-C, which stops what this script started. `make run` is this script.
#
# A program that ends by itself meanwhile is reported, with the command that starts it again, and waited for.
# Only when neither is left does the script end (exit code 1).
#
# Environment:
#   DATA_MANAGER_APP_PORT (8093), ORDER_SERVICE_APP_PORT (8094), ORDER_SERVICE_HTTP_PORT (8095)
#   ORDER_SERVICE_DATA_DIR  where the service keeps its private PostgreSQL and what it exports
#   ORDER_SERVICE_…, DATA_MANAGER_…  every other setting of the two programs (`config print`)
#   CARGO_TARGET_DIR        where cargo builds (target)
#   RUN_BIN_DIR             a folder with both programs ready-made: nothing is installed or built
#   RUN_LOG_DIR (target/run)  the programs' logs, begun anew at each start, and NAME.pid, their process ids
set -euo pipefail
# Before the folder changes: a relative path is the caller's.
if [[ -n ${RUN_BIN_DIR-} ]]; then RUN_BIN_DIR=$(realpath -- "$RUN_BIN_DIR"); fi
if [[ -n ${RUN_LOG_DIR-} ]]; then RUN_LOG_DIR=$(realpath -m -- "$RUN_LOG_DIR"); fi
if [[ -n ${ORDER_SERVICE_DATA_DIR-} ]]; then ORDER_SERVICE_DATA_DIR=$(realpath -m -- "$ORDER_SERVICE_DATA_DIR"); fi
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# Exported, so that the command line used below finds the service that this script started.
export DATA_MANAGER_APP_PORT=${DATA_MANAGER_APP_PORT:-8093}
export ORDER_SERVICE_APP_PORT=${ORDER_SERVICE_APP_PORT:-8094}
export ORDER_SERVICE_HTTP_PORT=${ORDER_SERVICE_HTTP_PORT:-8095}
bin=${RUN_BIN_DIR:-${CARGO_TARGET_DIR:-target}/release}
logs=${RUN_LOG_DIR:-target/run}

# The same at each start: a repeated order is answered with its stored result and changes nothing. Ids far
# from what one types by hand, because the same id with another product would be refused.
first_batch=(900001:10 900002:20 900003:30 900004:40 900005:50)
ready_seconds=90 # more than the service's own --startup-timeout, so that its message is the one seen

say() { printf 'run: %s\n' "$*"; }
die() { printf 'run: %s\n' "$*" >&2; exit 1; }

# --- commands for another terminal -------------------------------------------------------------------

# environment_of PREFIX: the settings of this environment, as words before a command. Without the ports that are at their
# defaults, and without URLs, which may hold a password (`remind_of_urls` names those).
environment_of() {
    local name
    for name in $(compgen -e -- "$1"); do
        case $name=${!name} in
            DATA_MANAGER_APP_PORT=8093 | ORDER_SERVICE_APP_PORT=8094 | ORDER_SERVICE_HTTP_PORT=8095) ;;
            *_URL=*) ;;
            *) printf '%s=%q ' "$name" "${!name}" ;;
        esac
    done
}

remind_of_urls() {
    local name
    for name in $(compgen -e -- ORDER_SERVICE_) $(compgen -e -- DATA_MANAGER_); do
        if [[ $name == *_URL ]]; then
            printf 'to be set     %s, in the other terminal as well (not shown here: it may hold a password)\n' "$name"
        fi
    done
}

# restart_command NAME: what `start` did, in the background of another terminal and on the same log.
restart_command() {
    local settings
    # The ports are among the arguments.
    settings=$(unset DATA_MANAGER_APP_PORT ORDER_SERVICE_APP_PORT ORDER_SERVICE_HTTP_PORT; environment_of "${1^^}_")
    printf '%s %s >>%s 2>&1 &' "$settings$bin/$1" "${arguments_of[$1]}" "$logs/$1.log"
}

# --- starting and stopping ---------------------------------------------------------------------------

declare -A pid_of=() arguments_of=()
data_dir='' data_place=''
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
    arguments_of[$name]=$*
    printf '%s\n' "$!" >"$logs/$name.pid"
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

# The private PostgreSQL is run by a process of its own (`order_service keep-postgres DATA_DIR`), which stops it when
# its last user is gone.
postgres_runs() {
    local file words
    for file in /proc/[0-9]*/cmdline; do
        words=()
        { mapfile -d '' -t words <"$file"; } 2>/dev/null
        if [[ ${words[1]-} == keep-postgres && ${words[2]-} == "$data_dir" ]]; then return 0; fi
    done
    return 1
}

wait_for_postgres() {
    local tenths
    for ((tenths = 0; tenths < 100; tenths++)); do
        if ! postgres_runs; then
            say "everything is stopped; the data stays in $data_place"
            return
        fi
        sleep 0.1
    done
    say "stopped, but the PostgreSQL in $data_dir still runs: another service uses it, or it takes its time"
}

# The order service first: orders in flight still want the data manager's answers.
stop_all() {
    set +e # whatever fails here, the rest must still be stopped
    # A second Ctrl-C passes on to the services, which then exit at once.
    trap 'for name in "${!pid_of[@]}"; do alive "$name" && kill -TERM "${pid_of[$name]}"; done' INT TERM HUP
    if alive order_service || alive data_manager; then say "stopping"; fi
    stop_one order_service
    stop_one data_manager
    for name in "${!pid_of[@]}"; do
        rm -f "$logs/$name.pid"
        if is_listening "$name"; then say "$name goes on: it was not started by this script"; fi
    done
    # A service that goes on keeps its PostgreSQL.
    if [[ ${#pid_of[@]} -gt 0 ]] && ! is_listening order_service; then wait_for_postgres; fi
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

# The data manager opens its port when it can serve; the order service says so on /readyz.
is_ready() {
    case $1 in
        data_manager) port_open "$DATA_MANAGER_APP_PORT" ;;
        order_service) http_ok "$ORDER_SERVICE_HTTP_PORT" /readyz ;;
    esac
}

is_listening() {
    case $1 in
        data_manager) port_open "$DATA_MANAGER_APP_PORT" ;;
        order_service) port_open "$ORDER_SERVICE_HTTP_PORT" ;;
    esac
}

wait_until_ready() {
    local name=$1 deadline=$((SECONDS + ready_seconds))
    until is_ready "$name"; do
        alive "$name" || fail_with_log "$name" "$name exited while starting"
        ((SECONDS < deadline)) || fail_with_log "$name" "$name is not ready after $ready_seconds s"
        sleep 0.1
    done
}

# --- while it serves ---------------------------------------------------------------------------------

# Of each program: `ours` (the process started here), `gone`, or `started elsewhere` (something serves on its port again).
declare -A state=([data_manager]=ours [order_service]=ours)

# report_end NAME: how it ended, what that means and what to type.
report_end() {
    local name=$1 status=0 end meanwhile
    if [[ ${state[$name]} == ours ]]; then
        wait "${pid_of[$name]}" || status=$?
        if ((status > 128)); then end="was ended by signal $((status - 128))"; else end="exited with code $status"; fi
        end="$name (process ${pid_of[$name]}) $end"
    else
        end="$name is gone again"
    fi
    case $name in
        data_manager) meanwhile='orders wait until it is back' ;;
        order_service) meanwhile='what it had accepted is kept, and goes on when it is back' ;;
    esac
    state[$name]=gone
    say "$end; $meanwhile. Start it again with:"
    printf '    %s\n' "$(restart_command "$name")"
}

# Returns when neither program is left.
look_after_both() {
    local name
    until [[ ${state[data_manager]} == gone && ${state[order_service]} == gone ]]; do
        # While both are ours the kernel tells when one ends; what was started elsewhere has to be looked for.
        case ${state[data_manager]},${state[order_service]} in
            ours,ours) wait -n || true ;;
            *) sleep 0.5 ;;
        esac
        for name in data_manager order_service; do
            case ${state[$name]} in
                ours) alive "$name" || report_end "$name" ;;
                gone)
                    if is_ready "$name"; then
                        state[$name]='started elsewhere'
                        say "$name is back"
                    fi
                    ;;
                *) is_listening "$name" || report_end "$name" ;;
            esac
        done
    done
}

# --- what happens ------------------------------------------------------------------------------------

# Before the build: who has to change a port should not wait minutes to be told.
require_free "$DATA_MANAGER_APP_PORT" DATA_MANAGER_APP_PORT
require_free "$ORDER_SERVICE_APP_PORT" ORDER_SERVICE_APP_PORT
require_free "$ORDER_SERVICE_HTTP_PORT" ORDER_SERVICE_HTTP_PORT

if [[ -z ${RUN_BIN_DIR-} ]]; then
    scripts/init-repo.sh
    say "building (the first time takes minutes, later seconds)"
    # Without the engines for SQS and NATS: their clients are a third of what there is to compile.
    cargo build --release --no-default-features -p order_service -p data_manager
fi

# As the program itself works it out, from whichever source: it says so on standard error if a setting is wrong.
config=$("$bin/order_service" config print --output json)
data_dir=$(realpath -m -- "$(jq -r '."data-dir".value' <<<"$config")")
if jq -e '."database-url"' <<<"$config" >/dev/null; then
    data_place="the database of --database-url; $data_dir (exported events)"
else
    data_place="$data_dir (PostgreSQL and exported events)"
fi

mkdir -p "$logs"
start data_manager -app_port "$DATA_MANAGER_APP_PORT" -order_address "localhost:$ORDER_SERVICE_APP_PORT"
start order_service -app_port "$ORDER_SERVICE_APP_PORT" --http-port "$ORDER_SERVICE_HTTP_PORT" \
    -data_manager_address "localhost:$DATA_MANAGER_APP_PORT"
wait_until_ready data_manager
wait_until_ready order_service
say "both are ready"

orders=()
for order in "${first_batch[@]}"; do orders+=(--order "$order"); done
say "$bin/order_service process ${orders[*]}"
if ! "$bin/order_service" process "${orders[@]}"; then
    say "the first batch was not processed completely (see above); the services go on"
fi

command="$(environment_of ORDER_SERVICE_)$bin/order_service"
http=http://localhost:$ORDER_SERVICE_HTTP_PORT
# Made before: a signal that comes while bash reads a command substitution is an error to it, not a signal.
reminder=$(remind_of_urls)
cat <<END

gRPC          localhost:$ORDER_SERVICE_APP_PORT (orders, with reflection and health), localhost:$DATA_MANAGER_APP_PORT (data manager)
HTTP          $http/docs (the REST API), /healthz, /readyz, /metrics
data          $data_place; logs in $logs
one order     $command process --order 900006:60
all orders    $command orders list
how it is     $command status   (Ctrl-C here stops everything)
END
if [[ -n $reminder ]]; then printf '%s\n' "$reminder"; fi

serving=true
# Of bash's own notes on ended jobs, none: `report_end` says more.
look_after_both 2>/dev/null
fail_with_log order_service "neither program is left"
