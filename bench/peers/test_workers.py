"""Tests of what the workers share, and of how engines are installed, without network."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import io
import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

import engines
from engines import Crates, Place, Unusable, Wheels

sys.path.insert(0, str(Path(__file__).resolve().parent / "workers"))
import ballista_worker  # noqa: E402
import children  # noqa: E402
import common  # noqa: E402
import firesteel_worker  # noqa: E402


class Answers(unittest.TestCase):
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

    def test_what_the_engine_tells_is_part_of_the_outcome(self) -> None:
        session = common.Session(
            "fake", "1", lambda sql: common.Answer([], 0, list), told=lambda: {"bytes_shuffled": 7}
        )
        self.assertEqual(common.answer(session, {"sql": ""})["bytes_shuffled"], 7)

    def test_a_worker_whose_engine_is_not_whole_ends(self) -> None:
        def ask(sql: str) -> common.Answer:
            raise ValueError("no connection")

        session = common.Session("fake", "1", ask, lost=lambda: "java ended with exit code 137")
        with self.assertRaises(SystemExit) as end:
            common.answer(session, {"sql": ""})
        self.assertEqual(end.exception.code, "java ended with exit code 137: ValueError: no connection")

    def test_a_cluster_shares_cores_and_memory_out(self) -> None:
        place = common.Place("tpch", Path(), 4, 1000, 2)
        self.assertEqual((place.mode(), place.cores_each()), ("cluster of 2 executors", 2))
        self.assertEqual((place.memory_each(), place.memory_each(400)), (500, 300))
        alone = common.Place("tpch", Path(), 4, None, 1)
        self.assertEqual((alone.mode(), alone.cores_each(), alone.memory_each()), ("cluster of 1 executor", 4, None))
        self.assertEqual(common.Place("tpch", Path(), 4).mode(), "local")


# A worker of an engine's own: it burns as much processor time as it is told.
INNER = """
import json, sys, time
print(json.dumps({"ready": True, "mode": "m"}), flush=True)
for line in sys.stdin:
    deadline = time.process_time() + float(json.loads(line)["sql"])
    while time.process_time() < deadline:
        pass
    print(json.dumps({"is": "done", "seconds": 0.5, "rows": 1}), flush=True)
"""

# One that ends on what is no part of a request, as an engine's own program does.
STRICT = """
import json, sys
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    assert set(json.loads(line)) == {"query", "sql", "answer"}, line
    print(json.dumps({"is": "done", "seconds": 0.5, "rows": 1}), flush=True)
