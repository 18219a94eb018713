"""Firesteel as a cluster: a manager and a worker for each executor, which `firesteel local-cluster` starts."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from children import NotReady, Relay
from common import Place, serve

# The benchmark of which the program knows no tables: they are all told to it.
SHUFFLE = "shuffle"


def connect(place: Place) -> Relay:
    firesteel = str(place.programs)
    cluster = [firesteel, "local-cluster", "--quiet", "--port", "0", "--workers", str(place.executors)]
    cluster += ["--cores-per-executor", str(place.cores_each())]
    if (memory := place.memory_each()) is not None:
        cluster += ["--memory", str(memory)]
    benchmark, data = place.benchmark, place.data
    if benchmark == SHUFFLE:
        benchmark, data = "tpch", smallest_data(firesteel)
    worker = [firesteel, "bench", "worker", "--quiet", benchmark, "--data", str(data)]
    # The cluster lives as long as the command that is run against it.
    relay = Relay([*cluster, "--", *worker])
    relay.told["settings"] |= {name: value for name, value in os.environ.items() if name.startswith("FIRESTEEL_")}
    if place.benchmark == SHUFFLE:
        tell_tables(relay, place)
    return relay


def smallest_data(firesteel: str) -> Path:
    """A folder of TPC-H data for the program, which starts with one only; nobody asks about it."""
    data = Path(tempfile.gettempdir()) / "tpch"
    subprocess.run([firesteel, "bench", "gen", "tpch", "--scale", "0.001", "--out", str(data)], check=True)
    return data


def tell_tables(relay: Relay, place: Place) -> None:
    """Makes the tables of the place known. Files are scanned whole, whatever the partitions: an exchange into a
    thousand would have its input cut into a thousand pieces too."""
    statements = ["SET datafusion.optimizer.repartition_file_scans = false"]
    for table, files in place.tables().items():
        location = files.removesuffix("*.parquet").replace("'", "''")
        statements.append(f"CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{location}'")
    for statement in statements:
        outcome = relay.answer({"query": "tables", "sql": statement, "answer": None})
        if outcome["is"] != "done":
            relay.kill()
            raise NotReady(outcome["message"])


if __name__ == "__main__":
    serve(connect)
