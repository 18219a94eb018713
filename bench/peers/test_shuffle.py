"""Tests of exchanges side by side, with engines and a binary that are made of a few lines."""

from __future__ import annotations

import contextlib
import io
import json
import unittest
from pathlib import Path
from unittest import mock

import dialects
import records
import rows
import run
import shuffle
from dialects import Dialect, Wording
from firesteel import Firesteel
from rows import Made
from test_peers import Case

SPARK_PLAN = "+- Exchange hashpartitioning(c0#12L, 64), REPARTITION_BY_COL, [plan_id=118]"
BALLISTA_PLAN = "ShuffleWriterExec: partitioning: Hash([c0@0], 64)\n ShuffleWriterExec: partitioning: Hash([k@0], 64)"


class Rows(Case):
    def test_columns_are_multiples_as_the_workload_has_them(self) -> None:
        factors = [rows.factor(column) for column in range(1, 9)]
        self.assertEqual(len(set(factors)), 8)
        self.assertTrue(all(factor % 2 and -(1 << 63) <= factor < 1 << 63 for factor in factors))
        self.assertEqual(rows.narrow("narrow", rows.uniform()).columns[0].sql, "value * -7046029254386353131")

    def test_bits_are_the_highest_of_a_multiple(self) -> None:
        for column, count in [(1, 22), (6, 2), (8, 30)]:
            number = eval(rows.bits(column, count), {"value": 1})
            self.assertEqual(number, (rows.factor(column) & rows.ALL_BITS) >> (64 - count))

    def test_files_share_the_rows_out(self) -> None:
        for count in (8, 100, 1_000_003):
            ranges = rows.ranges(count)
            self.assertEqual((len(ranges), ranges[0][0], ranges[-1][1]), (rows.FILES, 1, count))
            self.assertTrue(all(one[1] + 1 == two[0] for one, two in zip(ranges, ranges[1:])))

    def test_paths_are_quoted(self) -> None:
        self.assertEqual(rows.quoted(Path("/o'data")), "'/o''data'")

    def test_every_column_is_looked_at(self) -> None:
        for make in rows.KINDS.values():
            kind = make()
            for column in kind.columns:
                self.assertRegex(kind.sums(), rf"\w+\(.*\b{column.name}\b.*\) AS {column.name}\b")

    def binary(self) -> Firesteel:
        """Writes down each statement, makes the file that one names, and says 160 whatever it is asked."""
        path = self.folder / "firesteel"
        path.write_text(
            f"""#!/bin/sh
for last; do :; done
echo "$last" >> {self.folder}/statements
to=$(echo "$last" | sed -n "s/.* TO '\\(.*\\)' STORED.*/\\1/p")
[ -z "$to" ] || echo rows > "$to"
printf 'bytes\\n160\\n'
"""
        )
        path.chmod(0o755)
        return Firesteel(path)

    def statements(self) -> list[str]:
        return (self.folder / "statements").read_text().splitlines()

    def test_tables_are_made_once_and_anew_when_they_are_to_be_others(self) -> None:
        data, kinds = self.folder / "data", {"narrow": rows.KINDS["narrow"]()}
        data.mkdir()
        made = rows.make(self.binary(), data, kinds, 160)
        self.assertEqual(made, {"narrow": Made(10, 160)})
        self.assertEqual(len(self.statements()), rows.FILES + 1)
        self.assertIn("data/narrow/part-0.parquet' STORED AS PARQUET", self.statements()[0])
        self.assertEqual(rows.make(self.binary(), data, kinds, 160), made)
        self.assertEqual(len(self.statements()), rows.FILES + 1)
        told = rows.info(data, kinds, made)
        self.assertEqual((told["files"], told["rows"], told["bytes"]), (rows.FILES, 10, 5 * rows.FILES))
        rows.make(self.binary(), data, kinds, 320)
        self.assertEqual(len(self.statements()), 2 * (rows.FILES + 1))
        self.assertNotEqual(rows.info(data, kinds, made)["checksum"], told["checksum"])


