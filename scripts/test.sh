#!/usr/bin/env bash
# Passes all tests, setting up what they need first. The first run builds everything and makes test data in the target folder.
#
#   scripts/test.sh [ARGUMENTS]         of cargo nextest, such as the name of a test
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh --with-tests
if (($# == 0)); then
    cargo test --locked --workspace --doc --quiet
fi
cargo nextest run --locked --workspace "$@"
