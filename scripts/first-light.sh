#!/usr/bin/env bash
# From a fresh checkout to an answer: builds Firesteel, generates TPC-H at scale 1, starts a cluster of a manager and two workers on this
# machine, submits a query to it, shows the answer and the time, and stops the cluster.
#
#   scripts/first-light.sh [QUERY]      a TPC-H query, 5 unless told otherwise
set -euo pipefail
cd "$(dirname "$0")/.."

query=$(printf 'q%02d' "$((10#${1:-5}))")
[[ -f bench/queries/tpch/$query.sql ]] || {
    echo "first-light: there is no query '${1}': give a number from 1 to 22" >&2
    exit 2
}

scripts/setup.sh
cargo build --release --locked
firesteel=${CARGO_TARGET_DIR:-target}/release/firesteel

data=$PWD/data/tpch-1
"$firesteel" bench gen tpch --scale 1 --out "$data"

job=$PWD/data/$query.sql
{
    for table in customer lineitem nation orders part partsupp region supplier; do
        # A quote in the path is doubled, as SQL writes it.
        echo "CREATE EXTERNAL TABLE $table STORED AS PARQUET LOCATION '${data//\'/\'\'}/$table/';"
    done
    cat "bench/queries/tpch/$query.sql"
} >"$job"

echo
echo "Submitting $query of TPC-H to a cluster of a manager and two workers:"
"$firesteel" local-cluster --workers 2 --port 0 -- "$firesteel" submit --name "tpch-$query" "$job"
