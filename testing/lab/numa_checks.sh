#!/usr/bin/env bash
# Checks on an emulated machine of several NUMA nodes, in one boot: that the program sees the nodes, starts one executor on each, that core
# threads run and memory lies where they belong, and that each executor has limits of its own.
#
#   testing/lab/numa_checks.sh BINARY [OPTIONS]
#       --nodes N               NUMA nodes (2 unless told otherwise)
#       --without-cgroups       passes over the checks of executors' cgroups, and says so
#       --deadline SECONDS      the machine is switched off then (900)
#
# Prints a line for each check, then how many passed. Exit codes: 0 all passed; 1 some did not; 2 wrong use; 124 and 125 as of `numa`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib/common.sh
. "$here/lib/common.sh"

binary='' nodes=2 deadline_seconds=900 checks=()
# Enough that every executor has rows, and little enough for an emulated processor.
scale=0.01

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; }

read_options() {
    while (($#)); do
        case $1 in
        -h | --help) usage && exit 0 ;;
        --without-cgroups) checks+=("$1") ;;
        --nodes | --deadline)
            (($# >= 2)) || misuse "$1 needs a value"
            if [[ $1 == --nodes ]]; then number "$1" "$2" 2 8 && nodes=$2; else number "$1" "$2" 1 86400 && deadline_seconds=$2; fi
            shift
            ;;
        -*) misuse "there is no option '$1': there are --nodes, --without-cgroups and --deadline" ;;
        *)
            [[ -z $binary ]] || misuse "'$1' comes after the binary '$binary': give one"
            binary=$1
            ;;
        esac
        shift
    done
    [[ -x $binary ]] || misuse "give the program to check, such as target/release/firesteel"
}

main() {
    read_options "$@"
    share=$(mktemp -d)
    trap 'rm -rf "$share"' EXIT
    # Without what debuggers read it comes through the emulated disk in half the time.
    strip -o "$share/firesteel" "$binary" 2>/dev/null || cp "$binary" "$share/firesteel"
    "$binary" --quiet bench gen tpch --scale "$scale" --out "$share/tpch" >/dev/null
    cp "$here/files/numa_checks.py" "$share/"
    "$here/numa" --nodes "$nodes" --cpus $((nodes * 4 > 8 ? nodes * 2 : 8)) --memory $((nodes * 1600)) --share "$share" --deadline "$deadline_seconds" -- \
        "python3 numa_checks.py ${checks[*]}"
}

main "$@"
