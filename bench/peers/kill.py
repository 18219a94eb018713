"""Kills an executor half-way through a query and says what that costs each engine; see README.md."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import records
import run
from engines import Engine, Place, Unusable, prepare
from firesteel import CannotDo, Firesteel
from process import Message, Worker, WorkerDied, WorkerLate, failed

# Words on the command line of the process that runs an engine's tasks. Each has one for every executor.
EXECUTORS = {
    "firesteel-cluster": ("firesteel", "executor"),
    "spark-cluster": ("java", "org.apache.spark.executor.CoarseGrainedExecutorBackend"),
    "ballista": ("ballista-executor",),
}
# Of the time that the query takes undisturbed.
WHEN = 0.5
# How often a query is asked that was over before anything was killed.
TRIES = 3

# Whether two answers are the same, by the files that they are in.
Same = Callable[[str, Path, Path], bool]


@dataclass(frozen=True)
class Round:
    """A query asked twice of a cluster that is new: undisturbed, and with an executor that is killed half-way."""

    undisturbed: float
    # None: it failed, and `why` says how.
    disturbed: float | None
    is_right: bool
    why: str = ""


def executors(engine: str, worker: Worker) -> list[int]:
    """The processes that run the engine's tasks."""
    words = EXECUTORS[engine]
    return [pid for pid in worker.processes() if runs(pid, words)]


def runs(pid: int, words: Sequence[str]) -> bool:
    """Whether the program of the process is called like the first word, and the others are among its arguments."""
    try:
        program, *arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (OSError, ValueError):  # It ended in this moment.
        return False
    return os.path.basename(program).startswith(words[0]) and all(word in arguments for word in words[1:])


class Killer(threading.Thread):
    """Kills one executor after so many seconds, unless it is told first that the query is over."""

    def __init__(self, find: Callable[[], list[int]], seconds: float) -> None:
        super().__init__(daemon=True)
        self._find, self._at, self._over = find, time.monotonic() + seconds, threading.Event()
        self.killed: int | None = None
        self.start()

    def run(self) -> None:
        found = self._find()
        if self._over.wait(max(0.0, self._at - time.monotonic())) or not found:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(found[-1], signal.SIGKILL)
            self.killed = found[-1]

    def end(self) -> int | None:
        """The process that was killed, if that was done in time."""
        self._over.set()
        self.join()
        return self.killed


class Kills:
    """What all rounds have in common."""

    def __init__(self, out: Path, timeout: float, same: Same) -> None:
        self._out, self._timeout, self._same = out, timeout, same

    def round(self, engine: Engine, query: run.Query) -> Round:
        """One round on a cluster of its own. Raises `WorkerDied` and `WorkerLate` before anything is killed."""
        worker = Worker(engine.command, self._out / f"kill-{engine.name}.log")
        try:
            right, answer = (self._answer(engine, query, kind) for kind in ("undisturbed", "disturbed"))
            # The first run of all finds cold caches and code that is not compiled yet.
            for path in (None, right):
                before = require(worker.ask(query.name, query.sql, path, self._timeout))
            for _ in range(TRIES):
                outcome, killed = self._disturbed(worker, engine, query, answer, before * WHEN)
                if killed is not None or outcome["is"] == "failed":
                    break
                # It was over before that: half of what it took is earlier.
                before = min(before, outcome["seconds"])
            return self._judge(query, before, outcome, killed, right, answer)
        finally:
            worker.close()

    def _disturbed(
        self, worker: Worker, engine: Engine, query: run.Query, answer: Path, at: float
    ) -> tuple[Message, int | None]:
        """A run in which an executor is killed after so many seconds, and the process that was."""
        killer = Killer(lambda: executors(engine.name, worker), at)
        try:
            outcome = worker.ask(query.name, query.sql, answer, self._timeout, may_lose=True)
        except (WorkerDied, WorkerLate) as fault:
            outcome = failed("error", str(fault))
        return outcome, killer.end()

    def _judge(
        self, query: run.Query, before: float, outcome: Message, killed: int | None, right: Path, answer: Path
    ) -> Round:
        if killed is None:
            return Round(before, None, False, "nothing was killed: the query was over, or no executor was found")
        if outcome["is"] == "failed":
            return Round(before, None, False, outcome["message"])
        is_right = self._same(query.name, right, answer)
        return Round(before, outcome["seconds"], is_right, "" if is_right else "the answer is another one")

    def _answer(self, engine: Engine, query: run.Query, kind: str) -> Path:
        path = self._out / f"kill-{engine.name}-{query.name}.{kind}.csv"
        path.unlink(missing_ok=True)
        return path


