"""What the workers of all engines share: the protocol, what is measured, and CSV.

A worker reads requests as JSON lines on standard input and writes an outcome for each on standard output:

    {"ready": true, "engine": {...}, "mode": "local", "cores": 2, "settings": {}, "versions": {}}
    {"query": "q01", "sql": "SELECT ...", "answer": "/path/file.csv" or null, "may_lose": true or not there}
    {"is": "done", "seconds": 0.1, "rows": 4, "cpu_seconds": 0.2, "peak_memory_bytes": 123}
    {"is": "failed", "kind": "error", "message": "..."}
"""

from __future__ import annotations

import argparse
import csv
import datetime
import decimal
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
MESSAGE_CHARACTERS_MAX = 2000


@dataclass(frozen=True)
class Answer:
    """An answer of which all rows are in memory. `rows` turns them into Python values, which is not timed."""

    columns: Sequence[str]
    count: int
    rows: Callable[[], Iterable[Sequence[object]]]


@dataclass(frozen=True)
class Session:
    """An engine that knows the tables."""

    name: str
    version: str
    ask: Callable[[str], Answer]
    settings: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    mode: str = "local"
    # What became of a process without which the engine is not whole.
    lost: Callable[[], str | None] = lambda: None
    # What the engine itself tells of the latest query, as a record names it.
    told: Callable[[], dict[str, int]] = lambda: {}

    def greeting(self, cores: int) -> dict[str, Any]:
        """The first message."""
        return {
            "ready": True,
            "engine": {"name": self.name, "version": self.version, "commit": None},
            "mode": self.mode,
            "cores": cores,
            "settings": self.settings,
            "versions": {"python": platform.python_version(), **self.versions},
        }

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The outcome of a request."""
        found, outcome = measure(self, request["sql"])
        if request.get("answer"):
            write_csv(found, Path(request["answer"]))
        return {**outcome, **self.told()}

    def close(self) -> None:
        """Nothing is left behind: what an engine keeps in its folder goes with that."""


@dataclass(frozen=True)
class Place:
    """What the engine is to run on."""

    benchmark: str
    data: Path
    cores: int
    # None: it is for the engine to choose.
    memory_bytes: int | None = None
    # None: no cluster.
    executors: int | None = None
    # A program, or the folder of several, of an engine that is no package of Python.
    programs: Path | None = None

    def mode(self) -> str:
        """How a record names it."""
        if self.executors is None:
            return "local"
        return f"cluster of {self.executors} executor{'' if self.executors == 1 else 's'}"

    def cores_each(self) -> int:
        """The cores of an executor."""
        return self.cores // (self.executors or 1)

    def memory_each(self, besides: int = 0) -> int | None:
        """The memory of an executor, when so many bytes are for other processes."""
        if self.memory_bytes is None:
            return None
        return max(self.memory_bytes - besides, 0) // (self.executors or 1)

    def tables(self) -> dict[str, str]:
        """The tables of the folder, each with the pattern of its files."""
        folders = sorted({file.parent for file in self.data.glob("*/*.parquet")})
        return {folder.name: f"{folder}/*.parquet" for folder in folders}


class Serves(Protocol):
    """What `serve` needs: a `Session`, or a `Relay` to a worker of the engine's own."""

    @property
    def lost(self) -> Callable[[], str | None]: ...
    def greeting(self, cores: int) -> dict[str, Any]: ...
    def answer(self, request: dict[str, Any]) -> dict[str, Any]: ...
    def close(self) -> None: ...


def serve(connect: Callable[[Place], Serves]) -> None:
    """Connects to the engine and answers until standard input ends."""
    place = read_place()
    replies = claim_stdout()
    # Holds for every thread and process that the engine starts, and is what most engines count cores by.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: place.cores])
    try:
        session = connect(place)
    except Exception as fault:
        say(replies, {"ready": False, "error": one_line(fault)})
        return
    say(replies, session.greeting(place.cores))
    for line in sys.stdin:
        say(replies, answer(session, json.loads(line)))
    session.close()


