"""DataFusion's Python package, in this process."""

from __future__ import annotations

from common import Answer, Place, Session, arrow_answer, serve


def connect(place: Place) -> Session:
    import datafusion
    import pyarrow

    config = datafusion.SessionConfig().with_target_partitions(place.cores)
    context = datafusion.SessionContext(config)
    for table, files in place.tables().items():
        context.register_parquet(table, files.removesuffix("*.parquet"))

    def ask(sql: str) -> Answer:
        frame = context.sql(sql)
        batches = frame.collect()
        schema = batches[0].schema if batches else frame.schema()
        return arrow_answer(pyarrow.Table.from_batches(batches, schema))

    settings = {"datafusion.execution.target_partitions": str(place.cores)}
    return Session("datafusion", datafusion.__version__, ask, settings, {"pyarrow": pyarrow.__version__})


if __name__ == "__main__":
    serve(connect)
