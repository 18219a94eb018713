"""DuckDB, in this process."""

from __future__ import annotations

import tempfile

from common import Answer, Place, Session, arrow_answer, serve


def connect(place: Place) -> Session:
    import duckdb
    import pyarrow

    settings = {"threads": str(place.cores)}
    if place.memory_bytes is not None:
        settings["memory_limit"] = f"{place.memory_bytes}B"
    connection = duckdb.connect(":memory:", config={**settings, "temp_directory": tempfile.gettempdir()})
    for table, files in place.tables().items():
        quoted = files.replace("'", "''")
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{quoted}')")

    def ask(sql: str) -> Answer:
        # Through `execute` the rows would be copied once more.
        return arrow_answer(connection.sql(sql).to_arrow_table())

    return Session("duckdb", duckdb.__version__, ask, settings, {"pyarrow": pyarrow.__version__})


if __name__ == "__main__":
    serve(connect)
