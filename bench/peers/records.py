"""The record of a run, as `bench/src/record` in this repository defines it."""

from __future__ import annotations

import json
import math
import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 1
# What one run may tell; anything else would make the file one that no reader accepts.
MEASURES = (
    "seconds",
    "rows",
    "cpu_seconds",
    "peak_memory_bytes",
    "bytes_read",
    "bytes_shuffled",
    "bytes_spilled",
    "bytes_copied",
    "input_rows",
    "input_bytes",
    "stages",
    "tasks",
)

Json = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is the same in the records of all engines of a run."""

    benchmark: str
    data: Json
    machine: Json
    command: list[str]
    started: str
    iterations: int
    warmup: int
    timeout_seconds: float


def new_record(plan: Plan, ready: Json) -> Json:
    """A record without queries, of the engine whose worker said `ready`."""
    engine = ready["engine"]
    return {
        "format": FORMAT,
        "benchmark": plan.benchmark,
        "engine": {"name": engine["name"], "version": engine["version"], "commit": engine.get("commit")},
        "mode": ready["mode"],
        "cores": ready["cores"],
        "data": plan.data,
        "settings": texts(ready.get("settings", {})),
        "command": plan.command,
        "started": plan.started,
        "machine": plan.machine,
        "versions": texts(ready.get("versions", {})),
        "iterations": plan.iterations,
        "warmup": plan.warmup,
        "cold": False,
        "streams": 1,
        "timeout_seconds": plan.timeout_seconds,
        "verified": None,
        "queries": [],
        "timeline": [],
        "throughput": None,
    }


def texts(values: Json) -> dict[str, str]:
    """Settings and versions are texts in a record."""
    return {key: str(value) for key, value in values.items()}


def new_query(name: str) -> Json:
    """A query without runs."""
    return {"name": name, "runs": [], "verdict": {"is": "unverified"}}


def add_run(query: Json, iteration: int, outcome: Json) -> None:
    """Adds a run to a query."""
    if outcome["is"] == "done":
        told = {key: outcome[key] for key in MEASURES if outcome.get(key) is not None}
        outcome = {"is": "done", **told}
    else:
        outcome = {"is": "failed", "kind": outcome["kind"], "message": outcome["message"]}
    query["runs"].append({"stream": 0, "iteration": iteration, "outcome": outcome})


def save(record: Json, path: Path) -> None:
    """Writes a record in place of what is there; the file is whole at any moment."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(record, file, indent=2, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    # Makes the rename itself survive a power cut.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def passed_median(query: Json) -> float | None:
    """The median of a query that did not fail: the only time that may be counted."""
    outcomes = [run["outcome"] for run in query["runs"]]
    all_done = bool(outcomes) and all(outcome["is"] == "done" for outcome in outcomes)
    if not all_done or query["verdict"]["is"] == "wrong":
        return None
    return statistics.median(outcome["seconds"] for outcome in outcomes)


def table(records: list[Json]) -> str:
    """A line for each engine. One that failed a query has no total: it did not do the work that the others did."""
    alike = passed_by_all(records)
    head = f"sum of {len(alike)} s"
    lines = [f"{'engine':<24}{'mode':<24}{'total s':>10}{'geo mean s':>12}{'failed':>8}{head:>16}"]
    for record in records:
        medians = [passed_median(query) for query in record["queries"]]
        passed = [median for median in medians if median is not None]
        total, mean = "-", "-"
        if passed and len(passed) == len(medians):
            total, mean = f"{sum(passed):.3f}", f"{geometric_mean(passed):.4f}"
        common = [passed_median(query) or 0.0 for query in record["queries"] if query["name"] in alike]
        name = f"{record['engine']['name']} {record['engine']['version']}"
        failed = len(medians) - len(passed)
        lines.append(f"{name:<24}{record['mode']:<24}{total:>10}{mean:>12}{failed:>8}{sum_of(common):>16}")
    if alike and any(len(alike) < len(record["queries"]) for record in records):
        lines.append(f"The last column is of the {len(alike)} queries that every engine passed.")
    return "\n".join(lines)


def sum_of(seconds: list[float]) -> str:
    return f"{sum(seconds):.3f}" if seconds else "-"


def passed_by_all(records: list[Json]) -> set[str]:
    """The queries that no engine failed: sums of those compare."""
    passed = [{query["name"] for query in record["queries"] if passed_median(query) is not None} for record in records]
    return set.intersection(*passed) if passed else set()


def geometric_mean(seconds: list[float]) -> float:
    """Of times that may be as short as the clock's step."""
    return math.exp(statistics.fmean(math.log(max(value, 1e-9)) for value in seconds))
