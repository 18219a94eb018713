#!/usr/bin/env bash
# Fuzzes what reads bytes from outside, with AddressSanitizer, from the kept corpus on. What is found lies in artifacts/TARGET
# and fails `cargo test -p firesteel-shuffle --test corpus --test hostile_peers` once it is moved into the corpus.
#
#   shuffle/fuzz/run.sh TARGET SECONDS [ARGUMENTS]      of libFuzzer
#   shuffle/fuzz/run.sh TARGET minimize                 keeps of old and new inputs the fewest that reach as much code
#
# TARGET is one of
#   frame     the reader of frames
#   packed    the reader of packed frames
#   serve     a server, against what clients say over TCP and in shared memory
#   fetch     a client, against what servers answer
#
# It needs a C++ compiler, for libFuzzer, and no other toolchain than the project's.
set -euo pipefail
cd "$(dirname "$0")"

fuzzed=${1:-}
detects_leaks=1
case $fuzzed in
frame) input_bytes_max=2048 ;;
packed) input_bytes_max=1536 ;;
# What a thread that starts or ends just then holds would pass for lost.
serve | fetch) input_bytes_max=8192 detects_leaks=0 ;;
*)
    echo "'$fuzzed' is no target: there are frame, packed, serve and fetch" >&2
    exit 2
    ;;
esac
shift
asked=${1:?seconds are missing}
shift

host=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-$PWD/../../target}/fuzz
# What cargo-fuzz passes.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"

corpus=corpus/$fuzzed
found=corpus-new/$fuzzed
artifacts=artifacts/$fuzzed
mkdir -p "$found" "$artifacts"
RUSTC_BOOTSTRAP=1 RUSTFLAGS="$coverage -Zsanitizer=address --cfg fuzzing -Ccodegen-units=1" CARGO_TARGET_DIR=$target \
    cargo build --release --locked --target "$host" --bin "$fuzzed"
fuzzer=$target/$host/release/$fuzzed
# Rust's programs do so at their start, libFuzzer's does not: a peer that has gone is an error.
trap '' PIPE

if [[ $asked == minimize ]]; then
    kept=$(mktemp -d)
    "$fuzzer" -set_cover_merge=1 -use_counters=0 -max_len=$input_bytes_max -detect_leaks=$detects_leaks "$kept" "$found" "$corpus"
    rm -r "$corpus" "$found"
    mv "$kept" "$corpus"
    du -sb "$corpus"
else
    "$fuzzer" -max_total_time="$asked" -max_len=$input_bytes_max -timeout=20 -rss_limit_mb=2048 \
        -detect_leaks=$detects_leaks -artifact_prefix="$artifacts/" "$@" "$found" "$corpus"
fi
