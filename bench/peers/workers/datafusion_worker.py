"""DataFusion's Python package, in this process."""

from __future__ import annotations

from common import Answer, Place, Session, arrow_answer, serve


def connect(place: Place) -> Session:
    import datafusion
    import pyarrow

    settings = {"datafusion.execution.target_partitions": str(place.cores)}
    config = datafusion.SessionConfig().with_target_partitions(place.cores)
    runtime = datafusion.RuntimeEnvBuilder()
    if place.memory_bytes is not None:
        runtime = runtime.with_disk_manager_os().with_fair_spill_pool(place.memory_bytes)
        settings["fair spill pool"] = f"{place.memory_bytes} bytes"
    context = datafusion.SessionContext(config, runtime)
    for table, files in place.tables().items():
        context.register_parquet(table, files.removesuffix("*.parquet"))

    def ask(sql: str) -> Answer:
        frame = context.sql(sql)
        batches = frame.collect()
        schema = batches[0].schema if batches else frame.schema()
        return arrow_answer(pyarrow.Table.from_batches(batches, schema))

    return Session("datafusion", datafusion.__version__, ask, settings, {"pyarrow": pyarrow.__version__})


if __name__ == "__main__":
    serve(connect)
