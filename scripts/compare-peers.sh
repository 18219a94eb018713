#!/usr/bin/env bash
# Compares Firesteel with other engines on this machine, over data that is made if it is not there: every engine of bench/peers that can
# run here, each engine that has a cluster also as one. Keeps records and a page in bench/results.
#
#   scripts/compare-peers.sh [NAME]... [-- OPTION...]
#
# NAME is a benchmark and its scale: tpch-1, tpch-10 and tpcds-1 unless told otherwise. An OPTION of bench/peers/run.py takes the place of
# what is chosen here. FIRESTEEL names a binary that is built already. All three take hours, and the first time an hour more for engines
# that are built from source. Nothing else should run on the machine.
set -euo pipefail
cd "$(dirname "$0")/.."

# Of this machine's memory: engines that wait for their turn keep some of theirs.
memory_share=4

names=()
while (($#)) && [[ $1 != -- ]]; do
    [[ $1 =~ ^(tpch|tpcds)-[0-9]+(\.[0-9]+)?$ ]] || {
        echo "compare-peers: '$1' is no benchmark and scale, such as tpch-10" >&2
        exit 2
    }
    names+=("$1")
    shift
done
(($#)) && shift
((${#names[@]})) || names=(tpch-1 tpch-10 tpcds-1)

firesteel=${FIRESTEEL:-}
if [[ -z $firesteel ]]; then
    scripts/setup.sh
    cargo build --release --locked
    firesteel=${CARGO_TARGET_DIR:-target}/release/firesteel
fi

memory_kib=$(awk '/^MemTotal:/ { print $2 }' /proc/meminfo)
failed=0
for name in "${names[@]}"; do
    benchmark=${name%%-*} scale=${name#*-}
    # Enough runs to tell a difference from noise where a run is short, and a limit that only an engine in trouble reaches.
    case $name in
    tpch-10) iterations=3 timeout=600 ;;
    tpch-*) iterations=5 timeout=120 ;;
    *) iterations=3 timeout=60 ;;
    esac
    "$firesteel" bench gen "$benchmark" --scale "$scale" --out "data/$name"
    python3 bench/peers/run.py "$benchmark" --data "data/$name" --engines all --firesteel "$firesteel" \
        --out "data/peers/$name" --keep "bench/results/$name" \
        --iterations "$iterations" --timeout "$timeout" --memory "$((memory_kib / 1024 / memory_share))MiB" "$@" || failed=1
done
exit "$failed"