class Plans(unittest.TestCase):
    def fault(self, engine: str, plan: str, partitions: int | None) -> str | None:
        fault = dialects.DIALECTS[engine].wording(rows.KINDS["wide"](), partitions).fault
        assert fault is not None
        return fault(plan)

    def test_a_plan_must_have_the_exchange_that_was_asked_for(self) -> None:
        for engine, plan in [("spark-cluster", SPARK_PLAN), ("ballista", BALLISTA_PLAN)]:
            self.assertIsNone(self.fault(engine, plan, 64))
            self.assertIn("no exchange into 2 partitions", self.fault(engine, plan, 2) or "")
            self.assertIn("has an exchange into 64", self.fault(engine, plan, None) or "")
            self.assertIsNone(self.fault(engine, "Exchange SinglePartition, Hash([k@0], 64)", None))

    def test_only_the_exchange_tells_the_two_queries_apart(self) -> None:
        kind = rows.KINDS["narrow"]()
        for engine, dialect in dialects.DIALECTS.items():
            with_, without = dialect.wording(kind, 64), dialect.wording(kind, None)
            self.assertEqual(with_.sql.replace(" DISTRIBUTE BY c0", ""), without.sql)
            self.assertIn("64", with_.settings[0], engine)
        ballista = dialects.DIALECTS["ballista"]
        self.assertEqual(ballista.wording(kind, 64).sql, ballista.wording(kind, None).sql)
        self.assertNotEqual(ballista.wording(kind, 64).settings[1:], ballista.wording(kind, None).settings[1:])


class Asking(Case):
    def ask(self, wording: Wording) -> records.Json:
        """What the record says of a query in those words."""
        query = run.Query("q01", "", {"a": wording}, {"input_rows": 3, "input_bytes": 48})
        plan = self.plan(iterations=2, warmup=1)
        with self.runners(plan, "a") as runners, contextlib.redirect_stderr(io.StringIO()):
            run.run_all(runners, [query], plan, lambda answers, engine: None)
        return json.loads((self.folder / "tpch-a.json").read_text())["queries"][0]

    def test_settings_come_before_each_run_and_the_plan_before_the_first(self) -> None:
        seen: list[str] = []

        def fault(plan: str) -> None:
            seen.append(plan)

        entry = self.ask(Wording("SELECT 1", ("SET x = 1", "SET y = 2"), fault))
        self.assertEqual(seen, ["n\n1\n"])
        self.assertEqual(len(self.asked()), 3 * 3 + 1)
        self.assertEqual(len(entry["runs"]), 2)
        self.assertEqual(entry["runs"][0]["outcome"]["input_bytes"], 48)

    def test_a_query_whose_plan_is_another_fails_unasked(self) -> None:
        entry = self.ask(Wording("SELECT 1", (), lambda plan: "its plan has no exchange"))
        (failure,) = entry["runs"]
        self.assertEqual(failure["outcome"]["message"], "its plan has no exchange")
        self.assertEqual(len(self.asked()), 1)

    def test_a_setting_that_is_refused_fails_the_query(self) -> None:
        for wording in (Wording("SELECT 1", ("a fails",)), Wording("a fails", (), lambda plan: None)):
            (failure,) = self.ask(wording)["runs"]
            self.assertEqual(failure["outcome"]["message"], "no such table")


