"""One engine in a process of its own, asked over JSON lines on its standard input and output."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# A Java virtual machine that finds a busy machine needs most of a minute, and a cluster starts six of them.
START_SECONDS_MAX = 300.0
END_SECONDS_MAX = 10.0
# Between signals to processes that have not ended.
KILL_SECONDS = 0.01
MESSAGE_CHARACTERS_MAX = 2000

Message = dict[str, Any]


class WorkerDied(Exception):
    """The worker ended, or said what is no message; it was killed."""


class WorkerLate(Exception):
    """The worker did not answer in time; it was killed."""


def failed(kind: str, message: str) -> Message:
    """The outcome of a run without an answer."""
    return {"is": "failed", "kind": kind, "message": message[:MESSAGE_CHARACTERS_MAX]}


def session(leader: int) -> list[int]:
    """The processes of a session that have not ended."""
    return [int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat") if runs_in(leader, stat)]


def runs_in(leader: int, stat: Path) -> bool:
    """Whether that is the state of a process of the session which is no zombie."""
    try:
        # The name of the program, in parentheses, may have blanks in it.
        state, _, _, of, *_ = stat.read_text().rpartition(")")[2].split()
    except (OSError, ValueError):  # It ended in this moment.
        return False
    return int(of) == leader and state not in "ZX"


class Worker:
    """A process that answers queries. What it prints on standard error goes to `log`."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """Starts it and waits until it is ready: `ready` is its first message. Raises `WorkerDied` and `WorkerLate`."""
        self._log = log
        # Where it works and keeps temporary files, so that nothing is left of it anywhere.
        self._folder = Path(tempfile.mkdtemp(prefix="firesteel-peers-"))
        with log.open("ab") as errors:
            self._log_start = errors.tell()
            try:
                # In a session of its own, so that all its processes can be killed together.
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,
                    cwd=self._folder,
                    env={**os.environ, "TMPDIR": str(self._folder)},
                )
            except OSError as fault:
                shutil.rmtree(self._folder)
                raise WorkerDied(f"it cannot be started: {fault}") from fault
        assert self._process.stdin is not None
        self._stdin = self._process.stdin
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self.ready = self._message(START_SECONDS_MAX)
        if self.ready.get("ready") is not True:
            self.kill()
            raise WorkerDied(str(self.ready.get("error", "it is not ready and does not say why")))

    def processes(self) -> list[int]:
        """It and all that it started, in the order of their numbers."""
        return sorted(session(self._process.pid))

    def ask(
        self, query: str, sql: str, answer: Path | None, seconds_max: float, may_lose: bool = False
    ) -> Message:
        """The outcome of a query; when it `may_lose` processes meanwhile, also that of an engine which is not whole any
        more. Raises `WorkerDied` and `WorkerLate`."""
        request: Message = {"query": query, "sql": sql, "answer": None if answer is None else str(answer)}
        if may_lose:
            request["may_lose"] = True
        try:
            self._stdin.write(json.dumps(request).encode() + b"\n")
            self._stdin.flush()
        except OSError as fault:
            self.kill()
            raise WorkerDied(self._last_words()) from fault
        outcome = self._message(seconds_max)
        if outcome.get("is") not in ("done", "failed"):
            self.kill()
            raise WorkerDied(f"it said what is no outcome: {json.dumps(outcome)[:200]}")
        return outcome

    def close(self) -> None:
        """Lets it end by itself, and kills what is left of it."""
        with contextlib.suppress(OSError):  # It is gone already.
            self._stdin.close()
        deadline = time.monotonic() + END_SECONDS_MAX
        try:
            while self._lines.get(timeout=max(0.0, deadline - time.monotonic())) is not None:
                pass
        except queue.Empty:
            pass
        self.kill()

    def kill(self) -> None:
        """Kills it and every process of its session, and removes its folder."""
        if self._process.returncode is not None:
            return
        # The leader is reaped after this only, so the number cannot be another session's by now. A process may start
        # another one while it is being killed, and one with a process group of its own is still of the session.
        deadline = time.monotonic() + END_SECONDS_MAX
        while (members := session(self._process.pid)) and time.monotonic() < deadline:
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(KILL_SECONDS)
        self._process.wait()
        with contextlib.suppress(OSError):  # What it has not read is lost with it.
            self._stdin.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            for line in stdout:
                self._lines.put(line)
        self._lines.put(None)

    def _message(self, seconds_max: float) -> Message:
        try:
            line = self._lines.get(timeout=seconds_max)
        except queue.Empty:
            self.kill()
            raise WorkerLate(f"stopped after {seconds_max:g} s") from None
        if line is None:
            self.kill()
            raise WorkerDied(self._last_words())
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            self.kill()
            raise WorkerDied(f"it said what is no message: {line[:200].decode(errors='replace').strip()}")
        return message

    def _last_words(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").strip().splitlines()
        code = self._process.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"its process {how}" + (f": {lines[-1]}" if lines else "")
