"""Rows for `shuffle.py`: by what arithmetic they are made, and how Firesteel writes them as Parquet."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from firesteel import Firesteel

# Its number changes when the same parameters come to mean other rows.
GENERATOR = "firesteel peers shuffle 1"
FILES = 8
KEY = "c0"
ZIPF_KEYS = 1_048_576.0
FRACTION_BITS = 53
# What Arrow needs for each text beside its bytes.
OFFSET_BYTES = 4
ALL_BITS = (1 << 64) - 1
# By the golden ratio: multiples fall evenly between 0 and 2 to the 64.
MULTIPLIER = 0x9E37_79B9_7F4A_7C15
MANIFEST = "rows.json"


@dataclass(frozen=True)
class Column:
    """A column: the SQL that makes it of the row's number `value`, and the one that sums it up."""

    name: str
    sql: str
    # Of integers the exclusive or: a sum would pass their end, which is an error in Spark.
    sum: str
    bytes: int
    is_text: bool = False


@dataclass(frozen=True)
class Kind:
    """Rows of one shape and one distribution of keys: a table."""

    name: str
    columns: tuple[Column, ...]
    # What a row is expected to take, by which the number of rows is chosen.
    row_bytes: int

    def sums(self) -> str:
        """What is selected of the rows, whatever they have been through: every column is looked at."""
        return ", ".join(["count(*) AS n", *(f"{column.sum} AS {column.name}" for column in self.columns)])

    def made_sql(self, first: int, last: int) -> str:
        """The rows with these numbers."""
        columns = ", ".join(f"{column.sql} AS {column.name}" for column in self.columns)
        return f"SELECT {columns} FROM generate_series({first}, {last})"

    def bytes_sql(self, source: str) -> str:
        """Bytes of the rows as Arrow's buffers hold them."""
        fixed = sum(OFFSET_BYTES if column.is_text else column.bytes for column in self.columns)
        texts = [f"CAST(sum(octet_length({column.name})) AS BIGINT)" for column in self.columns if column.is_text]
        return f"SELECT {' + '.join([f'count(*) * {fixed}', *texts])} AS bytes FROM {source}"


@dataclass(frozen=True)
class Made:
    """A table that was made."""

    rows: int
    bytes: int


def signed(bits: int) -> int:
    """The number of 64 bits with a sign."""
    bits &= ALL_BITS
    return bits - (1 << 64) if bits >> 63 else bits


def factor(column: int) -> int:
    """What a column's numbers are multiples of: odd and without pattern (splitmix64), as `firesteel bench run shuffle`
    has them."""
    bits = column * MULTIPLIER & ALL_BITS
    bits = (bits ^ (bits >> 30)) * 0xBF58_476D_1CE4_E5B9 & ALL_BITS
    bits = (bits ^ (bits >> 27)) * 0x94D0_49BB_1331_11EB & ALL_BITS
    return signed(bits ^ (bits >> 31) | 1)


def uniform() -> str:
    """A key of its own for every row."""
    return f"value * {signed(MULTIPLIER)}"


def zipf(exponent: float) -> str:
    """Keys from 1 on, each as frequent as itself to the power of minus this."""
    shift, mask = 64 - FRACTION_BITS, (1 << FRACTION_BITS) - 1
    fraction = f"CAST((({uniform()}) >> {shift}) & {mask} AS DOUBLE) / {float(1 << FRACTION_BITS)!r}"
    rest = 1.0 - exponent
    return f"CAST(power(1.0 + {fraction} * ({ZIPF_KEYS**rest - 1.0!r}), {1.0 / rest!r}) AS BIGINT)"


def bits(column: int, count: int) -> str:
    """A number of so many bits."""
    return f"(((value * {factor(column)}) >> {64 - count}) & {(1 << count) - 1})"


def number(name: str, sql: str, size: int = 8) -> Column:
    return Column(name, sql, f"bit_xor({name})", size)


def text(name: str, sql: str) -> Column:
    return Column(name, sql, f"sum(octet_length({name}))", 0, is_text=True)


def narrow(name: str, key: str) -> Kind:
    """Two numbers, as `firesteel bench run shuffle --columns 2` has them."""
    return Kind(name, (number(KEY, key), number("c1", f"value * {factor(1)}")), 16)


