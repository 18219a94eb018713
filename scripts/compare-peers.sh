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

# Engines that wait for their turn keep some of their memory. At small scales all take turns; from scale 10 on those of a group
# do, with Firesteel and DuckDB in each, so that all stand beside these.
small_groups=(all)
large_groups=(
    firesteel,firesteel-cluster,duckdb,polars,datafusion
    firesteel,firesteel-cluster,duckdb,ballista,sail,sail-cluster
    firesteel,firesteel-cluster,duckdb,spark,spark-cluster
)
# Of this machine's memory each engine may use one part of so many.
small_memory_share=4
large_memory_share=6

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
    groups=("${small_groups[@]}") memory_share=$small_memory_share
    # Enough runs to tell a difference from noise where a run is short, and a limit that only an engine in trouble reaches.
    case $name in
    tpch-[1-9][0-9]*) iterations=3 timeout=600 groups=("${large_groups[@]}") memory_share=$large_memory_share ;;
    tpch-*) iterations=5 timeout=120 ;;
    *) iterations=3 timeout=60 ;;
    esac
    # A choice of engines is one group.
    [[ " $* " != *" --engines"* ]] || groups=(all)
    "$firesteel" bench gen "$benchmark" --scale "$scale" --out "data/$name"
    kept=bench/results/$name
    rm -rf "data/peers/$name"
    for number in "${!groups[@]}"; do
        out=data/peers/$name/$number
        python3 bench/peers/run.py "$benchmark" --data "data/$name" --engines "${groups[number]}" --firesteel "$firesteel" \
            --out "$out" --keep "$out/kept" --iterations "$iterations" --timeout "$timeout" \
            --memory "$((memory_kib / 1024 / memory_share))MiB" "$@" || failed=1
    done
    mkdir -p "$kept"
    rm -f "$kept"/*.json "$kept"/report.html
    # Of an engine that is in several groups the record of the first is kept.
    for record in "data/peers/$name"/*/kept/*.json; do
        [[ ! -e $record || -e $kept/${record##*/} ]] || cp "$record" "$kept"
    done
    "$firesteel" bench report "$kept"/*.json --html "$kept/report.html" || failed=1
done
exit "$failed"
