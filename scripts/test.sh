#!/usr/bin/env bash
# Runs all tests. What they need besides Rust is installed first, where it is absent:
#   Debian packages   mosquitto, mosquitto-clients (clients we did not write), openssl (keys and certificates we did not
#                     make), haproxy, pebble (an authority for ACME), chromium, sslscan, valgrind
#                     (instruction counts)
#   Python            a venv in .cache/venv with scripts/requirements.txt
#   Node              the modules of tests/e2e/package-lock.json
# Tests look for them in these places. On another system install them by hand; what is missing is named below, and its
# tests fail: they are not skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

say() { printf '==> %s\n' "$*"; }

debian_packages() {
    local want=()
    command -v mosquitto_pub >/dev/null || want+=(mosquitto-clients)
    command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] || want+=(mosquitto)
    command -v openssl >/dev/null || want+=(openssl)
    command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ] || want+=(haproxy)
    command -v pebble >/dev/null || want+=(pebble)
    command -v chromium >/dev/null || want+=(chromium fonts-dejavu-core)
    command -v openssl >/dev/null || want+=(openssl)
    command -v sslscan >/dev/null || want+=(sslscan)
    command -v valgrind >/dev/null || want+=(valgrind)
    python3 -c 'import ensurepip' 2>/dev/null || want+=(python3-venv)
    [ ${#want[@]} -eq 0 ] && return
    if ! command -v apt-get >/dev/null; then
        say "please install by hand: ${want[*]}"
        return
    fi
    local root=()
    [ "$(id -u)" -eq 0 ] || root=(sudo -n)
    say "installing ${want[*]}"
    # A broker that Debian starts by itself would sit on port 1883; ours must be able to.
    local policy=/usr/sbin/policy-rc.d
    local made=no
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
        "${root[@]}" chmod +x "$policy"
        made=yes
    fi
    "${root[@]}" apt-get update -qq || true
    DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "${want[@]}" >/dev/null ||
        say "could not install ${want[*]}; the tests that need them will fail"
    [ "$made" = no ] || "${root[@]}" rm -f "$policy"
}

python_modules() {
    local stamp=.cache/venv/requirements.txt
    cmp -s scripts/requirements.txt "$stamp" && return
    say "Python modules into .cache/venv"
    python3 -m venv .cache/venv
    .cache/venv/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements.txt
    cp scripts/requirements.txt "$stamp"
}

node_modules() {
    [ -f tests/e2e/package-lock.json ] || return 0
    local stamp=tests/e2e/node_modules/.installed-lock.json
    cmp -s tests/e2e/package-lock.json "$stamp" && return
    say "Node modules into tests/e2e/node_modules"
    (cd tests/e2e && npm ci --no-audit --no-fund --loglevel=error)
    cp tests/e2e/package-lock.json "$stamp"
}

debian_packages
python_modules
node_modules
# Many virtual and real clients at once: the usual soft limit of 1,024 files is too low.
ulimit -n "$(ulimit -Hn)" 2>/dev/null || true

# A test whose client is missing fails here, where it would only say so in a bare `cargo test`.
export BREAKWATER_E2E=all

if cargo nextest --version >/dev/null 2>&1; then
    say "doc tests (nextest runs none)"
    cargo test --workspace --locked --doc --quiet
    say "tests"
    cargo nextest run --workspace --locked --no-fail-fast
    for transport in ws tls wss; do
        say "conformance and simulation over $transport"
        BREAKWATER_TRANSPORT=$transport cargo nextest run --workspace --locked --no-fail-fast \
            -E 'package(breakwater-testkit) and (binary(conformance) or binary(simulation))'
    done
else
    say "tests"
    cargo test --workspace --locked --no-fail-fast
fi
