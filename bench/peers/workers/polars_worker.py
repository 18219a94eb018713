"""Polars: its SQL on the streaming engine, in this process."""

from __future__ import annotations

import os

from common import Answer, Place, Session, serve


def connect(place: Place) -> Session:
    # Read once, when the module is loaded.
    os.environ["POLARS_MAX_THREADS"] = str(place.cores)
    import polars

    context = polars.SQLContext()
    for table, files in place.tables().items():
        context.register(table, polars.scan_parquet(files))

    def ask(sql: str) -> Answer:
        frame = context.execute(sql).collect(engine="streaming")
        return Answer(frame.columns, frame.height, frame.iter_rows)

    settings = {"engine": "streaming", "POLARS_MAX_THREADS": str(place.cores)}
    return Session("polars", polars.__version__, ask, settings)


if __name__ == "__main__":
    serve(connect)
