#!/usr/bin/env bash
# Passes the tests of what handles memory by hand (the block format, and segments), watched: by Miri where a toolchain has it, else
# by AddressSanitizer. Miri finds what is undefined and does no harm today; it knows no shared memory, so that it runs the
# format's tests alone, on little data. What is built lies in a folder of its own below the target folder.
#
#   scripts/sanitize.sh [miri|address] [ARGUMENTS]         of the tests, such as the name of one
#
# FIRESTEEL_MIRI_TOOLCHAIN names the toolchain with Miri; else it is nightly.
set -euo pipefail
cd "$(dirname "$0")/.."

miri_toolchain=${FIRESTEEL_MIRI_TOOLCHAIN:-nightly}
target=${CARGO_TARGET_DIR:-target}
host=$(rustc -vV | sed -n 's/^host: //p')

has_miri() {
    cargo "+$miri_toolchain" miri --version >/dev/null 2>&1
}

# Names of tests are read from files, and what proptest saves is written to some: no isolation. rkyv finds the list of a header by
# an offset from the field that names it: a pointer that Stacked Borrows confines to the field, and Tree Borrows does not.
miri() {
    MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-tree-borrows ${MIRIFLAGS:-}" CARGO_TARGET_DIR="$target/miri" \
        cargo "+$miri_toolchain" miri test --locked -p firesteel-shuffle --test format --test hostile --test corpus "$@"
}

# Sanitizers are not stable yet; the flag lets this toolchain take them.
address() {
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address ${RUSTFLAGS:-}" CARGO_TARGET_DIR="$target/address" \
        cargo test --locked --target "$host" -p firesteel-shuffle --lib \
        --test format --test hostile --test corpus --test lane "$@"
}

case ${1:-} in
miri | address)
    watched_by=$1
    shift
    ;;
*) watched_by=$(has_miri && echo miri || echo address) ;;
esac
echo "watched by: $watched_by" >&2
"$watched_by" -- "$@"
