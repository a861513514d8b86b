#!/usr/bin/env bash
# Judges the dependencies by RustSec's advisories (`cargo deny check advisories`) wherever their database can be had.
# Where it cannot, as on a machine without that network, it says so and the rest of `make lint` goes on: a copy of
# yesterday, if there is one, is better than nothing and is judged by.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

say() { printf 'check-advisories: %s\n' "$*"; }

check=(cargo deny check --hide-inclusion-graph --disable-fetch advisories)
if told=$(timeout --kill-after=5 "${ADVISORIES_FETCH_SECONDS:-120}" cargo deny fetch db 2>&1); then
    exec "${check[@]}"
fi
printf '%s\n' "$told" | tail -n 3 | sed 's/^/check-advisories:   /'

# A fetch that broke off leaves a clone without a commit, which would be in the way of the next one. --git-dir, since from
# an empty .git git would go up to the repository that CARGO_HOME may lie in.
has_copy=false
for clone in "${CARGO_HOME:-$HOME/.cargo}"/advisory-db*/*/; do
    [[ -e ${clone}.git ]] || continue
    if git --git-dir="${clone}.git" rev-parse --quiet --verify 'HEAD^{commit}' >/dev/null 2>&1; then
        has_copy=true
    else
        rm -rf -- "$clone"
    fi
done
if ! $has_copy; then
    say "NOT CHECKED: RustSec's database cannot be fetched and there is no copy; advisories were not looked at"
    exit
fi

say "RustSec's database cannot be fetched: judging by the copy that is here"
code=0
told=$("${check[@]}" 2>&1) || code=$?
printf '%s\n' "$told"
# What is found has its kind in brackets (`error[vulnerability]`); without any, it may be the copy that is of no use (cargo-deny
# refuses one of more than 90 days).
if [[ $code -ne 0 ]] && ! grep -q 'error\[' <<<"$told" &&
    grep -qiE 'stale|failed to (open|load|get)|unable to|fetch' <<<"$told"; then
    say "NOT CHECKED: RustSec's database cannot be fetched and the copy that is here is of no use; advisories were not judged"
    exit
fi
exit "$code"
