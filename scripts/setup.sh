#!/usr/bin/env bash
# Installs what a build needs on Debian beside Rust, and cargo-nextest, which runs the tests. What is there already is left alone, so a
# second run does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(build-essential pkg-config libhwloc-dev libudev-dev)
nextest_install_seconds_max=1500

fail() {
    echo "setup: $*" >&2
    exit 1
}

is_installed() {
    [[ "$(dpkg-query --show --showformat='${db:Status-Abbrev}' "$1" 2>/dev/null)" == ii* ]]
}

install_packages() {
    local missing=() package
    for package in "${packages[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    local as_root=()
    if [[ $EUID -ne 0 ]]; then
        command -v sudo >/dev/null || fail "to install ${missing[*]}, run this as root or install sudo"
        as_root=(sudo)
    fi
    echo "setup: installing ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# The tests of the scripts that run other engines, and of the Ansible collection.
if [[ "${1:-}" == "--with-tests" ]]; then
    packages+=(python3 python3-yaml)
fi
command -v dpkg-query >/dev/null || fail "this is no Debian: install hwloc 2.8 or later and udev with their headers, pkg-config and a C compiler"
install_packages

# rustup installs the toolchain that rust-toolchain.toml names when cargo first runs here.
command -v cargo >/dev/null || fail "cargo is missing: install Rust from https://rustup.rs"
cargo --version >/dev/null || fail "the Rust toolchain of rust-toolchain.toml cannot be installed"

if [[ "${1:-}" == "--with-tests" ]] && ! cargo nextest --version >/dev/null 2>&1; then
    echo "setup: building cargo-nextest"
    timeout "$nextest_install_seconds_max" cargo install --locked --debug cargo-nextest || fail "cargo-nextest could not be built"
fi
