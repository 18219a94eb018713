"""What the driver asks of the `firesteel` binary: facts about data and machine, verdicts, and the report."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

SECONDS_MAX = 120
# Of a statement that writes files of rows.
SQL_SECONDS_MAX = 1800
# The smallest data that there is: for commands that want some, whatever it holds.
SMALLEST_SCALE = "0.001"


class CannotDo(Exception):
    """The binary is missing or has no such command; the text says so in one line."""


class Firesteel:
    """The commands of one binary."""

    def __init__(self, binary: Path) -> None:
        self.binary = binary

    def info(self, benchmark: str, data: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a record says of the data and of the machine. Raises `CannotDo`."""
        printed = self._run("info", benchmark, "--data", str(data))
        try:
            told = json.loads(printed)
            return told["data"], told["machine"]
        except (ValueError, KeyError, TypeError) as fault:
            raise CannotDo(f"{self.binary} bench info printed what is no description of the data") from fault

    def check(self, benchmark: str, query: str, right: float | Path, answer: Path) -> dict[str, Any]:
        """The verdict on an answer, held against the stored one of a scale or against one in a file. Raises `CannotDo`,
        also when no answer is stored."""
        source = ("--right", str(right)) if isinstance(right, Path) else ("--scale", repr(right))
        printed = self._run("check", benchmark, query, *source, "--answer", str(answer))
        try:
            verdict = json.loads(printed)
        except ValueError as fault:
            raise CannotDo(f"{self.binary} bench check printed what is no verdict") from fault
        if not isinstance(verdict, dict) or verdict.get("is") not in ("right", "wrong"):
            raise CannotDo(f"{self.binary} bench check printed what is no verdict: {printed.strip()}")
        return verdict

    def report(self, records: list[Path], html: Path) -> None:
        """Writes a page about several records. Raises `CannotDo`."""
        self._run("report", *map(str, records), "--html", str(html))

    def machine(self) -> dict[str, Any]:
        """What a record says of the machine. Raises `CannotDo`."""
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "tpch"
            self.generate_smallest(data)
            return self.info("tpch", data)[1]

    def generate_smallest(self, folder: Path) -> None:
        """Makes a small folder of TPC-H data. Raises `CannotDo`."""
        self._run("gen", "tpch", "--scale", SMALLEST_SCALE, "--out", str(folder))

    def sql(self, statement: str) -> str:
        """Runs a statement in local mode: its rows as CSV with a header. Raises `CannotDo`."""
        return self._call(["sql", "--quiet", "--format", "csv", "-c", statement], "sql", SQL_SECONDS_MAX)

    def _run(self, verb: str, *arguments: str) -> str:
        return self._call(["bench", verb, *arguments], f"bench {verb}", SECONDS_MAX)

    def _call(self, words: list[str], what: str, seconds_max: float) -> str:
        command = [str(self.binary), *words]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds_max, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.TimeoutExpired) as fault:
            raise CannotDo(f"{self.binary} {what}: {fault}") from fault
        if done.returncode != 0:
            # Its first line is the message; detail and hint follow.
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise CannotDo(f"{self.binary} {what}: {said[0]}")
        return done.stdout
