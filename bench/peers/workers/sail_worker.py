"""Sail: its Spark Connect server in this process, asked through Spark's own client."""

from __future__ import annotations

from common import Answer, Place, Session, arrow_answer, serve


def connect(place: Place) -> Session:
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
    return Session("sail", pysail.__version__, ask, {}, versions)


if __name__ == "__main__":
    serve(connect)
