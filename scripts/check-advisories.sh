#!/usr/bin/env bash
# Judges the dependencies by RustSec's advisories (`cargo deny check advisories`) wherever their database can be had.
# Where it cannot, as on a machine without that network, it says so and the rest of `make lint` goes on: a copy of
# yesterday, if there is one, is better than nothing and is judged by.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

say() { printf 'check-advisories: %s\n' "$*"; }

options=(--hide-inclusion-graph)
if told=$(timeout --kill-after=5 "${ADVISORIES_FETCH_SECONDS:-120}" cargo deny fetch db 2>&1); then
    exec cargo deny check "${options[@]}" --disable-fetch advisories
fi
printf '%s\n' "$told" | tail -n 3 | sed 's/^/check-advisories:   /'
if compgen -G "${CARGO_HOME:-$HOME/.cargo}/advisory-db*/*/.git" >/dev/null; then
    say "RustSec's database cannot be fetched: judging by the copy that is here"
    exec cargo deny check "${options[@]}" --disable-fetch advisories
fi
say "NOT CHECKED: RustSec's database cannot be fetched and there is no copy; advisories were not looked at"