def wide(name: str, key: str) -> Kind:
    """Numbers of 4 to 16 bytes, a word, and a comment of 10 to 43 letters."""
    cents = f"CAST(CAST({bits(3, 24)} AS DOUBLE) / 100 AS DECIMAL(15, 2))"
    words = "WHEN 0 THEN 'AIR' WHEN 1 THEN 'MAIL' WHEN 2 THEN 'REG AIR' ELSE 'TRUCK'"
    width = f"10 + ({bits(7, 30)} % 34)"
    columns = (
        number(KEY, key),
        number("part", bits(1, 22)),
        number("line", "CAST(value % 7 AS INT)", 4),
        Column("price", cents, "max(price)", 16),
        Column("tax", f"CAST({bits(4, 6)} AS DOUBLE)", "sum(CAST(tax AS BIGINT))", 8),
        Column("shipped", f"CAST(CAST({bits(5, 13)} AS INT) AS DATE)", "max(shipped)", 4),
        text("mode", f"CASE {bits(6, 2)} {words} END"),
        text("comment", f"lpad(CAST({bits(8, 30)} AS VARCHAR), CAST({width} AS BIGINT), '0')"),
    )
    return Kind(name, columns, 87)


KINDS: dict[str, Callable[[], Kind]] = {
    "narrow": lambda: narrow("narrow", uniform()),
    "narrow-zipf": lambda: narrow("narrow_zipf", zipf(1.1)),
    "wide": lambda: wide("wide", uniform()),
    "wide-zipf": lambda: wide("wide_zipf", zipf(1.1)),
}


def ranges(rows: int) -> list[tuple[int, int]]:
    """The numbers of the rows of each file, evenly: first and last."""
    ends = [rows * part // FILES for part in range(FILES + 1)]
    return [(ends[part] + 1, ends[part + 1]) for part in range(FILES)]


def quoted(path: Path) -> str:
    """A path in SQL."""
    return "'" + str(path).replace("'", "''") + "'"


def make(firesteel: Firesteel, data: Path, kinds: Mapping[str, Kind], wanted_bytes: int) -> dict[str, Made]:
    """Makes the tables that are not there yet, each of about so many bytes. Raises `CannotDo`."""
    wanted = {name: recipe(kind, wanted_bytes) for name, kind in kinds.items()}
    known = load(data)
    for name, kind in kinds.items():
        if known.get(name, {}).get("recipe") != wanted[name]:
            made = make_table(firesteel, data / kind.name, kind, wanted_bytes // kind.row_bytes)
            known[name] = {"recipe": wanted[name], "made": asdict(made)}
            save(data, known)
    return {name: Made(**known[name]["made"]) for name in kinds}


def make_table(firesteel: Firesteel, folder: Path, kind: Kind, rows: int) -> Made:
    """Writes the files of a table."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part, (first, last) in enumerate(ranges(rows)):
        to = quoted(folder / f"part-{part}.parquet")
        options = "STORED AS PARQUET OPTIONS ('format.compression' 'uncompressed')"
        firesteel.sql(f"COPY ({kind.made_sql(first, last)}) TO {to} {options}")
    return Made(rows, int(firesteel.sql(kind.bytes_sql(quoted(folder / "*.parquet"))).splitlines()[-1]))


def recipe(kind: Kind, wanted_bytes: int) -> str:
    """Stands for what a table is made by."""
    words = f"{GENERATOR} {FILES} {kind.made_sql(1, wanted_bytes // kind.row_bytes)}"
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def load(data: Path) -> dict[str, dict]:
    """What a folder says of its tables; nothing when it says nothing."""
    path = data / MANIFEST
    return json.loads(path.read_text()) if path.exists() else {}


def save(data: Path, known: dict[str, dict]) -> None:
    """Says it, when the files are there."""
    temporary = data / f".{MANIFEST}.tmp"
    temporary.write_text(json.dumps(known, indent=2) + "\n")
    os.replace(temporary, data / MANIFEST)


def info(data: Path, kinds: Mapping[str, Kind], made: Mapping[str, Made]) -> dict[str, object]:
    """What a record says of the data."""
    files = [file for kind in kinds.values() for file in sorted((data / kind.name).glob("*.parquet"))]
    recipes = " ".join(load(data)[name]["recipe"] for name in kinds)
    return {
        "path": str(data),
        "scale": 0.0,
        "generator": GENERATOR,
        "files": len(files),
        "format": "parquet",
        "compression": "uncompressed",
        "sorted": False,
        "skew": None,
        "rows": sum(made[name].rows for name in kinds),
        "bytes": sum(file.stat().st_size for file in files),
        "checksum": hashlib.sha256(recipes.encode()).hexdigest()[:16],
    }
