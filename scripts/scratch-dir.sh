#!/usr/bin/env bash
# Prints where tests put their throw-away data: TMPDIR if it is set; memory (/dev/shm) where there is plenty of it, because
# tests start and remove hundreds of database clusters, and disks are slow at that; /tmp otherwise.
set -euo pipefail

mib_free() { df --output=avail -BM "$1" 2>/dev/null | tail -n 1 | tr -dc '0-9'; }
mib_of_memory() { awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo; }

if [[ -n ${TMPDIR:-} ]]; then
    printf '%s\n' "$TMPDIR"
elif [[ -w /dev/shm && $(mib_free /dev/shm) -ge 6000 && $(mib_of_memory) -ge 10000 ]]; then
    printf '/dev/shm\n'
else
    printf '/tmp\n'
fi
