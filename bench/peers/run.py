"""Runs engines side by side over the same Parquet files and writes a record for each; see README.md."""

from __future__ import annotations

import argparse
import datetime
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import records
from dialects import Wording
from engines import CLUSTERS, NAMES, Engine, Place, Unusable, prepare
from firesteel import CannotDo, Firesteel
from portable import Portable
from process import Message, Worker, WorkerDied, WorkerLate, failed

REPOSITORY = Path(__file__).resolve().parents[2]
# Its answers are taken for right where none are stored: the stored ones are its own.
ORACLE = "duckdb"
UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


@dataclass(frozen=True)
class Query:
    """A query of a benchmark, in the words of the benchmark or in those of each engine."""

    name: str
    sql: str
    wordings: Mapping[str, Wording] = field(default_factory=dict)
    # What every run of it tells of the rows that it is about.
    input: Mapping[str, int] = field(default_factory=dict)

    def wording(self, engine: str) -> Wording:
        """As that engine is asked it."""
        return self.wordings.get(engine) or Wording(self.sql)


@dataclass(frozen=True)
class Keep:
    """Where records are kept, and how they are rewritten before that."""

    folder: Path
    portable: Portable

    def save(self, record: records.Json, engine: str) -> Path:
        """Writes a record in place of the one of the same engine."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{engine}.json"
        records.save(self.portable.record(record), path)
        return path


@dataclass(frozen=True)
class Answers:
    """The answers of all engines to one query, by engine."""

    query: str
    files: dict[str, Path]


# Says whether the answer of an engine is right, and by what source that was told; none when it cannot be told.
Judge = Callable[[Answers, str], "tuple[Message, str] | None"]


class Runner:
    """One engine of a run: its worker, which is started again when it was killed, and its record."""

    def __init__(self, engine: Engine, plan: records.Plan, out: Path) -> None:
        """Starts the worker. Raises `WorkerDied` and `WorkerLate`."""
        self.engine = engine
        self.path = out / f"{plan.benchmark}-{engine.name}.json"
        self._timeout = plan.timeout_seconds
        self._log = out / f"{plan.benchmark}-{engine.name}.log"
        self._answers = out / "answers"
        self._worker: Worker | None = Worker(engine.command, self._log)
        self.record = records.new_record(plan, self._worker.ready)

    def ask(self, query: Query, keep_answer: bool) -> tuple[Message, Path | None]:
        """Asks a query once: the outcome, and where the answer is when it is to be kept."""
        answer = self._answer(query) if keep_answer else None
        wording = query.wording(self.engine.name)
        try:
            if self._worker is None:
                self._worker = Worker(self.engine.command, self._log)
            if fault := self._prepare(self._worker, query, wording, check_plan=keep_answer):
                return fault, None
            return self._worker.ask(query.name, wording.sql, answer, self._timeout), answer
        except WorkerDied as fault:
            self._worker = None
            return failed("error", str(fault)), None
        except WorkerLate as fault:
            self._worker = None
            return failed("timeout", str(fault)), None

    def close(self) -> None:
        """Ends the worker."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _prepare(self, worker: Worker, query: Query, wording: Wording, check_plan: bool) -> Message | None:
        """Asks what comes before a query and is not measured; the outcome when that fails."""
        for setting in wording.settings:
            outcome = worker.ask(query.name, setting, None, self._timeout)
            if outcome["is"] == "failed":
                return outcome
        if not check_plan or wording.fault is None:
            return None
        told = self._answer(query, "plan")
        outcome = worker.ask(query.name, f"EXPLAIN {wording.sql}", told, self._timeout)
        if outcome["is"] == "failed":
            return outcome
        fault = wording.fault(told.read_text())
        return None if fault is None else failed("error", fault)

    def _answer(self, query: Query, kind: str = "answer") -> Path:
        self._answers.mkdir(exist_ok=True)
        path = self._answers / f"{self.path.stem}-{query.name}{'' if kind == 'answer' else f'.{kind}'}.csv"
        # An answer of an earlier run must not be taken for this one's.
        path.unlink(missing_ok=True)
        return path