def read_place() -> Place:
    """Reads the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("benchmark")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cores", type=int, required=True)
    parser.add_argument("--memory", type=int, metavar="BYTES")
    parser.add_argument("--executors", type=int)
    parser.add_argument("--programs", type=Path)
    options = parser.parse_args()
    data = options.data.resolve()
    return Place(options.benchmark, data, options.cores, options.memory, options.executors, options.programs)


def claim_stdout() -> TextIO:
    """Standard output for replies alone: what an engine prints goes to standard error."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def say(replies: TextIO, message: dict[str, Any]) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()


def answer(session: Serves, request: dict[str, Any]) -> dict[str, Any]:
    """The outcome of a request. Ends this process when the engine is not whole, so that all of it is started anew, unless
    the request expects that."""
    # An engine's own program, to which requests are passed on, knows nothing of that.
    may_lose = request.pop("may_lose", False)
    # An engine's panic is no Exception in some bindings.
    try:
        outcome = session.answer(request)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as fault:
        outcome = {"is": "failed", "kind": "error", "message": one_line(fault)}
    if not may_lose and (lost := session.lost()):
        sys.exit(": ".join([lost, *([outcome["message"]] if "message" in outcome else [])]))
    return outcome


def measure(session: Session, sql: str) -> tuple[Answer, dict[str, Any]]:
    usage, start = Usage(), time.perf_counter()
    found = session.ask(sql)
    seconds = time.perf_counter() - start
    return found, {"is": "done", "seconds": seconds, "rows": found.count, **usage.until_now()}


class Usage:
    """What this process and its descendants use from now on."""

    def __init__(self) -> None:
        forget_peak()
        self._cpu_seconds = cpu_seconds()

    def until_now(self) -> dict[str, Any]:
        cpu = max(0.0, cpu_seconds() - self._cpu_seconds)
        return {"cpu_seconds": round(cpu, 6), "peak_memory_bytes": peak_memory()}


def one_line(fault: BaseException) -> str:
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return f"{type(fault).__name__}: {' '.join(lines)}"[:MESSAGE_CHARACTERS_MAX]


def descendants() -> list[int]:
    """The processes that this one and its children have started, such as a Java virtual machine."""
    found: list[int] = []
    left = [os.getpid()]
    while left:
        for task in Path(f"/proc/{left.pop()}/task").glob("*/children"):
            try:
                children = [int(pid) for pid in task.read_text().split()]
            except OSError:
                continue  # The thread has ended.
            found.extend(children)
            left.extend(children)
    return found


def cpu_seconds() -> float:
    """Processor time of this process, of the children that ended, and of all descendants that have not."""
    times = os.times()
    ended = times.children_user + times.children_system
    return time.process_time() + ended + sum(ticks(pid) for pid in descendants()) / TICKS_PER_SECOND


def ticks(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # The name of the program, in parentheses, may have blanks in it; user and system time of the process and of its
    # children that ended are the twelfth to fifteenth field after it.
    return sum(int(value) for value in text.rpartition(")")[2].split()[11:15])


def forget_peak() -> None:
    """Lets the kernel count the most memory anew; one that does not allow that goes on from before."""
    for pid in [os.getpid(), *descendants()]:
        try:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        except OSError:
            pass


def peak_memory() -> int | None:
    """The most resident memory since then. Peaks of several processes are added, though they may not coincide."""
    peaks = [peak for pid in [os.getpid(), *descendants()] if (peak := peak_of(pid)) is not None]
    return sum(peaks) or None


def peak_of(pid: int) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def write_csv(found: Answer, path: Path) -> None:
    """Writes an answer as CSV with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(found.columns)
        writer.writerows([cell(value) for value in row] for row in found.rows())


def cell(value: object) -> str:
    """NULL as nothing, dates as ISO 8601, decimals without an exponent, floats with as many digits as they need."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value)
        case decimal.Decimal():
            return format(value, "f")
        case datetime.datetime():
            return value.isoformat(sep=" ")
        case datetime.date() | datetime.time():
            return value.isoformat()
        case _:
            return str(value)


def arrow_answer(table: Any) -> Answer:
    """An answer that is a table of pyarrow."""

    def rows() -> Iterable[Sequence[object]]:
        # Column by column, as two columns may have the same name.
        return zip(*(column.to_pylist() for column in table.columns))

    return Answer(table.column_names, table.num_rows, rows)
