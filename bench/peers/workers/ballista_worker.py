"""Ballista: a scheduler and its executors, which are children of this process, asked by a client that is one too."""

from __future__ import annotations

import json
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from children import HOST, Child, Relay, free_port, listens, start, wait_until
from common import Place, serve


def connect(place: Place) -> Relay:
    programs = place.programs or Path()
    port = free_port()
    scheduler = start_program(programs / "ballista-scheduler", {"bind-port": port})
    wait_until(lambda: listens(port), "the scheduler listens", [scheduler])
    cluster = [scheduler, *(start_executor(place, port, number) for number in range(place.executors or 0))]
    wait_until(lambda: executors(port) >= (place.executors or 0), "all executors are there", cluster)
    settings = chosen_settings(place)
    client = [str(programs / "ballista-client"), f"df://{HOST}:{port}", str(place.data)]
    relay = Relay([*client, *(f"{key}={value}" for key, value in settings.items())], cluster)
    memory = place.memory_each()
    relay.told |= {
        "engine": {"name": "ballista", "version": version(programs / "ballista-executor"), "commit": None},
        "mode": place.mode(),
        "cores": place.cores,
        "settings": settings if memory is None else {**settings, "memory-pool-size": f"{memory} bytes"},
    }
    return relay


def start_executor(place: Place, scheduler: int, number: int) -> Child[bytes]:
    """Starts an executor with a folder and ports of its own."""
    folder = Path(tempfile.gettempdir()) / f"executor-{number}"
    folder.mkdir()
    options: dict[str, object] = {
        "bind-port": free_port(),
        "bind-grpc-port": free_port(),
        "scheduler-host": HOST,
        "scheduler-port": scheduler,
        "concurrent-tasks": place.cores_each(),
        "work-dir": folder,
    }
    if (memory := place.memory_each()) is not None:
        options["memory-pool-size"] = memory
    return start_program((place.programs or Path()) / "ballista-executor", options)


def start_program(program: Path, options: dict[str, object]) -> Child[bytes]:
    """Starts a program that only this machine can reach, and that does not spend its time on logs."""
    local = {"bind-host": HOST, "external-host": HOST, "log-level-setting": "WARN"}
    words = [word for key, value in {**local, **options}.items() for word in (f"--{key}", str(value))]
    return start([str(program), *words])


def executors(scheduler: int) -> int:
    """How many executors the scheduler knows."""
    with urllib.request.urlopen(f"http://{HOST}:{scheduler}/api/executors", timeout=5) as answer:
        return len(json.load(answer))


def chosen_settings(place: Place) -> dict[str, str]:
    """Settings of the session. The default of 16 partitions is for more cores."""
    partitions = {"datafusion.execution.target_partitions": str(place.cores)}
    if place.benchmark == "shuffle":
        # The adaptive planner may send the other side of the join everywhere, and no row through an exchange. And
        # one into a thousand partitions would have its input cut into a thousand pieces too.
        return {
            **partitions,
            "ballista.planner.adaptive.enabled": "false",
            "datafusion.optimizer.repartition_file_scans": "false",
        }
    return {**partitions, "ballista.planner.adaptive.enabled": "true"}


def version(program: Path) -> str:
    """The release of a program, which prints its name before."""
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]


if __name__ == "__main__":
    serve(connect)