def rotated(runners: Sequence[Runner], turn: int) -> list[Runner]:
    """The engines in the order of one turn: the first goes last the next time."""
    first = turn % len(runners) if runners else 0
    return [*runners[first:], *runners[:first]]


def run_all(
    runners: Sequence[Runner], queries: Sequence[Query], plan: records.Plan, judge: Judge, keep: Keep | None = None
) -> None:
    """Asks every engine every query."""
    for number, query in enumerate(queries):
        run_query(runners, query, number, plan, judge)
        for runner in runners:
            records.save(runner.record, runner.path)
            if keep is not None:
                keep.save(runner.record, runner.engine.name)


def run_query(runners: Sequence[Runner], query: Query, first: int, plan: records.Plan, judge: Judge) -> None:
    """All runs of one query: the engines alternate within each iteration. An engine that failed is not asked again."""
    entries = {runner.engine.name: records.new_query(query.name) for runner in runners}
    for runner in runners:
        runner.record["queries"].append(entries[runner.engine.name])
    left, answers = list(runners), Answers(query.name, {})
    for number in range(plan.warmup + plan.iterations):
        # The query counts too, or with two engines and two runs the same one would always be measured first.
        for runner in rotated(left, first + number):
            entry = entries[runner.engine.name]
            outcome, answer = runner.ask(query, keep_answer=number == 0)
            if answer is not None and outcome["is"] == "done":
                answers.files[runner.engine.name] = answer
            if outcome["is"] == "failed":
                left.remove(runner)
            if outcome["is"] == "failed" or number >= plan.warmup:
                records.add_run(entry, max(number - plan.warmup, 0), {**outcome, **query.input})
        if number == 0:
            put_verdicts(runners, entries, answers, judge)
    print(line(query.name, entries), file=sys.stderr)


def put_verdicts(runners: Sequence[Runner], entries: dict[str, records.Json], answers: Answers, judge: Judge) -> None:
    """Writes down what came of checking the answers."""
    for runner in runners:
        name = runner.engine.name
        if name in answers.files and (judged := judge(answers, name)):
            entries[name]["verdict"], runner.record["verified"] = judged


def line(query: str, entries: dict[str, records.Json]) -> str:
    """What became of a query, for whoever watches."""
    medians = {name: records.passed_median(entry) for name, entry in entries.items()}
    shown = (f"{name} {'FAIL' if median is None else f'{median:.3f} s'}" for name, median in medians.items())
    return f"{query}: {', '.join(shown)}"


def judge_with(firesteel: Firesteel, benchmark: str, scale: float, oracle: str | None = None) -> Judge:
    """A judge that asks the binary. Where no right answers are stored, those of DuckDB are taken for right, when it is
    measured too: then `oracle` says which one that is. Tells once when it cannot say."""
    told: set[str] = set()

    def judge(answers: Answers, engine: str) -> tuple[Message, str] | None:
        answer, right = answers.files[engine], answers.files.get(ORACLE)
        try:
            return firesteel.check(benchmark, answers.query, scale, answer), "stored answers"
        except CannotDo as fault:
            reason = str(fault)
        if oracle is not None and right is not None and engine != ORACLE:
            try:
                return firesteel.check(benchmark, answers.query, right, answer), oracle
            except CannotDo as fault:
                reason = str(fault)
        if not told and engine != ORACLE:
            print(f"unverified: {reason}", file=sys.stderr)
            told.add(engine)
        return None

    return judge


def judge_of(firesteel: Firesteel, benchmark: str, data: records.Json, oracle: str | None = None) -> Judge:
    """A judge of answers over this data; of skewed data it cannot say, as no stored answers hold for that."""
    skew = data.get("skew")
    if skew is None:
        return judge_with(firesteel, benchmark, data["scale"], oracle)
    print(f"unverified: the data is skewed ({skew}), and the stored answers do not hold for it", file=sys.stderr)
    return lambda answers, engine: None


def oracle_of(runners: Sequence[Runner]) -> str | None:
    """The name and release of the engine whose answers are taken for right, when it is measured."""
    found = [runner.record["engine"] for runner in runners if runner.engine.name == ORACLE]
    return f"{found[0]['name']} {found[0]['version']}" if found else None


