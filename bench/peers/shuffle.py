"""Runs engines side by side through the same exchanges of the same rows and writes a record for each; see README.md."""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import records
import rows
import run
from dialects import DIALECTS
from firesteel import CannotDo, Firesteel
from rows import KINDS, Kind, Made

BENCHMARK = "shuffle"
AGAINST = "the first engine without an exchange"
PARTITIONS_MAX = 65_536


@dataclass(frozen=True)
class Exchange:
    """One line of the table: rows of a kind, moved into so many partitions."""

    kind: str
    partitions: int

    @property
    def name(self) -> str:
        """Of the query."""
        return f"{self.kind}-{self.partitions}"

    @property
    def read(self) -> str:
        """Of the query that reads the same rows and sums them up, without the exchange."""
        return read_name(self.kind)


def read_name(kind: str) -> str:
    return f"{kind}-read"


def queries(kinds: Mapping[str, Kind], made: Mapping[str, Made], partitions: Sequence[int]) -> list[run.Query]:
    """For each kind of rows the query without an exchange, then those with one."""
    found = []
    for name, kind in kinds.items():
        size = {"input_rows": made[name].rows, "input_bytes": made[name].bytes}
        for count in (None, *partitions):
            words = {engine: dialect.wording(kind, count) for engine, dialect in DIALECTS.items()}
            named = read_name(name) if count is None else Exchange(name, count).name
            found.append(run.Query(named, "", words, size))
    return found


def judge_by_agreement() -> run.Judge:
    """A judge that holds every answer about the same rows against the first one: an exchange changes no sum."""
    right: dict[str, str] = {}

    def judge(answers: run.Answers, engine: str) -> tuple[dict[str, object], str]:
        kind, text = answers.query.rpartition("-")[0], answers.files[engine].read_text()
        if right.setdefault(kind, text) == text:
            return {"is": "right"}, AGAINST
        return {"is": "wrong", "difference": f"{text.strip()}, and not {right[kind].strip()}"}, AGAINST

    return judge


@dataclass(frozen=True)
class Cost:
    """What a query took: medians."""

    seconds: float
    cpu_seconds: float
    bytes: int


def cost(record: records.Json, name: str) -> Cost | None:
    """That of a query; none of one that failed, or of which not all was told."""
    query = next((query for query in record["queries"] if query["name"] == name), None)
    if query is None or records.passed_median(query) is None:
        return None
    outcomes = [run["outcome"] for run in query["runs"]]
    if not all("cpu_seconds" in one for one in outcomes):
        return None
    seconds, cpu = (statistics.median(one[key] for one in outcomes) for key in ("seconds", "cpu_seconds"))
    return Cost(seconds, cpu, outcomes[0]["input_bytes"])


def gigabytes(size: int, seconds: float) -> str:
    """GB a second; a dash where a difference of two times came out as none."""
    return f"{size / seconds / 1e9:.2f}" if seconds > 0 else "-"


def cells(exchange: Exchange, engine: str, record: records.Json) -> list[str]:
    """A line of the table: of one exchange, of one engine."""
    head = [exchange.kind, str(exchange.partitions), f"{engine} {record['engine']['version']}"]
    whole, read = cost(record, exchange.name), cost(record, exchange.read)
    if whole is None or read is None:
        return [*head, *["FAIL"] * 6]
    cpu, seconds = whole.cpu_seconds - read.cpu_seconds, whole.seconds - read.seconds
    times = [whole.seconds, whole.cpu_seconds, seconds, cpu]
    rates = [gigabytes(whole.bytes, cpu), gigabytes(whole.bytes, whole.cpu_seconds)]
    return [*head, *(f"{time:.2f}" for time in times), *rates]


def table(exchanges: Sequence[Exchange], told: Mapping[str, records.Json]) -> str:
    """What is printed, as Markdown: an exchange is the query with it less the query without it, GB/s is for each core,
    of processor time."""
    head = ["rows", "partitions", "engine", "wall s", "cpu s", "exchange wall s", "exchange cpu s"]
    head += ["exchange GB/s per core", "all GB/s per core"]
    lines = [head, ["---", "---:", "---", *["---:"] * 6]]
    lines += [cells(exchange, *one) for exchange in exchanges for one in told.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def chosen(text: str, known: Sequence[str], what: str) -> list[str]:
    """Names with commas between them, each once."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no {what} '{unknown[0]}': there are {', '.join(known)}")
    return names


def engine_names(text: str) -> list[str]:
    return chosen(text, list(DIALECTS), "engine that is asked for exchanges,")


def kind_names(text: str) -> list[str]:
    return chosen(text, list(KINDS), "kind of rows")


def partition_counts(text: str) -> list[int]:
    """Numbers with commas between them."""
    counts = [int(part) for part in text.split(",")]
    if not all(1 <= count <= PARTITIONS_MAX for count in counts):
        raise argparse.ArgumentTypeError(f"{text}: give numbers from 1 to {PARTITIONS_MAX}")
    return list(dict.fromkeys(counts))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder for the rows, which are made when missing")
    parser.add_argument("--engines", type=engine_names, required=True, help=f"some of {','.join(DIALECTS)}")
    parser.add_argument("--rows", type=kind_names, default=["narrow", "wide"], help="[default: narrow,wide]")
    parser.add_argument("--bytes", type=run.size, default=1 << 29, help="of the rows, in memory [default: 512MiB]")
    parser.add_argument("--partitions", type=partition_counts, default=[2, 64, 1024], help="[default: 2,64,1024]")
    run.add_common(parser)
    options = parser.parse_args(arguments)
    options.benchmark = BENCHMARK
    run.check_common(parser, options)
    return options


def prepare(options: argparse.Namespace, firesteel: Firesteel) -> tuple[records.Plan, list[run.Query]]:
    """Makes the rows, and says what is to be run. Raises `CannotDo` and `OSError`."""
    for path in (options.out, options.data):
        path.mkdir(parents=True, exist_ok=True)
    options.out, options.data = options.out.resolve(), options.data.resolve()
    kinds = {name: KINDS[name]() for name in options.rows}
    made = rows.make(firesteel, options.data, kinds, options.bytes)
    data = rows.info(options.data, kinds, made)
    plan = run.plan_of(options, data, firesteel.machine())
    return plan, queries(kinds, made, options.partitions)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it all; 0 when every engine ran."""
    options = parse(arguments)
    # So that workers are ended as on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    firesteel = Firesteel(options.firesteel)
    try:
        plan, asked = prepare(options, firesteel)
    except (CannotDo, OSError) as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 1
    runners = run.start(options.engines, options, plan)
    if not runners:
        print("error: none of the engines can run", file=sys.stderr)
        return 1
    keep = run.keep_for(options)
    try:
        run.run_all(runners, asked, plan, judge_by_agreement(), keep)
    finally:
        run.close_all(runners)
    run.report(firesteel, runners, keep, options.out / f"{BENCHMARK}.html")
    exchanges = [Exchange(kind, count) for kind in options.rows for count in options.partitions]
    print(table(exchanges, {runner.engine.name: runner.record for runner in runners}))
    return 0 if len(runners) == len(options.engines) else 1


if __name__ == "__main__":
    run.exit_with(main)
