#!/usr/bin/env bash
# Fuzzes what reads bytes from outside, beside blocks, with AddressSanitizer, from the kept corpus on. What is found lies in
# artifacts/TARGET and fails a test once it is moved into the corpus: `corpus` of `base` and `protocol`, `shell::fuzzed` of the manager.
#
#   fuzz/run.sh TARGET SECONDS [ARGUMENTS]      of libFuzzer
#   fuzz/run.sh TARGET minimize                 keeps of old and new inputs the fewest that reach as much code
#
# TARGET is one of
#   config     configuration: files and environments
#   addresses  addresses, lists of managers, sizes, spans of time, ids
#   messages   the wire's messages, each by itself
#   sessions   a manager, against what workers and drivers say
#   journal    what managers keep and tell each other
#
# It needs a C++ compiler, for libFuzzer, and no other toolchain than the project's.
set -euo pipefail
cd "$(dirname "$0")"

case ${1:-} in
config) export FUZZ_INPUT_BYTES_MAX=2048 ;;
addresses) export FUZZ_INPUT_BYTES_MAX=256 ;;
messages | sessions | journal) export FUZZ_INPUT_BYTES_MAX=4096 ;;
*)
    echo "'${1:-}' is no target: there are config, addresses, messages, sessions and journal" >&2
    exit 2
    ;;
esac
exec ../scripts/fuzz.sh "$@"