def start(names: Sequence[str], options: argparse.Namespace, plan: records.Plan) -> list[Runner]:
    """Those of the engines that can be installed and started; tells of the others."""
    place = Place(options.benchmark, options.data, options.cores, options.executors, options.memory)
    runners: list[Runner] = []
    try:
        for name in names:
            try:
                engine = prepare(name, options.firesteel, place)
                runners.append(Runner(engine, plan, options.out))
            except (Unusable, WorkerDied, WorkerLate) as fault:
                print(f"{name} is left out: {fault}", file=sys.stderr)
    except BaseException:
        close_all(runners)
        raise
    return runners


def close_all(runners: Sequence[Runner]) -> None:
    """Ends all workers."""
    for runner in runners:
        runner.close()


def load_queries(benchmark: str, chosen: str | None) -> list[Query]:
    """The queries that `chosen` names, such as `1-5,q07`; all when it is none. Raises `ValueError`."""
    files = sorted((REPOSITORY / "bench" / "queries" / benchmark).glob("q*.sql"))
    numbers = range(1, len(files) + 1) if chosen is None else parse_numbers(chosen, len(files))
    # Not every engine takes the semicolon.
    return [Query(files[n - 1].stem, files[n - 1].read_text().strip().rstrip(";")) for n in numbers]


def parse_numbers(chosen: str, count: int) -> list[int]:
    """The numbers in a text such as `1-5,q07,22`, each once. Raises `ValueError`."""
    numbers: list[int] = []
    for part in chosen.split(","):
        ends = [end.strip().lower().removeprefix("q") for end in part.split("-")]
        if len(ends) > 2 or not all(end.isdecimal() and 1 <= int(end) <= count for end in ends):
            raise ValueError(f"'{part.strip()}' chooses no query: give numbers from 1 to {count}, such as 1-5,7")
        if int(ends[0]) > int(ends[-1]):
            raise ValueError(f"'{part.strip()}' chooses no query: write the smaller number first")
        numbers.extend(range(int(ends[0]), int(ends[-1]) + 1))
    return list(dict.fromkeys(numbers))


def at_least(least: int) -> Callable[[str], int]:
    """Reads a whole number that is not smaller than `least`."""

    def whole_number(text: str) -> int:
        number = int(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"{number} is smaller than {least}")
        return number

    return whole_number


def size(text: str) -> int:
    """Reads a number of bytes such as `12GiB`."""
    number = text.rstrip("KMGTiB")
    unit = text[len(number) :]
    if not number.isdecimal() or unit not in UNITS or int(number) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no size: give a whole number and a unit, such as 12GiB")
    return int(number) * UNITS[unit]


def engine_names(text: str) -> list[str]:
    """Reads names of engines with commas between them; `all` is all that there are."""
    if text == "all":
        return list(NAMES)
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no engine '{unknown[0]}': there are {', '.join(NAMES)}")
    return names


def folder(text: str) -> Path:
    """Reads the path of a folder that is there."""
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder")
    return path.resolve()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", choices=("tpch", "tpcds"))
    parser.add_argument("--data", type=folder, required=True, help="a folder made by `firesteel bench gen`")
    parser.add_argument(
        "--engines", type=engine_names, required=True, help=f"some of {','.join(NAMES)}; or all, as far as they can run"
    )
    parser.add_argument("--queries", help="such as 1-5,7 [default: all]")
    add_common(parser)
    options = parser.parse_args(arguments)
    # Engines that cannot run here are missed only where they were asked for by name.
    options.by_name = options.engines != list(NAMES)
    check_common(parser, options)
    try:
        options.queries = load_queries(options.benchmark, options.queries)
    except ValueError as fault:
        parser.error(str(fault))
    return options


