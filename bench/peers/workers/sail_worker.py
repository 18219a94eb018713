"""Sail: its Spark Connect server in this process, asked through Spark's own client.

Its cluster is of one process too: driver and workers are threads that talk to each other as they would across hosts.
"""

from __future__ import annotations

import os

from common import Answer, Place, Session, arrow_answer, serve

# A worker that nobody asked anything for longer than this is gone, and started again when the next query needs it.
IDLE_SECONDS_MAX = 24 * 3600


def connect(place: Place) -> Session:
    settings = chosen_settings(place)
    # Read once, when the module is loaded.
    os.environ.update(settings)
    import pyarrow
    import pysail
    import pyspark
    from pysail.spark import SparkConnectServer
    from pyspark.sql import SparkSession

    server = SparkConnectServer(ip="127.0.0.1", port=0)
    server.start(background=True)
    _, port = server.listening_address
    spark = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").getOrCreate()
    for table in place.tables():
        spark.read.parquet(str(place.data / table)).createOrReplaceTempView(table)

    def ask(sql: str) -> Answer:
        # Said here so that the server lives as long as this function: it shuts down when nobody refers to it.
        assert server.running
        return arrow_answer(spark.sql(sql).toArrow())

    versions = {"pyspark": pyspark.__version__, "pyarrow": pyarrow.__version__}
    return Session("sail", pysail.__version__, ask, settings, versions, place.mode())


def chosen_settings(place: Place) -> dict[str, str]:
    """Settings, which Sail reads from its environment."""
    settings: dict[str, str] = {}
    if (memory := place.memory_each()) is not None:
        settings |= {
            "SAIL_RUNTIME__MEMORY_POOL__TYPE": "fair",
            "SAIL_RUNTIME__MEMORY_POOL__FAIR__MAX_SIZE": str(memory),
        }
    if place.executors is not None:
        # Tasks of one query wait for each other, so the slots of a worker are left as they are: 8.
        settings |= {
            "SAIL_MODE": "local-cluster",
            "SAIL_CLUSTER__WORKER_INITIAL_COUNT": str(place.executors),
            "SAIL_CLUSTER__WORKER_MAX_COUNT": str(place.executors),
            "SAIL_CLUSTER__WORKER_MAX_IDLE_TIME_SECS": str(IDLE_SECONDS_MAX),
            "SAIL_EXECUTION__DEFAULT_PARALLELISM": str(place.cores),
        }
    return settings


if __name__ == "__main__":
    serve(connect)
