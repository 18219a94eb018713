"""Tests of killing executors, with an engine that is made of a few lines of Python."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
import unittest
from pathlib import Path
from unittest import mock

import kill
import run
from engines import Engine
from test_peers import Case

# Its one executor is a child that sleeps. A query takes a while; what it answers when that child is gone is in the SQL.
FAKE = """
import json, subprocess, sys, time
child = subprocess.Popen([sys.argv[1], "-c", "import time; time.sleep(60)", "executor"])
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    time.sleep(0 if "quick" in request["sql"] else 0.4)
    gone = child.poll() is not None
    if gone and "dies" in request["sql"]:
        sys.exit(7)
    if gone and "fails" in request["sql"]:
        print(json.dumps({"is": "failed", "kind": "error", "message": "lost an executor"}), flush=True)
        continue
    if request["answer"]:
        with open(request["answer"], "w") as file:
            file.write("wrong" if gone and "wrong" in request["sql"] else "right")
    print(json.dumps({"is": "done", "seconds": 0.4 + gone * request.get("may_lose", 0)}), flush=True)
child.kill()
"""


def same(query: str, right: Path, answer: Path) -> bool:
    return right.read_text() == answer.read_text()


class Kills(Case):
    def setUp(self) -> None:
        super().setUp()
        (self.folder / "fake.py").write_text(FAKE)
        words = {"fake": (os.path.basename(sys.executable), "executor")}
        patched = mock.patch.dict(kill.EXECUTORS, words)
        patched.start()
        self.addCleanup(patched.stop)

    def round(self, sql: str) -> kill.Round:
        engine = Engine("fake", (sys.executable, str(self.folder / "fake.py"), sys.executable))
        return kill.Kills(self.folder, 10.0, same).round(engine, run.Query("q01", sql))

    def test_the_answer_counts_and_what_it_takes_longer(self) -> None:
        one = self.round("")
        self.assertEqual((one.undisturbed, one.disturbed, one.is_right), (0.4, 1.4, True))
        self.assertEqual(kill.cells("q01", "fake", [one]), ["q01", "fake", "1 of 1", "0.40", "1.40", "+1.00"])

    def test_another_answer_is_none(self) -> None:
        one = self.round("wrong")
        self.assertEqual((one.is_right, one.why), (False, "the answer is another one"))
        self.assertEqual(kill.cells("q01", "fake", [one]), ["q01", "fake", "0 of 1", "-", "-", "-"])

    def test_a_query_that_fails_and_an_engine_that_dies_are_told(self) -> None:
        self.assertEqual(self.round("fails").why, "lost an executor")
        self.assertIn("exit code 7", self.round("dies").why)

    def test_a_query_that_is_over_before_says_so(self) -> None:
        one = self.round("quick")
        self.assertIsNone(one.disturbed)
        self.assertIn("nothing was killed", one.why)

    def test_rounds_are_kept_and_engines_take_turns(self) -> None:
        engines = [Engine("fake", (sys.executable, str(self.folder / "fake.py"), sys.executable))]
        kills = kill.Kills(self.folder, 10.0, same)
        with contextlib.redirect_stderr(io.StringIO()):
            told = kill.run_all(engines, [run.Query("q01", "")], 2, kills, self.folder)
        kept = json.loads((self.folder / "kill.json").read_text())["rounds"]
        self.assertEqual([one["is_right"] for one in kept], [True, True])
        self.assertIn("| q01 | fake | 2 of 2 |", kill.table(told))


class Processes(unittest.TestCase):
    def test_a_process_is_known_by_its_words(self) -> None:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "executor"])
        try:
            name = os.path.basename(sys.executable)
            deadline = time.monotonic() + 10
            # A program may be started by way of another one.
            while not kill.runs(child.pid, (name, "executor")) and time.monotonic() < deadline:
                time.sleep(0.01)
            self.assertTrue(kill.runs(child.pid, (name, "executor")))
            self.assertFalse(kill.runs(child.pid, (name, "worker")))
            self.assertFalse(kill.runs(child.pid, ("java", "executor")))
        finally:
            child.kill()
            child.wait()
        self.assertFalse(kill.runs(child.pid, (name, "executor")))


if __name__ == "__main__":
    unittest.main()
