"""Processes that a worker starts: those of a cluster, and a worker of the engine's own that is relayed to."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from common import Usage

READY_SECONDS_MAX = 120.0
POLL_SECONDS = 0.05
END_SECONDS_MAX = 8.0
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
HOST = "127.0.0.1"

Child = subprocess.Popen


class NotReady(Exception):
    """A process ended, or was not ready in time."""


def start(command: Sequence[str], environment: dict[str, str] | None = None, talks: bool = False) -> Child[bytes]:
    """Starts a process that dies with this one. What it prints goes to standard error, unless it is talked to."""
    pipe = subprocess.PIPE if talks else None
    return subprocess.Popen(
        command,
        stdin=pipe or subprocess.DEVNULL,
        stdout=pipe or sys.stderr,
        env={**os.environ, **(environment or {})},
        preexec_fn=die_with_parent,
    )


def die_with_parent() -> None:
    """Lets the kernel kill this process when the thread that started it ends."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def wait_until(is_ready: Callable[[], bool], what: str, children: Sequence[Child[bytes]]) -> None:
    """Waits until something is so. Raises `NotReady` when a child ends first, or it takes too long."""
    deadline = time.monotonic() + READY_SECONDS_MAX
    while not is_ready():
        if lost := ended(children):
            raise NotReady(lost)
        if time.monotonic() > deadline:
            raise NotReady(f"{what}: not within {READY_SECONDS_MAX:g} s")
        time.sleep(POLL_SECONDS)


def ended(children: Sequence[Child[bytes]]) -> str | None:
    """What became of the first child that is no more."""
    for child in children:
        if child.poll() is not None:
            return f"{program(child)} ended with exit code {child.returncode}"
    return None


def program(child: Child[bytes]) -> str:
    """The name of the program that a child runs."""
    words = child.args
    assert isinstance(words, Sequence)
    return os.path.basename(str(words[0]))


def listens(port: int) -> bool:
    """Whether somebody listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


class Relay:
    """An engine that has a worker of its own, which is a child of this process. What the engine uses is measured here."""

    def __init__(self, command: Sequence[str], besides: Sequence[Child[bytes]] = ()) -> None:
        """Starts it and waits for its first message, `told`. The engine is whole while `besides` live too."""
        self._child = start(command, talks=True)
        self._children = (*besides, self._child)
        try:
            self.told = self._message()
            if self.told.get("ready") is not True:
                raise NotReady(str(self.told.get("error", "its own worker is not ready")))
        except Exception:
            self.kill()
            raise

    def greeting(self, _cores: int) -> dict[str, Any]:
        """The first message."""
        return self.told

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The outcome of a request, with what all processes used."""
        usage = Usage()
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(request).encode() + b"\n")
        self._child.stdin.flush()
        outcome = self._message()
        return {**outcome, **usage.until_now()} if outcome["is"] == "done" else outcome

    def lost(self) -> str | None:
        """What became of a process that is no more."""
        return ended(self._children)

    def close(self) -> None:
        """Lets it end by itself, and take what it started with it."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # It dies with this process.
            self._child.wait(END_SECONDS_MAX)

    def kill(self) -> None:
        """Ends it at once."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # What it has not read is lost with it.
                pipe.close()

    def _message(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise NotReady(f"its own worker ended with exit code {self._child.wait()}")
        message: dict[str, Any] = json.loads(line)
        return message
