#!/usr/bin/env bash
# Fuzzes the reader of frames with AddressSanitizer, from the kept corpus on; what is found lies in artifacts/ and fails
# `cargo test -p firesteel-shuffle --test corpus` once it is moved into the corpus.
#
#   shuffle/fuzz/run.sh SECONDS [ARGUMENTS]      of libFuzzer
#   shuffle/fuzz/run.sh minimize                 keeps of old and new inputs the fewest that reach as much
#
# It needs a C++ compiler, for libFuzzer, and no other toolchain than the project's.
set -euo pipefail
cd "$(dirname "$0")"

input_bytes_max=2048
host=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-$PWD/../../target}/fuzz
# What cargo-fuzz passes.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"

mkdir -p corpus-new artifacts
RUSTC_BOOTSTRAP=1 RUSTFLAGS="$coverage -Zsanitizer=address --cfg fuzzing -Ccodegen-units=1" CARGO_TARGET_DIR=$target \
    cargo build --release --locked --target "$host"
fuzzer=$target/$host/release/frame

if [[ ${1:-} == minimize ]]; then
    kept=$(mktemp -d)
    "$fuzzer" -set_cover_merge=1 -max_len=$input_bytes_max "$kept" corpus-new corpus/frame
    rm -r corpus/frame corpus-new
    mv "$kept" corpus/frame
    du -sb corpus/frame
else
    seconds=${1:?seconds are missing}
    shift
    "$fuzzer" -max_total_time="$seconds" -max_len=$input_bytes_max -timeout=20 -rss_limit_mb=2048 \
        -artifact_prefix=artifacts/ "$@" corpus-new corpus/frame
fi
