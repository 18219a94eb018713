"""The engines that can be run, their pinned releases, and how each is installed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path.home() / ".cache" / "firesteel-peers"
PIP_SECONDS_MAX = 1800
# DataFusion and all that hangs on it, on a machine that does other work as well.
BUILD_SECONDS_MAX = 6 * 3600


@dataclass(frozen=True)
class Wheels:
    """A release that PyPI has for this machine: an environment of its own."""

    version: str
    requirements: tuple[str, ...]
    needs_java: bool = False


@dataclass(frozen=True)
class Crates:
    """A release that is built from source: programs that cargo makes of the package `folder` and of its dependencies."""

    version: str
    folder: Path
    programs: tuple[str, ...]


Release = Wheels | Crates

# The one place that says which releases are measured. pyarrow carries answers out of the engines without turning every
# value into a Python object within the timed part. Those of ballista are pinned in its Cargo.lock.
RELEASES: dict[str, Release] = {
    "duckdb": Wheels("2.0.1", ("duckdb==2.0.1", "pyarrow==26.0.1")),
    "polars": Wheels("2.1.0", ("polars==2.1.0",)),
    "datafusion": Wheels("55.0.0", ("datafusion==55.0.0", "pyarrow==26.0.1")),
    "sail": Wheels("0.7.2", ("pysail==0.7.2", "pyspark-client==4.2.0", "pyarrow==26.0.1")),
    "spark": Wheels("4.3.0", ("pyspark==4.3.0", "pyarrow==26.0.1"), needs_java=True),
    "ballista": Crates("54.1.0", HERE / "ballista", ("ballista-client", "ballista-scheduler", "ballista-executor")),
}
# As they are named on the command line, those of one release side by side.
NAMES = (
    "firesteel",
    "firesteel-cluster",
    "duckdb",
    "polars",
    "datafusion",
    "sail",
    "sail-cluster",
    "spark",
    "spark-cluster",
    "ballista",
)
CLUSTERS = ("firesteel-cluster", "sail-cluster", "spark-cluster", "ballista")
# An engine of those in another setting, as environment variables: only asked by its name.
VARIANTS = {"firesteel-cluster-tcp": ("firesteel-cluster", ("FIRESTEEL_EXECUTOR_TRANSPORT=tcp",))}


class Unusable(Exception):
    """An engine that cannot run here; the text says why in one line."""


@dataclass(frozen=True)
class Engine:
    """An engine that is ready to be started: its name and the command of its worker."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """What every engine of a run gets. A cluster shares cores and memory out among its executors."""

    benchmark: str
    data: Path
    cores: int
    executors: int
    memory_bytes: int | None


def prepare(name: str, firesteel: Path, place: Place) -> Engine:
    """Installs the engine if need be. Raises `Unusable`."""
    if name in VARIANTS:
        base, variables = VARIANTS[name]
        return Engine(name, ("env", *variables, *prepare(base, firesteel, place).command))
    arguments = [place.benchmark, "--data", str(place.data), "--cores", str(place.cores)]
    if place.memory_bytes is not None:
        # In bytes, as all of them read it.
        arguments += ["--memory", str(place.memory_bytes)]
    if name == "firesteel":
        return Engine(name, (str(firesteel), "bench", "worker", "--local", *arguments))
    if name in CLUSTERS:
        arguments += ["--executors", str(place.executors)]
    base = name.removesuffix("-cluster")
    if base == "firesteel":
        python = sys.executable
        arguments += ["--programs", str(firesteel)]
    elif isinstance(release := RELEASES[base], Wheels):
        python = str(install_wheels(base, release))
    else:
        python = sys.executable
        arguments += ["--programs", str(install_crates(base, release))]
    return Engine(name, (python, str(HERE / "workers" / f"{base}_worker.py"), *arguments))


def install_wheels(name: str, release: Wheels) -> Path:
    """The Python of the engine's own virtual environment, which is made when it is not there."""
    if release.needs_java and shutil.which("java") is None:
        raise Unusable("there is no java on the PATH")
    folder = CACHE / f"{name}-{release.version}"
    python, wanted = folder / "bin" / "python", "\n".join(release.requirements) + "\n"
    if python.exists() and is_installed(folder, wanted):
        return python
    print(f"{name}: installing {', '.join(release.requirements)}", file=sys.stderr)
    folder.parent.mkdir(parents=True, exist_ok=True)
    must_run([sys.executable, "-m", "venv", "--clear", str(folder)], PIP_SECONDS_MAX)
    must_run([str(python), "-m", "pip", "install", "--quiet", *release.requirements], PIP_SECONDS_MAX)
    mark_installed(folder, wanted)
    return python


def install_crates(name: str, release: Crates) -> Path:
    """The folder of the engine's programs, which are built when they are not there."""
    folder = CACHE / f"{name}-{release.version}"
    programs, wanted = folder / "bin", checksum(release.folder) + "\n"
    if all((programs / program).exists() for program in release.programs) and is_installed(folder, wanted):
        return programs
    if shutil.which("cargo") is None:
        raise Unusable("it is built from source, and there is no cargo on the PATH")
    print(f"{name}: building release {release.version}, a Rust build of half an hour or more", file=sys.stderr)
    target = folder / "target"
    programs.mkdir(parents=True, exist_ok=True)
    # All at once, so that what they share is built once.
    packages = [word for program in release.programs for word in ("--package", program)]
    command = ["cargo", "build", "--release", "--locked", "--target-dir", str(target), *packages]
    must_run(command, BUILD_SECONDS_MAX, release.folder)
    for program in release.programs:
        os.replace(target / "release" / program, programs / program)
    shutil.rmtree(target)
    mark_installed(folder, wanted)
    return programs


def checksum(folder: Path) -> str:
    """Stands for all files that are built."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def is_installed(folder: Path, wanted: str) -> bool:
    """Whether an installation of what is wanted came to its end."""
    marker = folder / "firesteel-installed"
    return marker.exists() and marker.read_text() == wanted


def mark_installed(folder: Path, wanted: str) -> None:
    """Says that an installation came to its end; one that broke off is begun anew."""
    (folder / "firesteel-installed").write_text(wanted)


def must_run(command: list[str], seconds_max: float, folder: Path | None = None) -> None:
    """Runs a step of an installation. Raises `Unusable` with the line in which it said why it failed."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds_max, stdin=subprocess.DEVNULL, cwd=folder
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise Unusable(f"it cannot be installed: {fault}") from fault
    if done.returncode != 0:
        raise Unusable(f"it cannot be installed: {reason(done.stderr or done.stdout)}")


def reason(printed: str) -> str:
    """The line that says what went wrong: pip and cargo go on with advice after it."""
    lines = printed.strip().splitlines() or ["no reason was given"]
    errors = [line for line in lines if line.lower().startswith("error")] or lines[-1:]
    # cargo names the error first, then the packages that fell with it.
    return errors[-1] if errors[-1].startswith("ERROR:") else errors[0]