def require(outcome: Message) -> float:
    """The seconds of a run that nothing disturbed. Raises `WorkerDied` when it failed."""
    if outcome["is"] == "failed":
        raise WorkerDied(f"undisturbed it failed: {outcome['message']}")
    return float(outcome["seconds"])


def cells(query: str, engine: str, rounds: Sequence[Round]) -> list[str]:
    """A line of the table."""
    passed = [one for one in rounds if one.disturbed is not None and one.is_right]
    head = [query, engine, f"{len(passed)} of {len(rounds)}"]
    if not passed:
        return [*head, "-", "-", "-"]
    before = statistics.median(one.undisturbed for one in passed)
    after = statistics.median(one.disturbed or 0.0 for one in passed)
    more = statistics.median((one.disturbed or 0.0) - one.undisturbed for one in passed)
    return [*head, f"{before:.2f}", f"{after:.2f}", f"{more:+.2f}"]


def table(told: dict[tuple[str, str], list[Round]]) -> str:
    """What is printed, as Markdown: medians of the rounds whose answer was right."""
    head = ["query", "engine", "right answers", "undisturbed s", "killed half-way s", "more s"]
    lines = [head, ["---", "---", "---:", "---:", "---:", "---:"]]
    lines += [cells(query, engine, rounds) for (query, engine), rounds in told.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def run_all(
    engines: Sequence[Engine], queries: Sequence[run.Query], rounds: int, kills: Kills, out: Path
) -> dict[tuple[str, str], list[Round]]:
    """All rounds: the engines take turns. What was found outlives a crash."""
    told: dict[tuple[str, str], list[Round]] = {}
    for query in queries:
        for number in range(rounds):
            for engine in (*engines[number % len(engines) :], *engines[: number % len(engines)]):
                try:
                    one = kills.round(engine, query)
                except (WorkerDied, WorkerLate) as fault:
                    one = Round(0.0, None, False, str(fault))
                told.setdefault((query.name, engine.name), []).append(one)
                print(f"{query.name} {engine.name}: {one}", file=sys.stderr)
                records.save(as_json(told), out / "kill.json")
    return told


def as_json(told: dict[tuple[str, str], list[Round]]) -> records.Json:
    """Every round, for scripts."""
    rounds = [
        {"query": query, "engine": engine, **vars(one)} for (query, engine), found in told.items() for one in found
    ]
    return {"command": ["python3", *sys.argv], "rounds": rounds}


def engine_names(text: str) -> list[str]:
    """Reads names of engines with commas between them."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = [name for name in names if name not in EXECUTORS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no executor of '{unknown[0]}' can be killed: give {', '.join(EXECUTORS)}")
    return names


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=run.folder, required=True, help="a folder made by `firesteel bench gen tpch`")
    parser.add_argument("--engines", type=engine_names, required=True, help=f"some of {','.join(EXECUTORS)}")
    parser.add_argument("--queries", default="3,9,18,21", help="[default: 3,9,18,21]")
    run.add_common(parser)
    options = parser.parse_args(arguments)
    options.benchmark = "tpch"
    run.check_common(parser, options)
    try:
        options.queries = run.load_queries(options.benchmark, options.queries)
    except ValueError as fault:
        parser.error(str(fault))
    return options


def installed(options: argparse.Namespace) -> list[Engine]:
    """Those of the engines that can run here; tells of the others."""
    place = Place(options.benchmark, options.data, options.cores, options.executors, options.memory)
    found = []
    for name in options.engines:
        try:
            found.append(prepare(name, options.firesteel, place))
        except Unusable as fault:
            print(f"{name} is left out: {fault}", file=sys.stderr)
    return found


def same_by(firesteel: Firesteel, benchmark: str) -> Same:
    """Compares as the benchmark compares answers: numbers may differ in their last digits."""

    def same(query: str, right: Path, answer: Path) -> bool:
        try:
            return bool(firesteel.check(benchmark, query, right, answer)["is"] == "right")
        except CannotDo as fault:
            print(f"{query}: {fault}", file=sys.stderr)
            return False

    return same


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it all; 0 when every engine ran."""
    options = parse(arguments)
    # So that workers are ended as on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options.out.mkdir(parents=True, exist_ok=True)
    options.out = options.out.resolve()
    engines = installed(options)
    if not engines:
        print("error: none of the engines can run", file=sys.stderr)
        return 1
    kills = Kills(options.out, float(options.timeout), same_by(Firesteel(options.firesteel), options.benchmark))
    print(table(run_all(engines, options.queries, options.iterations, kills, options.out)))
    return 0 if len(engines) == len(options.engines) else 1


if __name__ == "__main__":
    run.exit_with(main)
