"""Spark: a Java virtual machine that this process starts and talks to, in local mode or as the driver of a cluster."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from children import HOST, Child, ended, free_port, listens, start, wait_until
from common import Answer, Place, Session, arrow_answer, serve

# Spark's own default is 1 GiB, on any machine.
HEAP_SHARE_OF_MEMORY = 0.5
# Of a cluster: the heap of the driver, which gets the rows of the answer, and of a daemon, which handles no rows.
DRIVER_BYTES = 1 << 30
DAEMON_MEMORY = "256m"


def connect(place: Place) -> Session:
    prepare_environment()
    import pyarrow
    import pyspark
    from pyspark.sql import SparkSession

    place = with_memory(place)
    daemons: list[Child[bytes]] = []
    master = f"local[{place.cores}]"
    if place.executors is not None:
        master, daemons = start_daemons(place)
    settings = chosen_settings(place)
    builder = SparkSession.builder.master(master).appName("firesteel-peers")
    quiet = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
    loopback = {"spark.driver.host": HOST, "spark.driver.bindAddress": HOST}
    for key, value in {**settings, **quiet, **loopback}.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    if place.executors is not None:
        wait_until(lambda: executors(spark) >= (place.executors or 0), "all executors are there", daemons)
    for table in place.tables():
        spark.read.parquet(str(place.data / table)).createOrReplaceTempView(table)

    def ask(sql: str) -> Answer:
        return arrow_answer(spark.sql(sql).toArrow())

    java = spark.sparkContext._jvm.java.lang.System.getProperty("java.version")
    processes = [spark.sparkContext._gateway.proc, *daemons]
    versions = {"java": java, "pyarrow": pyarrow.__version__}
    lost, told = (lambda: ended(processes)), Stages(spark).told
    return Session("spark", pyspark.__version__, ask, settings, versions, place.mode(), lost, told)


def prepare_environment() -> None:
    """Keeps what all Java virtual machines write within the folder of this run, and what they listen on local."""
    folder = tempfile.gettempdir()
    os.environ["SPARK_LOCAL_DIRS"] = folder
    os.environ["SPARK_LOCAL_IP"] = HOST
    os.environ["JAVA_TOOL_OPTIONS"] = f"-Djava.io.tmpdir={folder} -XX:-UsePerfData"


def with_memory(place: Place) -> Place:
    """The place with the memory that is used when none was said."""
    all_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    memory = place.memory_bytes or int(all_bytes * HEAP_SHARE_OF_MEMORY)
    return Place(place.benchmark, place.data, place.cores, memory, place.executors, place.programs)


def start_daemons(place: Place) -> tuple[str, list[Child[bytes]]]:
    """Starts a master and a worker for each executor, without ssh: the URL of the master, and the processes."""
    import pyspark

    home = Path(pyspark.__file__).parent
    environment = {"SPARK_HOME": str(home), "SPARK_DAEMON_MEMORY": DAEMON_MEMORY}
    program, deploy = str(home / "bin" / "spark-class"), "org.apache.spark.deploy"
    local, port = ["--host", HOST, "--webui-port", "0"], free_port()
    daemons = [start([program, f"{deploy}.master.Master", *local, "--port", str(port)], environment)]
    wait_until(lambda: listens(port), "the master listens", daemons)
    url, share = f"spark://{HOST}:{port}", ["--cores", str(place.cores_each()), "--memory", executor_memory(place)]
    folder = ["--work-dir", str(Path(tempfile.gettempdir()) / "work")]
    for _ in range(place.executors or 0):
        daemons.append(start([program, f"{deploy}.worker.Worker", *local, *share, *folder, url], environment))
    return url, daemons


def executor_memory(place: Place) -> str:
    """The heap of an executor of a cluster."""
    return f"{(place.memory_each(DRIVER_BYTES) or 0) >> 20}m"


def chosen_settings(place: Place) -> dict[str, str]:
    """Settings for one machine: the default of 200 shuffle partitions is for a cluster."""
    shuffle = {"spark.sql.shuffle.partitions": str(2 * place.cores)}
    if place.executors is None:
        return {"spark.driver.memory": f"{(place.memory_bytes or 0) >> 20}m", **shuffle}
    return {
        "spark.driver.memory": f"{DRIVER_BYTES >> 20}m",
        "spark.executor.memory": executor_memory(place),
        "spark.executor.cores": str(place.cores_each()),
        "spark.cores.max": str(place.cores),
        **shuffle,
    }


def executors(spark: Any) -> int:
    """How many executors have joined. The driver is counted among them by Spark."""
    return int(spark.sparkContext._jsc.sc().getExecutorMemoryStatus().size()) - 1


class Stages:
    """What Spark's own counters say of the stages that ended since they were looked at last."""

    def __init__(self, spark: Any) -> None:
        self._context = spark.sparkContext._jsc.sc()
        self._quantiles = spark.sparkContext._gateway.new_array(spark.sparkContext._jvm.double, 0)
        self._seen = -1

    def told(self) -> dict[str, int]:
        """The bytes that went from stage to stage and those put on disk for lack of memory, as they were written:
        compressed, unless that is off."""
        self._context.listenerBus().waitUntilEmpty()
        stages = self._context.statusStore().stageList(None, False, False, self._quantiles, None)
        new = [stage for stage in map(stages.apply, range(stages.size())) if stage.stageId() > self._seen]
        self._seen = max([self._seen, *(stage.stageId() for stage in new)])
        return {
            "bytes_shuffled": sum(stage.shuffleWriteBytes() for stage in new),
            "bytes_spilled": sum(stage.diskBytesSpilled() for stage in new),
            "tasks": sum(stage.numCompleteTasks() for stage in new),
        }


if __name__ == "__main__":
    serve(connect)
