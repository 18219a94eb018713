"""Firesteel as a cluster: a manager and a worker for each executor, which `firesteel local-cluster` starts."""

from __future__ import annotations

from children import Relay
from common import Place, serve


def connect(place: Place) -> Relay:
    firesteel = str(place.programs)
    cluster = [firesteel, "local-cluster", "--quiet", "--port", "0", "--workers", str(place.executors)]
    cluster += ["--cores-per-executor", str(place.cores_each())]
    if (memory := place.memory_each()) is not None:
        cluster += ["--memory", str(memory)]
    worker = [firesteel, "bench", "worker", "--quiet", place.benchmark, "--data", str(place.data)]
    # The cluster lives as long as the command that is run against it.
    return Relay([*cluster, "--", *worker])


if __name__ == "__main__":
    serve(connect)