class Table(Case):
    def record(self, **cpu: float) -> records.Json:
        def runs(seconds: float) -> list[records.Json]:
            done = {"is": "done", "seconds": seconds / 2, "cpu_seconds": seconds, "input_bytes": 2 * 10**9}
            return [{"outcome": done}]

        right = {"verdict": {"is": "right"}}
        named = [{"name": name.replace("_", "-"), "runs": runs(took), **right} for name, took in cpu.items()]
        return {"engine": {"version": "1"}, "queries": named}

    def line(self, record: records.Json) -> list[str]:
        printed = shuffle.table([shuffle.Exchange("wide", 64)], {"a": record})
        return [cell.strip() for cell in printed.splitlines()[-1].strip("|").split("|")]

    def test_an_exchange_is_the_query_less_the_reading(self) -> None:
        line = self.line(self.record(wide_read=1.0, wide_64=5.0))
        self.assertEqual(line, ["wide", "64", "a 1", "2.50", "5.00", "2.00", "4.00", "0.50", "0.40"])
        self.assertEqual(self.line(self.record(wide_read=5.0, wide_64=5.0))[-2:], ["-", "0.40"])

    def test_what_failed_has_no_rate(self) -> None:
        self.assertEqual(self.line(self.record(wide_64=5.0))[3:], ["FAIL"] * 6)
        failed = self.record(wide_read=1.0, wide_64=5.0)
        failed["queries"][1]["runs"] = [{"outcome": {"is": "failed"}}]
        self.assertEqual(self.line(failed)[3:], ["FAIL"] * 6)

    def test_answers_about_the_same_rows_must_agree(self) -> None:
        judge, files = shuffle.judge_by_agreement(), {}
        for name, text in {"a": "1", "b": "1", "c": "2"}.items():
            files[name] = self.folder / name
            files[name].write_text(text)
        asked = [("w-read", "a"), ("w-64", "b"), ("w-2", "c")]
        verdicts = [judge(run.Answers(query, files), one) for query, one in asked]
        self.assertEqual([verdict[0]["is"] for verdict in verdicts if verdict], ["right", "right", "wrong"])
        other = judge(run.Answers("n-2", files), "c")
        assert other is not None
        self.assertEqual(other[0], {"is": "right"}, "of other rows it is the first")


class Whole(Case):
    def test_rows_are_made_engines_asked_and_records_written(self) -> None:
        fake = Dialect(lambda kind, count: "SELECT", lambda count: (), "hash {partitions}")
        made = {"narrow": Made(1, 16)}
        words = ["--data", str(self.folder / "rows"), "--out", str(self.folder / "out"), "--engines", "spark-cluster"]
        with (
            mock.patch.dict(dialects.DIALECTS, {"spark-cluster": fake}),
            mock.patch.object(rows, "make", lambda firesteel, data, kinds, size: made),
            mock.patch.object(rows, "info", lambda data, kinds, made: {"path": str(data)}),
            mock.patch.object(Firesteel, "machine", lambda self: {}),
            mock.patch.object(run, "prepare", lambda name, firesteel, place: self.engine(name)),
            contextlib.redirect_stdout(io.StringIO()) as printed,
            contextlib.redirect_stderr(io.StringIO()),
        ):
            code = shuffle.main([*words, "--rows", "narrow", "--partitions", "2", "--iterations", "1"])
        self.assertEqual(code, 0)
        record = json.loads((self.folder / "out" / "shuffle-spark-cluster.json").read_text())
        self.assertEqual([query["name"] for query in record["queries"]], ["narrow-read", "narrow-2"])
        self.assertEqual(record["queries"][0]["verdict"], {"is": "right"})
        self.assertIn("no exchange into 2 partitions", record["queries"][1]["runs"][0]["outcome"]["message"])
        self.assertIn("| narrow | 2 | spark-cluster 1 | FAIL |", printed.getvalue())

    def test_what_is_no_choice_is_refused(self) -> None:
        words = ["--data", "d", "--out", "o"]
        for bad in (["--engines", "duckdb"], ["--engines", "ballista", "--rows", "tall"]):
            with contextlib.redirect_stderr(io.StringIO()) as told, self.assertRaises(SystemExit):
                shuffle.parse([*words, *bad])
            self.assertIn("there is no", told.getvalue())
        for bad in ("0", "x", "2,70000", ""):
            with contextlib.redirect_stderr(io.StringIO()), self.assertRaises(SystemExit):
                shuffle.parse([*words, "--engines", "ballista", "--partitions", bad])


if __name__ == "__main__":
    unittest.main()
