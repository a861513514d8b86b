#!/usr/bin/env bash
# Builds and runs the whole platform in containers (deploy/compose.yaml), processes a first small batch of
# orders, then shows the services' logs until Ctrl-C, which stops everything. The orders are kept in a volume;
# `docker compose -f deploy/compose.yaml down --volumes` removes it.
#
# Environment: DATA_MANAGER_APP_PORT (8093), ORDER_SERVICE_APP_PORT (8094), ORDER_SERVICE_HTTP_PORT (8095):
# the ports on this machine.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

export DATA_MANAGER_APP_PORT=${DATA_MANAGER_APP_PORT:-8093}
export ORDER_SERVICE_APP_PORT=${ORDER_SERVICE_APP_PORT:-8094}
export ORDER_SERVICE_HTTP_PORT=${ORDER_SERVICE_HTTP_PORT:-8095}
compose=(docker compose -f deploy/compose.yaml)

# The same as run-without-docker.sh's, and the same at each start: a repeated order changes nothing.
first_batch=(900001:10 900002:20 900003:30 900004:40 900005:50)
ready_seconds=120

say() { printf 'run: %s\n' "$*"; }
die() { printf 'run: %s\n' "$*" >&2; exit 1; }

command -v docker >/dev/null || die "docker is not installed; without it: scripts/run-without-docker.sh"
docker compose version >/dev/null 2>&1 || die "docker has no 'compose' (version 2): install docker's compose plugin"
docker info >/dev/null 2>&1 || die "no Docker engine answers: is it running, and may this user use it?"

serving=false
logs=

# In a session of its own, so that a second Ctrl-C does not cut short the stopping itself.
stop_all() {
    set +e
    trap '' INT TERM HUP
    say "stopping"
    setsid --wait "${compose[@]}" down
    if [[ -n $logs ]]; then kill "$logs" 2>/dev/null; fi
    say "everything is stopped; the orders are kept in the volume order-platform_postgres-data"
}

on_signal() {
    printf '\n'
    if $serving; then exit 0; else exit 130; fi
}

ready() { # bash alone: the machine may have no curl
    (
        exec 3<>"/dev/tcp/127.0.0.1/$ORDER_SERVICE_HTTP_PORT" &&
            printf 'GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3 &&
            IFS= read -r -t 2 line <&3 && [[ $line == *' 200 '* ]]
    ) 2>/dev/null
}

say "building the image (the first time takes minutes)"
"${compose[@]}" build

trap stop_all EXIT
trap on_signal INT TERM HUP
say "starting postgres, the migration, the data manager and the order service"
"${compose[@]}" up --detach || {
    "${compose[@]}" logs --tail 20 >&2
    die "the containers did not start; the end of their logs is above"
}

deadline=$((SECONDS + ready_seconds))
until ready; do
    if ((SECONDS >= deadline)); then
        "${compose[@]}" logs --tail 20 >&2
        die "not ready after $ready_seconds s; the end of the logs is above"
    fi
    sleep 0.5
done
say "everything is ready"

orders=()
for order in "${first_batch[@]}"; do orders+=(--order "$order"); done
say "order_service process ${orders[*]}"
if ! "${compose[@]}" exec -T order_service order_service process "${orders[@]}"; then
    say "the first batch was not processed completely (see above); the services go on"
fi

http=http://localhost:$ORDER_SERVICE_HTTP_PORT
inside="${compose[*]} exec order_service order_service"
cat <<END

gRPC          localhost:$ORDER_SERVICE_APP_PORT (orders, with reflection and health), localhost:$DATA_MANAGER_APP_PORT (data manager)
HTTP          $http/healthz, $http/readyz, $http/metrics
one order     $inside process --order 900006:60
all orders    $inside orders list
how it is     $inside status   (Ctrl-C here stops everything)

END

serving=true
# In the background, because only while waiting does bash act on a SIGTERM at once.
"${compose[@]}" logs --follow --tail 0 &
logs=$!
wait "$logs" || true
die "the containers stopped by themselves"