def add_common(parser: argparse.ArgumentParser) -> None:
    """What every command takes that runs engines."""
    cpus = len(os.sched_getaffinity(0))
    parser.add_argument("--out", type=Path, required=True, help="the folder for records, answers and the report")
    parser.add_argument("--keep", type=Path, help="also keep the records here, without paths of this machine")
    parser.add_argument("--iterations", type=at_least(1), default=5, help="measured runs of each query [default: 5]")
    parser.add_argument("--warmup", type=at_least(0), default=1, help="runs before those [default: 1]")
    parser.add_argument("--cores", type=at_least(1), default=cpus, help="[default: all]")
    parser.add_argument("--executors", type=at_least(1), default=2, help="of a cluster, which share them [default: 2]")
    parser.add_argument("--memory", type=size, help="of each engine, such as 12GiB [default: what it takes by itself]")
    parser.add_argument("--timeout", type=at_least(1), default=300, help="seconds for one run [default: 300]")
    parser.add_argument("--firesteel", type=Path, default=REPOSITORY / "target/release/firesteel", help="the binary")


def check_common(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuses what cannot be."""
    cpus = len(os.sched_getaffinity(0))
    if options.cores > cpus:
        parser.error(f"--cores {options.cores}: this process may use {cpus}")
    if options.cores % options.executors and set(options.engines) & set(CLUSTERS):
        parser.error(f"--executors {options.executors}: {options.cores} cores cannot be shared out evenly")
    options.firesteel = options.firesteel.resolve()


def keep_for(options: argparse.Namespace) -> Keep | None:
    """Where records are kept, if that was asked for."""
    if options.keep is None:
        return None
    within = {path: relative(path) for path in (REPOSITORY, options.data, options.out)}
    return Keep(options.keep, Portable({Path.home(): "~", **within}))


def relative(path: Path) -> str:
    """A folder as seen from the repository; of one elsewhere, the name alone."""
    if not path.is_relative_to(REPOSITORY):
        return path.name
    return "" if path == REPOSITORY else str(path.relative_to(REPOSITORY))


def report(firesteel: Firesteel, runners: Sequence[Runner], keep: Keep | None, html: Path) -> None:
    """Writes the page if the binary can: of the records that are kept, when they are."""
    paths = [runner.path for runner in runners]
    if keep is not None:
        paths = [keep.save(runner.record, runner.engine.name) for runner in runners]
        html = keep.folder / "report.html"
    try:
        firesteel.report(paths, html)
        print(f"report: {html}")
    except CannotDo as fault:
        print(f"no report: {fault}", file=sys.stderr)


def plan_of(options: argparse.Namespace, data: records.Json, machine: records.Json) -> records.Plan:
    """What the records of a run that starts now have in common."""
    started = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    command = ["python3", *sys.argv]
    runs = (options.iterations, options.warmup, float(options.timeout))
    return records.Plan(options.benchmark, data, machine, command, started, *runs)


def require_parquet(data: records.Json) -> None:
    """Raises `CannotDo` when the files are of another format: the workers read Parquet."""
    if data.get("format", "parquet") != "parquet":
        raise CannotDo(f"{data['path']} holds {data['format']} files; generate it without --format")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it all; 0 when every engine that was asked for by name ran."""
    options = parse(arguments)
    # So that workers are ended as on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    firesteel = Firesteel(options.firesteel)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        options.out = options.out.resolve()
        data, machine = firesteel.info(options.benchmark, options.data)
        require_parquet(data)
    except (CannotDo, OSError) as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 1
    plan = plan_of(options, data, machine)
    runners = start(options.engines, options, plan)
    if not runners:
        print("error: none of the engines can run", file=sys.stderr)
        return 1
    keep = keep_for(options)
    judge = judge_of(firesteel, options.benchmark, data, oracle_of(runners))
    try:
        run_all(runners, options.queries, plan, judge, keep)
    finally:
        close_all(runners)
    print(records.table([runner.record for runner in runners]))
    report(firesteel, runners, keep, options.out / f"{options.benchmark}.html")
    return 0 if len(runners) == len(options.engines) or not options.by_name else 1


def exit_with(main: Callable[[], int]) -> NoReturn:
    """Ends the process with what a command comes to."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as fault:
        sys.exit(f"error: {fault}")


if __name__ == "__main__":
    exit_with(main)
