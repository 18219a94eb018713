"""Tests of the driver with engines that are made of a few lines of Python."""

from __future__ import annotations

import argparse
import contextlib
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
from engines import NAMES, Engine
from firesteel import CannotDo, Firesteel
from portable import Portable
from process import Worker, WorkerDied, WorkerLate

# Answers every query with what its SQL says to do, and writes down that it was asked.
FAKE = """
import json, os, subprocess, sys, tempfile, time
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
        children = [subprocess.Popen(["sleep", "60"], process_group=group) for group in (None, 0)]
        folder = tempfile.mkdtemp()
        with open(journal + ".left", "w") as file:
            file.write(json.dumps([folder, os.getcwd(), *(child.pid for child in children)]))
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
            run.run_all(runners, queries, plan, lambda answers, engine: ({"is": "right"}, "stored answers"))
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

    def test_of_a_late_worker_nothing_is_left(self) -> None:
        plan = self.plan(timeout=0.5)
        (record,) = self.run_all(plan, {"q01": "a hangs", "q02": ""}, "a")
        self.assertEqual(
            record["queries"][0]["runs"][0]["outcome"],
            {"is": "failed", "kind": "timeout", "message": "stopped after 0.5 s"},
        )
        self.assertIsNotNone(records.passed_median(record["queries"][1]))
        scratch, folder, *children = json.loads(Path(f"{self.journal}.left").read_text())
        self.assertEqual(len(children), 2)
        for child in children:
            self.assertTrue(gone(child))
        self.assertEqual(Path(scratch).parent, Path(folder))
        self.assertFalse(Path(folder).exists())

    def test_a_worker_that_is_not_ready_says_why(self) -> None:
        with self.assertRaisesRegex(WorkerDied, "no such folder"):
            Worker(self.engine("unready").command, self.folder / "log")
        with self.assertRaisesRegex(WorkerDied, "cannot be started"):
            Worker(("/no/such/program",), self.folder / "log")

    def test_a_worker_that_never_gets_ready_is_given_up(self) -> None:
        with mock.patch("process.START_SECONDS_MAX", 0.2), self.assertRaises(WorkerLate):
            Worker(("sleep", "60"), self.folder / "log")

    def test_closing_ends_the_process_and_removes_its_folder(self) -> None:
        worker = Worker(self.engine("a").command, self.folder / "log")
        self.assertTrue(worker._folder.is_dir())
        worker.close()
        self.assertTrue(gone(worker._process.pid))
        self.assertFalse(worker._folder.exists())


class Records(Case):
    def test_a_record_is_what_the_format_says(self) -> None:
        (record,) = self.run_all(self.plan(iterations=1), {"q01": ""}, "a")
        self.assertEqual(record["settings"], {"threads": "2"})
        self.assertEqual(record["verified"], "stored answers")
        run_ = {"stream": 0, "iteration": 0, "outcome": {"is": "done", "seconds": 0.5, "rows": 1}}
        self.assertEqual(record["queries"], [{"name": "q01", "runs": [run_], "verdict": {"is": "right"}}])

    def test_every_record_is_whole_after_every_query(self) -> None:
        plan, seen = self.plan(iterations=1, warmup=0), []

        def judge(answers: run.Answers, engine: str) -> None:
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
        def query(name: str, verdict: str, *seconds: float) -> records.Json:
            runs = [{"outcome": {"is": "done", "seconds": value}} for value in seconds]
            return {"name": name, "runs": runs, "verdict": {"is": verdict}}

        def lines(*queries: list[records.Json]) -> list[list[str]]:
            engine = {"name": "a", "version": "1"}
            told = records.table([{"engine": engine, "mode": "local", "queries": each} for each in queries])
            return [line.split() for line in told.splitlines()]

        good, bad = query("q01", "right", 1.0, 9.0, 2.0), query("q02", "wrong", 8.0)
        self.assertEqual(records.passed_median(good), 2.0)
        head, passed, failed, note = lines([good, query("q02", "unverified", 8.0)], [good, bad])
        self.assertEqual(passed, ["a", "1", "local", "10.000", "4.0000", "0", "2.000"])
        self.assertEqual(failed, ["a", "1", "local", "-", "-", "1", "2.000"])
        self.assertEqual(head[-4:], ["sum", "of", "1", "s"])
        self.assertEqual(" ".join(note), "The last column is of the 1 queries that every engine passed.")
        self.assertEqual(len(lines([good], [good])), 3, "nothing is to be said when all passed")


class Kept(Case):
    def portable(self) -> Portable:
        return Portable({Path("/home/me"): "~", Path("/home/me/code"): "", Path("/srv/tpch-1"): "tpch-1"})

    def test_paths_are_named_from_where_others_have_them_too(self) -> None:
        for told, kept in [
            ("/home/me/code/bench/run.py", "bench/run.py"),
            ("/home/me/code", "."),
            ("/home/me/codes/x", "~/codes/x"),
            ("/srv/tpch-1/orders/*.parquet", "tpch-1/orders/*.parquet"),
            ("/srv/tpch-10/orders", "orders"),
            ("/mnt/home/me/x", "x"),
            ("IO error: file:///srv/tpch-1/a.parquet and file:/opt/b/c", "IO error: file:tpch-1/a.parquet and file:c"),
            ("'/opt/deep/down/x.py', line 3", "'x.py', line 3"),
            ("http://127.0.0.1:50050/api/x, 1/2/3", "http://127.0.0.1:50050/api/x, 1/2/3"),
            ("bench/peers/run.py ../data ~/x/y", "bench/peers/run.py ../data ~/x/y"),
        ]:
            self.assertEqual(self.portable().text(told), kept)

    def test_a_record_is_kept_after_every_query_beside_the_whole_one(self) -> None:
        plan = records.Plan("tpch", {"path": "/srv/tpch-1"}, {"disk": "/dev/md/0"}, ["/a/b", "-x"], "", 1, 0, 10.0)
        keep = run.Keep(self.folder / "kept", self.portable())
        with self.runners(plan, "a") as runners, contextlib.redirect_stderr(io.StringIO()):
            run.run_all(runners, [run.Query("q01", "a fails")], plan, lambda answers, engine: None, keep)
        whole = json.loads((self.folder / "tpch-a.json").read_text())
        kept = json.loads((self.folder / "kept" / "a.json").read_text())
        self.assertEqual((kept["data"], kept["command"]), ({"path": "tpch-1"}, ["b", "-x"]))
        self.assertEqual((whole["data"], whole["command"]), ({"path": "/srv/tpch-1"}, ["/a/b", "-x"]))
        self.assertEqual((kept["machine"], kept["queries"]), (whole["machine"], whole["queries"]))


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
            self.assertIsNone(judge(run.Answers("q01", {"a": self.folder}), "a"))
            self.assertIsNone(judge(run.Answers("q02", {"a": self.folder}), "a"))
        self.assertEqual(len(told.getvalue().splitlines()), 1)

    def test_where_none_is_stored_the_answers_of_duckdb_are_right(self) -> None:
        # Says no to a scale, and compares two files.
        says = """[ "$5" = --right ] || exit 1; cmp -s "$6" "$8" && echo '{"is": "right"}' || echo '{"is": "wrong"}'"""
        judge = run.judge_with(self.binary(says), "tpch", 10.0, "duckdb 2.0.1")
        files = {}
        for name, text in {"duckdb": "1", "a": "1", "b": "2"}.items():
            files[name] = self.folder / name
            files[name].write_text(text)
        answers = run.Answers("q01", files)
        self.assertEqual(judge(answers, "a"), ({"is": "right"}, "duckdb 2.0.1"))
        self.assertEqual(judge(answers, "b"), ({"is": "wrong"}, "duckdb 2.0.1"))
        with contextlib.redirect_stderr(io.StringIO()) as told:
            self.assertIsNone(judge(answers, "duckdb"), "not against itself")
            del files["duckdb"]
            self.assertIsNone(judge(answers, "a"))
        self.assertEqual(len(told.getvalue().splitlines()), 1)

    def test_answers_over_skewed_data_are_not_held_against_stored_ones(self) -> None:
        right = self.binary("""echo '{"is": "right"}'""")
        answers = run.Answers("q01", {"a": self.folder})
        judge = run.judge_of(right, "tpch", {"scale": 1.0, "skew": None})
        self.assertEqual(judge(answers, "a"), ({"is": "right"}, "stored answers"))
        with contextlib.redirect_stderr(io.StringIO()) as told:
            judge = run.judge_of(right, "tpch", {"scale": 1.0, "skew": "zipf:1"})
            self.assertIsNone(judge(answers, "a"))
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

    def parse(self, *arguments: str) -> argparse.Namespace:
        return run.parse(["tpch", "--data", "/", "--out", "/tmp", *arguments])

    def refused(self, *arguments: str) -> str:
        with contextlib.redirect_stderr(io.StringIO()) as told, self.assertRaises(SystemExit):
            self.parse(*arguments)
        return told.getvalue()

    def test_engines_are_chosen_by_name(self) -> None:
        self.assertIn("there is no engine 'oracle'", self.refused("--engines", "duckdb,oracle"))
        self.assertTrue(self.parse("--engines", "duckdb,polars").by_name)
        every = self.parse("--engines", "all", "--executors", "1")
        self.assertEqual((every.engines, every.by_name), (list(NAMES), False))

    def test_sizes_have_units(self) -> None:
        sizes = {"12GiB": 12 << 30, "300MiB": 300 << 20, "4096": 4096}
        for text, size in sizes.items():
            self.assertEqual(self.parse("--engines", "duckdb", "--memory", text).memory, size)
        for bad in ["", "0GiB", "12GB", "GiB", "-1GiB", "1.5GiB", "lots"]:
            self.assertIn("such as 12GiB", self.refused("--engines", "duckdb", f"--memory={bad}"))

    def test_executors_share_the_cores_evenly(self) -> None:
        uneven = ["--cores", "1", "--executors", "2"]
        self.assertIn("cannot be shared out evenly", self.refused("--engines", "duckdb,spark-cluster", *uneven))
        self.assertEqual(self.parse("--engines", "duckdb", *uneven).cores, 1)


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