"""

UNREADY = '{"ready": false, "error": "no such folder"}'


class Children(unittest.TestCase):
    def relay(self, text: str, besides: list[children.Child[bytes]] | None = None) -> children.Relay:
        relay = children.Relay([sys.executable, "-c", text], besides or [])
        self.addCleanup(relay.kill)
        return relay

    def test_what_a_child_uses_is_measured_and_what_it_says_is_relayed(self) -> None:
        relay = self.relay(INNER)
        self.assertEqual(relay.greeting(2), {"ready": True, "mode": "m"})
        outcome = relay.answer({"query": "q01", "sql": "0.2"})
        self.assertEqual((outcome["is"], outcome["seconds"], outcome["rows"]), ("done", 0.5, 1))
        self.assertGreaterEqual(outcome["cpu_seconds"], 0.15)
        self.assertGreater(outcome["peak_memory_bytes"], 1 << 20)
        relay.close()
        self.assertEqual(relay._child.returncode, 0)

    def test_an_engines_own_program_hears_nothing_of_what_may_be_lost(self) -> None:
        other = children.start(["true"])
        other.wait()
        relay = self.relay(STRICT, [other])
        request = {"query": "q01", "sql": "", "answer": None, "may_lose": True}
        self.assertEqual(common.answer(relay, request)["is"], "done")

    def test_an_engine_without_one_of_its_processes_is_lost(self) -> None:
        other = children.start(["sleep", "60"])
        relay = self.relay(INNER, [other])
        self.assertIsNone(relay.lost())
        other.kill()
        other.wait()
        self.assertEqual(relay.lost(), "sleep ended with exit code -9")

    def test_a_child_that_is_not_ready_says_why(self) -> None:
        with self.assertRaisesRegex(children.NotReady, "no such folder"):
            self.relay(f"print({UNREADY!r})")
        with self.assertRaisesRegex(children.NotReady, "exit code 3"):
            self.relay("import sys; sys.exit(3)")

    def test_waiting_ends_with_a_child_or_with_time(self) -> None:
        child = children.start(["false"])
        with self.assertRaisesRegex(children.NotReady, "false ended with exit code 1"):
            children.wait_until(lambda: False, "it is there", [child])
        with mock.patch("children.READY_SECONDS_MAX", 0.1), self.assertRaisesRegex(children.NotReady, "it is there"):
            children.wait_until(lambda: False, "it is there", [])

    def test_a_child_dies_with_its_parent(self) -> None:
        parent = "import children, time; print(children.start(['sleep', '60']).pid, flush=True); time.sleep(60)"
        with subprocess.Popen(
            [sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, cwd=Path(children.__file__).parent
        ) as process:
            assert process.stdout is not None
            child = int(process.stdout.readline())
            process.kill()
        deadline = time.monotonic() + 5
        while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertFalse(Path(f"/proc/{child}").exists())

    def test_ports_are_free(self) -> None:
        port = children.free_port()
        self.assertFalse(children.listens(port))


class Exchanges(unittest.TestCase):
    """What workers do otherwise when exchanges are asked for."""

    def place(self, folder: str) -> common.Place:
        (Path(folder) / "rows").mkdir()
        (Path(folder) / "rows" / "part-0.parquet").touch()
        return common.Place("shuffle", Path(folder), 2, None, 2)

    def test_firesteel_is_told_the_tables(self) -> None:
        relay = mock.Mock(answer=mock.Mock(return_value={"is": "done"}))
        with tempfile.TemporaryDirectory() as folder:
            firesteel_worker.tell_tables(relay, self.place(folder))
        *_, last = (call.args[0]["sql"] for call in relay.answer.call_args_list)
        self.assertEqual(last, f"CREATE EXTERNAL TABLE rows STORED AS PARQUET LOCATION '{folder}/rows/'")

    def test_a_table_that_is_refused_is_a_worker_that_is_not_ready(self) -> None:
        relay = mock.Mock(answer=mock.Mock(return_value={"is": "failed", "message": "no such file"}))
        with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(children.NotReady, "no such file"):
            firesteel_worker.tell_tables(relay, self.place(folder))
        relay.kill.assert_called_once()

    def test_the_adaptive_planner_of_ballista_is_for_other_queries(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            settings = ballista_worker.chosen_settings(self.place(folder))
        self.assertEqual(settings["ballista.planner.adaptive.enabled"], "false")
        other = ballista_worker.chosen_settings(common.Place("tpch", Path(), 2, None, 2))
        self.assertEqual(other["ballista.planner.adaptive.enabled"], "true")


class Installing(unittest.TestCase):
    """With programs in place of pip and cargo."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "package").mkdir()
        (self.folder / "package" / "Cargo.toml").write_text("[package]")
        self.crates = Crates("1", self.folder / "package", ("one", "two"))
        for name, value in {"CACHE": self.folder / "cache", "RELEASES": {"ballista": self.crates}}.items():
            patch = mock.patch.object(engines, name, value)
            patch.start()
            self.addCleanup(patch.stop)
        self.path = mock.patch.dict(os.environ, {"PATH": f"{self.folder / 'bin'}:/usr/bin:/bin"})
        self.path.start()
        self.addCleanup(self.path.stop)
        told = contextlib.redirect_stderr(io.StringIO())
        self.told = told.__enter__()
        self.addCleanup(told.__exit__, None, None, None)

    def cargo(self, text: str) -> None:
        program = self.folder / "bin" / "cargo"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)

    def install(self) -> Path:
        return engines.install_crates("ballista", self.crates)

    def test_programs_are_built_once(self) -> None:
        # "--target-dir" is the fourth word after the program's name.
        self.cargo('pwd >> ../built; mkdir -p "$5/release"; echo 1 > "$5/release/one"; echo 2 > "$5/release/two"')
        programs = self.install()
        self.assertEqual(self.install(), programs)
        self.assertEqual(sorted(path.name for path in programs.iterdir()), ["one", "two"])
        self.assertFalse((programs.parent / "target").exists())
        self.assertEqual(len((self.folder / "built").read_text().splitlines()), 1)
        self.assertIn("a Rust build of half an hour or more", self.told.getvalue())
        (self.crates.folder / "Cargo.toml").write_text("[package] # changed")
        self.install()
        self.assertEqual(len((self.folder / "built").read_text().splitlines()), 2)

    def test_what_cannot_be_built_says_why(self) -> None:
        with mock.patch.dict(os.environ, {"PATH": ""}), self.assertRaisesRegex(Unusable, "no cargo on the PATH"):
            self.install()
        self.cargo("echo 'error: no such crate' >&2; echo 'error: could not compile' >&2; echo 'hint' >&2; exit 101")
        with self.assertRaisesRegex(Unusable, "no such crate$"):
            self.install()
        with mock.patch.object(engines, "BUILD_SECONDS_MAX", 0.1), self.assertRaisesRegex(Unusable, "timed out"):
            self.cargo("exec sleep 60")
            self.install()

    def test_what_pip_says_is_its_own_error(self) -> None:
        printed = "ERROR: no\nERROR: No matching distribution found for x\n\n[notice] A new release of pip"
        self.assertEqual(engines.reason(printed), "ERROR: No matching distribution found for x")
        self.assertEqual(engines.reason("boom\nbang\n"), "bang")
        self.assertEqual(engines.reason(""), "no reason was given")

    def test_without_java_spark_is_left_out(self) -> None:
        with mock.patch.dict(os.environ, {"PATH": ""}), self.assertRaisesRegex(Unusable, "no java"):
            engines.install_wheels("spark", Wheels("1", (), needs_java=True))

    def test_workers_are_told_what_they_get(self) -> None:
        place = Place("tpch", Path("/data"), 4, 2, 1 << 30)
        common_words = ("tpch", "--data", "/data", "--cores", "4", "--memory", "1073741824")
        local = engines.prepare("firesteel", Path("/f"), place).command
        self.assertEqual(local, ("/f", "bench", "worker", "--local", *common_words))
        cluster = engines.prepare("firesteel-cluster", Path("/f"), place).command
        worker = str(engines.HERE / "workers" / "firesteel_worker.py")
        self.assertEqual(cluster, (sys.executable, worker, *common_words, "--executors", "2", "--programs", "/f"))

    def test_a_variant_is_the_engine_with_other_variables(self) -> None:
        place = Place("shuffle", Path("/data"), 2, 2, None)
        plain = engines.prepare("firesteel-cluster", Path("/f"), place).command
        tcp = engines.prepare("firesteel-cluster-tcp", Path("/f"), place)
        self.assertEqual(tcp.name, "firesteel-cluster-tcp")
        self.assertEqual(tcp.command, ("env", "FIRESTEEL_EXECUTOR_TRANSPORT=tcp", *plain))

    def test_every_engine_has_a_worker(self) -> None:
        for name in engines.NAMES:
            self.assertTrue((engines.HERE / "workers" / f"{name.removesuffix('-cluster')}_worker.py").exists(), name)
        self.assertLessEqual(set(engines.CLUSTERS), set(engines.NAMES))


if __name__ == "__main__":
    unittest.main()
