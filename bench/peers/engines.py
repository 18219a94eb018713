"""The engines that can be run, their pinned releases, and how each is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path.home() / ".cache" / "firesteel-peers"
PIP_SECONDS_MAX = 1800


@dataclass(frozen=True)
class Peer:
    """An engine from PyPI."""

    version: str
    requirements: tuple[str, ...]
    needs_java: bool = False


# The one place that says which releases are measured. pyarrow carries answers out of the engines without turning every
# value into a Python object within the timed part.
PEERS: dict[str, Peer] = {
    "duckdb": Peer("2.0.1", ("duckdb==2.0.1", "pyarrow==26.0.1")),
    "polars": Peer("2.1.0", ("polars==2.1.0",)),
    "datafusion": Peer("55.0.0", ("datafusion==55.0.0", "pyarrow==26.0.1")),
    "sail": Peer("0.7.2", ("pysail==0.7.2", "pyspark-client==4.2.0", "pyarrow==26.0.1")),
    "spark": Peer("4.3.0", ("pyspark==4.3.0", "pyarrow==26.0.1"), needs_java=True),
}
NAMES = ("firesteel", *PEERS)


class Unusable(Exception):
    """An engine that cannot run here; the text says why in one line."""


@dataclass(frozen=True)
class Engine:
    """An engine that is ready to be started: its name and the command of its worker."""

    name: str
    command: tuple[str, ...]


def prepare(name: str, firesteel: Path, benchmark: str, data: Path, cores: int) -> Engine:
    """Installs the engine if need be. Raises `Unusable`."""
    arguments = (benchmark, "--data", str(data), "--cores", str(cores))
    if name == "firesteel":
        return Engine(name, (str(firesteel), "bench", "worker", *arguments))
    python = install(name, PEERS[name])
    return Engine(name, (str(python), str(HERE / "workers" / f"{name}_worker.py"), *arguments))


def install(name: str, peer: Peer) -> Path:
    """The Python of the engine's own virtual environment, which is made when it is not there."""
    if peer.needs_java and shutil.which("java") is None:
        raise Unusable("there is no java on the PATH")
    folder = CACHE / f"{name}-{peer.version}"
    python, installed = folder / "bin" / "python", folder / "firesteel-installed"
    wanted = "\n".join(peer.requirements) + "\n"
    # Written last, so an installation that broke off is begun anew.
    if python.exists() and installed.exists() and installed.read_text() == wanted:
        return python
    print(f"{name}: installing {', '.join(peer.requirements)}", file=sys.stderr)
    folder.parent.mkdir(parents=True, exist_ok=True)
    must_run([sys.executable, "-m", "venv", "--clear", str(folder)])
    must_run([str(python), "-m", "pip", "install", "--quiet", *peer.requirements])
    installed.write_text(wanted)
    return python


def must_run(command: list[str]) -> None:
    """Runs a step of an installation. Raises `Unusable` with the last line that it printed."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PIP_SECONDS_MAX, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise Unusable(f"it cannot be installed: {fault}") from fault
    if done.returncode != 0:
        printed = (done.stderr or done.stdout).strip().splitlines() or ["no reason was given"]
        # pip ends with advice; its own line of the error comes before that.
        errors = [line for line in printed if line.startswith("ERROR:")] or printed
        raise Unusable(f"it cannot be installed: {errors[-1]}")
