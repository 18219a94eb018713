#!/usr/bin/env bash
# What the fuzzers' `run.sh` have in common: in the folder of a fuzzer, builds a target with AddressSanitizer and runs it.
#
#   fuzz.sh TARGET SECONDS [ARGUMENTS] | fuzz.sh TARGET minimize
#
# FUZZ_INPUT_BYTES_MAX is the largest input, FUZZ_DETECT_LEAKS (1 or 0) whether memory that nobody holds is a fault.
set -euo pipefail

fuzzed=$1
shift
asked=${1:?seconds are missing}
shift
input_bytes_max=$FUZZ_INPUT_BYTES_MAX
detects_leaks=${FUZZ_DETECT_LEAKS:-1}

host=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/fuzz
# What cargo-fuzz passes.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"

corpus=corpus/$fuzzed
found=corpus-new/$fuzzed
artifacts=artifacts/$fuzzed
mkdir -p "$corpus" "$found" "$artifacts"
RUSTC_BOOTSTRAP=1 RUSTFLAGS="$coverage -Zsanitizer=address --cfg fuzzing -Ccodegen-units=1" CARGO_TARGET_DIR=$target \
    cargo build --release --locked --target "$host" --bin "$fuzzed"
fuzzer=$target/$host/release/$fuzzed
# Rust's programs do so at their start, libFuzzer's does not: a peer that has gone is an error.
trap '' PIPE

if [[ $asked == minimize ]]; then
    kept=$(mktemp -d)
    "$fuzzer" -set_cover_merge=1 -use_counters=0 -max_len="$input_bytes_max" -detect_leaks="$detects_leaks" "$kept" "$found" "$corpus"
    rm -r "$corpus" "$found"
    mv "$kept" "$corpus"
    du -sb "$corpus"
else
    "$fuzzer" -max_total_time="$asked" -max_len="$input_bytes_max" -timeout=20 -rss_limit_mb=2048 \
        -detect_leaks="$detects_leaks" -artifact_prefix="$artifacts/" "$@" "$found" "$corpus"
fi
