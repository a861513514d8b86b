#!/usr/bin/env bash
# Says what the bundle of another commit would change, with the program of this checkout:
#
#   scripts/check-bundle-of.sh COMMIT
#
# For CI (docs/reconcile.md, "A merge request's check"): this checkout is the target branch's, already built (make build), and
# of the commit nothing is run and nothing but the files of its `configs` is read. Compared is with where it left this branch.
#
# Environment: ORDER_SERVICE_DATABASE_URL, the database of a user who may only read; without it, the bundle is judged and
# nothing is planned.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

die() { printf 'check-bundle-of: %s\n' "$*" >&2; exit 1; }

# A full id: a name could be moved between the look and the check, and a word that begins with - would be an option.
[[ $# -eq 1 && $1 =~ ^[0-9a-f]{40}$ ]] || die "which commit? Its 40 hexadecimal digits, please"
commit=$1

# Whoever writes a merge request also writes the pipeline that it gets; only a protected variable is not given to it.
if [[ -n ${CI_MERGE_REQUEST_IID:-} && -n ${ORDER_SERVICE_DATABASE_URL:-} && ${CI_COMMIT_REF_PROTECTED:-} != true ]]; then
    die "ORDER_SERVICE_DATABASE_URL is given to the pipelines of any merge request: make it a protected variable"
fi

git cat-file -e "$commit^{commit}" 2>/dev/null || git fetch --quiet --no-tags origin "$commit" ||
    die "there is no commit $commit here, nor at origin"
base=$(git merge-base HEAD "$commit") || die "$commit has nothing in common with this branch: its history is too short, or another's"

scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT

# By an index of its own: neither this checkout's files nor its index are touched. (git archive would do what the commit's
# .gitattributes say, and leave files out.)
extract() { # COMMIT NAME
    local links
    links=$(git ls-tree -r "$1" -- configs | awk '$1 != "100644" && $1 != "100755"')
    [[ -z $links ]] || die "only plain files may be in configs:"$'\n'"$links"
    GIT_INDEX_FILE=$scratch/$2.index git read-tree "$1:configs" || die "$1 has no configs"
    GIT_INDEX_FILE=$scratch/$2.index git checkout-index --all --prefix="$scratch/$2/"
}
extract "$base" before
extract "$commit" after

order_service/bin/app bundle validate --bundle "$scratch/after"
if [[ -z ${ORDER_SERVICE_DATABASE_URL:-} ]]; then
    printf 'check-bundle-of: the bundle is sound. No database was named, so nothing is planned (docs/reconcile.md)\n'
    exit
fi
order_service/bin/app reconcile --bundle "$scratch/after" --dry-run --early-exit-compare "$scratch/before" \
    --check-only-affected-shards --sample-skipped 5%
