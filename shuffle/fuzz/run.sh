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

case ${1:-} in
frame) export FUZZ_INPUT_BYTES_MAX=2048 ;;
packed) export FUZZ_INPUT_BYTES_MAX=1536 ;;
# What a thread that starts or ends just then holds would pass for lost.
serve | fetch) export FUZZ_INPUT_BYTES_MAX=8192 FUZZ_DETECT_LEAKS=0 ;;
*)
    echo "'${1:-}' is no target: there are frame, packed, serve and fetch" >&2
    exit 2
    ;;
esac
exec ../../scripts/fuzz.sh "$@"
