"""Tests of the driver with engines that are made of a few lines of Python, and of what the workers share."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import io
import json
import sys
import tempfile
import time
import unittest
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import records
import run
from engines import Engine
from firesteel import CannotDo, Firesteel
from process import Worker, WorkerDied, WorkerLate

sys.path.insert(0, str(Path(__file__).resolve().parent / "workers"))
import common  # noqa: E402

# Answers every query with what its SQL says to do, and writes down that it was asked.
FAKE = """
import json, os, subprocess, sys, time
name, journal = sys.argv[1], sys.argv[2]
if name == "unready":
    print(json.dumps({"ready": False, "error": "no such folder"}), flush=True)
    sys.exit()
engine = {"name": name, "version": "1", "commit": None}
print(json.dumps({"ready": True, "engine": engine, "mode": "local", "cores": 2, "settings": {"threads": 2},
                  "versions": {}}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    with open(journal, "a") as file:
        file.write(name + " " + request["query"] + "\\n")
    does = request["sql"] if name in request["sql"] else ""
    if "dies" in does:
        print("out of luck", file=sys.stderr)
        os._exit(3)
    if "hangs" in does:
        child = subprocess.Popen(["sleep", "60"])
        with open(journal + ".child", "w") as file:
            file.write(str(child.pid))
        time.sleep(60)
    if "babbles" in does:
        print("Hello", flush=True)
        continue
    if "fails" in does:
        print(json.dumps({"is": "failed", "kind": "error", "message": "no such table"}), flush=True)
        continue
    if request["answer"]:
        with open(request["answer"], "w") as file:
            file.write("n\\n1\\n")
    print(json.dumps({"is": "done", "seconds": 0.5, "rows": 1, "cpu_seconds": None, "surprise": 1}), flush=True)
"""


class Case(unittest.TestCase):
    """A folder, and engines in it."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.journal = self.folder / "journal"
        (self.folder / "fake.py").write_text(FAKE)

    def engine(self, name: str) -> Engine:
        return Engine(name, (sys.executable, str(self.folder / "fake.py"), name, str(self.journal)))

    def plan(self, iterations: int = 2, warmup: int = 1, timeout: float = 10.0) -> records.Plan:
        return records.Plan("tpch", {}, {}, [], "2026-01-01T00:00:00Z", iterations, warmup, timeout)

    @contextlib.contextmanager
    def runners(self, plan: records.Plan, *names: str) -> Iterator[list[run.Runner]]:
        runners = [run.Runner(self.engine(name), plan, self.folder) for name in names]
        try:
            yield runners
        finally:
            run.close_all(runners)

    def run_all(self, plan: records.Plan, sqls: dict[str, str], *names: str) -> list[records.Json]:
        """Runs queries on engines, and reads the records back."""
        queries = [run.Query(name, sql) for name, sql in sqls.items()]
        with self.runners(plan, *names) as runners, contextlib.redirect_stderr(io.StringIO()):
            run.run_all(runners, queries, plan, lambda query, answer: {"is": "right"})
        return [json.loads((self.folder / f"tpch-{name}.json").read_text()) for name in names]

    def asked(self) -> list[str]:
        return self.journal.read_text().splitlines()


class Order(Case):
    def test_engines_alternate_and_nobody_always_goes_first(self) -> None:
        self.run_all(self.plan(iterations=2, warmup=1), {"q01": "", "q02": ""}, "a", "b", "c")
        turns = [self.asked()[at : at + 3] for at in range(0, 18, 3)]
        self.assertEqual([[word[0] for word in turn] for turn in turns[:3]], [list("abc"), list("bca"), list("cab")])
        self.assertEqual([word[0] for word in turns[3]], list("bca"), "the next query begins with the next engine")
        self.assertEqual({word.split()[1] for turn in turns[:3] for word in turn}, {"q01"})

    def test_warm_up_runs_are_not_recorded(self) -> None:
        (record,) = self.run_all(self.plan(iterations=2, warmup=3), {"q01": ""}, "a")
        self.assertEqual([one["iteration"] for one in record["queries"][0]["runs"]], [0, 1])
        self.assertEqual(len(self.asked()), 5)


class Failures(Case):
    def test_a_query_that_fails_is_not_asked_again_and_the_others_go_on(self) -> None:
        a, b = self.run_all(self.plan(iterations=2, warmup=0), {"q01": "a fails", "q02": ""}, "a", "b")
        (failure,) = a["queries"][0]["runs"]
        self.assertEqual(failure["outcome"], {"is": "failed", "kind": "error", "message": "no such table"})
        self.assertEqual([len(query["runs"]) for query in b["queries"]], [2, 2])
        self.assertEqual(len(a["queries"][1]["runs"]), 2)

    def test_a_worker_that_dies_is_started_again_for_the_next_query(self) -> None:
        for deed, words in [("a dies", "its process ended with exit code 3: out of luck"), ("a babbles", "Hello")]:
            (record,) = self.run_all(self.plan(), {"q01": deed, "q02": ""}, "a")
            outcome = record["queries"][0]["runs"][0]["outcome"]
            self.assertEqual((outcome["is"], outcome["kind"]), ("failed", "error"))
            self.assertIn(words, outcome["message"])
            self.assertIsNotNone(records.passed_median(record["queries"][1]))

    def test_a_late_worker_is_killed_with_its_children(self) -> None:
        plan = self.plan(timeout=0.5)
        (record,) = self.run_all(plan, {"q01": "a hangs", "q02": ""}, "a")
        self.assertEqual(
            record["queries"][0]["runs"][0]["outcome"],
            {"is": "failed", "kind": "timeout", "message": "stopped after 0.5 s"},
        )
        self.assertIsNotNone(records.passed_median(record["queries"][1]))
        self.assertTrue(gone(int(Path(f"{self.journal}.child").read_text())))

    def test_a_worker_that_is_not_ready_says_why(self) -> None:
        with self.assertRaisesRegex(WorkerDied, "no such folder"):
            Worker(self.engine("unready").command, self.folder / "log")
        with self.assertRaisesRegex(WorkerDied, "cannot be started"):
            Worker(("/no/such/program",), self.folder / "log")

    def test_a_worker_that_never_gets_ready_is_given_up(self) -> None:
        with mock.patch("process.START_SECONDS_MAX", 0.2), self.assertRaises(WorkerLate):
            Worker(("sleep", "60"), self.folder / "log")

    def test_closing_ends_the_process(self) -> None:
        worker = Worker(self.engine("a").command, self.folder / "log")
        worker.close()
        self.assertTrue(gone(worker._process.pid))


class Records(Case):
    def test_a_record_is_what_the_format_says(self) -> None:
        (record,) = self.run_all(self.plan(iterations=1), {"q01": ""}, "a")
        self.assertEqual(record["settings"], {"threads": "2"})
        self.assertEqual(record["verified"], "stored answers")
        run_ = {"stream": 0, "iteration": 0, "outcome": {"is": "done", "seconds": 0.5, "rows": 1}}
        self.assertEqual(record["queries"], [{"name": "q01", "runs": [run_], "verdict": {"is": "right"}}])

    def test_every_record_is_whole_after_every_query(self) -> None:
        plan, seen = self.plan(iterations=1, warmup=0), []

        def judge(query: str, answer: Path) -> None:
            path = self.folder / "tpch-a.json"
            seen.append(len(json.loads(path.read_text())["queries"]) if path.exists() else 0)

        queries = [run.Query(f"q{number}", "") for number in range(3)]
        with self.runners(plan, "a") as runners, contextlib.redirect_stderr(io.StringIO()):
            run.run_all(runners, queries, plan, judge)
        self.assertEqual(seen, [0, 1, 2])

    def test_a_write_that_breaks_off_leaves_the_old_record(self) -> None:
        path = self.folder / "record.json"
        records.save({"format": 1}, path)
        with self.assertRaises(ValueError):
            records.save({"format": 1, "seconds": float("nan")}, path)
        with mock.patch("os.replace", side_effect=OSError("no")), self.assertRaises(OSError):
            records.save({"format": 2}, path)
        self.assertEqual(json.loads(path.read_text()), {"format": 1})
        records.save({"format": 3}, path)
        self.assertEqual(json.loads(path.read_text()), {"format": 3})
        self.assertFalse((self.folder / ".record.json.tmp").exists())

    def test_an_engine_that_failed_has_no_total(self) -> None:
        def query(verdict: str, *seconds: float) -> records.Json:
            runs = [{"outcome": {"is": "done", "seconds": value}} for value in seconds]
            return {"runs": runs, "verdict": {"is": verdict}}

        good, bad = query("right", 1.0, 9.0, 2.0), query("wrong", 8.0)
        self.assertEqual(records.passed_median(good), 2.0)
        engine = {"name": "a", "version": "1"}
        all_queries = [[good, query("unverified", 8.0)], [good, bad]]
        lines = records.table([{"engine": engine, "queries": queries} for queries in all_queries]).splitlines()
        self.assertEqual(lines[1].split(), ["a", "1", "10.000", "4.0000", "0"])
        self.assertEqual(lines[2].split(), ["a", "1", "-", "-", "1"])


class Binary(Case):
    def binary(self, text: str) -> Firesteel:
        path = self.folder / "firesteel"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return Firesteel(path)

    def test_what_it_says_is_taken(self) -> None:
        told = self.binary("""echo '{"data": {"scale": 1.0}, "machine": {"cpus": 2}}'""").info("tpch", self.folder)
        self.assertEqual(told, ({"scale": 1.0}, {"cpus": 2}))
        says = """echo '{"is": "wrong", "difference": "row 1"}'"""
        verdict = self.binary(says).check("tpch", "q01", 1.0, self.folder)
        self.assertEqual(verdict["difference"], "row 1")

    def test_what_it_cannot_say_is_one_line(self) -> None:
        error = ("echo 'error: no\nhint' >&2; exit 2", "bench check: error: no$")
        for text, words in [error, ("echo {}", "no verdict")]:
            with self.assertRaisesRegex(CannotDo, words):
                self.binary(text).check("tpch", "q01", 1.0, self.folder)
        with self.assertRaisesRegex(CannotDo, "No such file"):
            Firesteel(self.folder / "nothing").info("tpch", self.folder)

    def test_without_a_verdict_answers_are_unverified(self) -> None:
        judge = run.judge_with(self.binary("exit 1"), "tpch", 1.0)
        with contextlib.redirect_stderr(io.StringIO()) as told:
            self.assertIsNone(judge("q01", self.folder))
            self.assertIsNone(judge("q02", self.folder))
        self.assertEqual(len(told.getvalue().splitlines()), 1)

    def test_answers_over_skewed_data_are_not_held_against_stored_ones(self) -> None:
        right = self.binary("""echo '{"is": "right"}'""")
        judge = run.judge_of(right, "tpch", {"scale": 1.0, "skew": None})
        self.assertEqual(judge("q01", self.folder), {"is": "right"})
        with contextlib.redirect_stderr(io.StringIO()) as told:
            judge = run.judge_of(right, "tpch", {"scale": 1.0, "skew": "zipf:1"})
            self.assertIsNone(judge("q01", self.folder))
        self.assertIn("zipf:1", told.getvalue())

    def test_files_of_other_formats_are_refused(self) -> None:
        run.require_parquet({"path": "data"})
        with self.assertRaisesRegex(CannotDo, "data holds csv files"):
            run.require_parquet({"path": "data", "format": "csv"})


class CommandLine(unittest.TestCase):
    def test_queries_are_chosen_by_numbers_names_and_ranges(self) -> None:
        self.assertEqual(run.parse_numbers("1-3,q07,22,2", 22), [1, 2, 3, 7, 22])
        for bad in ["", "0", "23", "one", "3-1", "1,,2", "1-2-3"]:
            with self.assertRaises(ValueError):
                run.parse_numbers(bad, 22)
        queries = run.load_queries("tpch", None)
        self.assertEqual([queries[0].name, queries[-1].name, len(queries)], ["q01", "q22", 22])

    def test_unknown_engines_are_refused(self) -> None:
        arguments = ["tpch", "--data", "/", "--out", "/tmp", "--engines", "duckdb,oracle"]
        with contextlib.redirect_stderr(io.StringIO()) as told, self.assertRaises(SystemExit):
            run.parse(arguments)
        self.assertIn("there is no engine 'oracle'", told.getvalue())


class Workers(unittest.TestCase):
    def test_cells_are_plain_text(self) -> None:
        cells = [
            (None, ""),
            (True, "true"),
            (7, "7"),
            (0.1, "0.1"),
            (decimal.Decimal("1E+3"), "1000"),
            (decimal.Decimal("0.00"), "0.00"),
            (datetime.date(1995, 3, 5), "1995-03-05"),
            ("a, b", "a, b"),
        ]
        for value, text in cells:
            self.assertEqual(common.cell(value), text)

    def test_a_lone_null_is_still_a_row(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "answer.csv"
            common.write_csv(common.Answer(["n"], 1, lambda: [[None]]), path)
            self.assertEqual(path.read_text(), 'n\n""\n')

    def test_an_answer_is_measured_and_a_fault_is_one_line(self) -> None:
        def ask(sql: str) -> common.Answer:
            if sql == "fail":
                raise ValueError("no\n  such table")
            deadline = time.process_time() + 0.05
            while time.process_time() < deadline:
                pass
            return common.Answer(["n"], 2, lambda: [[1], [2]])

        session = common.Session("fake", "1", ask)
        done = common.answer(session, {"sql": "", "answer": None})
        self.assertEqual((done["is"], done["rows"]), ("done", 2))
        self.assertGreaterEqual(done["cpu_seconds"], 0.05)
        self.assertGreaterEqual(done["seconds"], 0.05)
        self.assertGreater(done["peak_memory_bytes"], 1 << 20)
        failed = common.answer(session, {"sql": "fail", "answer": None})
        self.assertEqual(failed, {"is": "failed", "kind": "error", "message": "ValueError: no such table"})


def gone(pid: int) -> bool:
    """Whether a process has ended, within a second; one that nobody has waited for is a zombie, and has."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


if __name__ == "__main__":
    unittest.main()
