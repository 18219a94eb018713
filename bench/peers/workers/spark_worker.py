"""Spark in local mode: a Java virtual machine that this process starts and talks to."""

from __future__ import annotations

import os

from common import Answer, Place, Session, arrow_answer, serve

# Spark's own default is 1 GiB, on any machine.
HEAP_SHARE_OF_MEMORY = 0.5


def connect(place: Place) -> Session:
    import pyarrow
    import pyspark
    from pyspark.sql import SparkSession

    settings = chosen_settings(place.cores)
    builder = SparkSession.builder.master(f"local[{place.cores}]").appName("firesteel-peers")
    for key, value in {**settings, "spark.ui.enabled": "false", "spark.log.level": "ERROR"}.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    for table in place.tables():
        spark.read.parquet(str(place.data / table)).createOrReplaceTempView(table)

    def ask(sql: str) -> Answer:
        return arrow_answer(spark.sql(sql).toArrow())

    java = spark.sparkContext._jvm.java.lang.System.getProperty("java.version")
    return Session("spark", pyspark.__version__, ask, settings, {"java": java, "pyarrow": pyarrow.__version__})


def chosen_settings(cores: int) -> dict[str, str]:
    """Settings for one machine: the default of 200 shuffle partitions is for a cluster."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "spark.driver.memory": f"{int(memory * HEAP_SHARE_OF_MEMORY) >> 20}m",
        "spark.sql.shuffle.partitions": str(2 * cores),
    }


if __name__ == "__main__":
    serve(connect)
