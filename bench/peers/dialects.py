"""How each engine is asked to move all rows of a table through an exchange by the hash of their key, and how its plan
shows whether it does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from rows import KEY, Kind

# A key that no row has: what it joins is nothing.
NO_KEY = 0


@dataclass(frozen=True)
class Wording:
    """A query as one engine is asked it."""

    sql: str
    # Statements before it, which are not measured.
    settings: tuple[str, ...] = ()
    # What of its plan says that it does what the query is for; the fault, or none.
    fault: Callable[[str], str | None] | None = None


@dataclass(frozen=True)
class Dialect:
    """How an engine is asked. `partitions` none: the same rows and sums without the exchange."""

    sql: Callable[[Kind, int | None], str]
    settings: Callable[[int | None], tuple[str, ...]]
    # The exchange as the plan names it, with a place for the number of partitions.
    exchange: str

    def wording(self, kind: Kind, partitions: int | None) -> Wording:
        """The query in this dialect."""

        def fault(plan: str) -> str | None:
            return plan_fault(self.exchange, plan, partitions)

        return Wording(self.sql(kind, partitions), self.settings(partitions), fault)


def plan_fault(exchange: str, plan: str, partitions: int | None) -> str | None:
    """What is wrong with a plan: it lacks the exchange into so many partitions, or has one that it should not have."""
    found = re.findall(exchange.format(partitions=r"(\d+)"), plan)
    if partitions is None:
        return f"its plan has an exchange into {found[0]} partitions" if found else None
    return None if str(partitions) in found else f"its plan has no exchange into {partitions} partitions: {plan}"


def distribute_by(kind: Kind, partitions: int | None) -> str:
    """Spark's words, which Firesteel knows too."""
    rows = f"(SELECT * FROM {kind.name})" if partitions is None else f"(SELECT * FROM {kind.name} DISTRIBUTE BY {KEY})"
    return f"SELECT {kind.sums()} FROM {rows} AS r"


def anti_join(kind: Kind, _partitions: int | None) -> str:
    """Ballista has no words for an exchange; a join has one on either side, unless the other side is sent everywhere.
    All rows pass it, as it keeps those without a partner."""
    return f"SELECT {kind.sums()} FROM {kind.name} AS r LEFT ANTI JOIN (VALUES ({NO_KEY})) AS t (k) ON r.{KEY} = t.k"


def firesteel_settings(partitions: int | None) -> tuple[str, ...]:
    return (f"SET firesteel.partitions = {partitions or 0}",)


def spark_settings(partitions: int | None) -> tuple[str, ...]:
    return () if partitions is None else (f"SET spark.sql.shuffle.partitions = {partitions}",)


def ballista_settings(partitions: int | None) -> tuple[str, ...]:
    """Partitions, and whether the other side of the join may be sent everywhere. By default it sorts both sides of a join,
    and sends none of them everywhere then."""
    most = 0 if partitions else 1 << 20
    return (
        f"SET datafusion.execution.target_partitions = {partitions or 2}",
        "SET datafusion.optimizer.prefer_hash_join = true",
        f"SET ballista.optimizer.broadcast_join_threshold_bytes = {most}",
        f"SET datafusion.optimizer.hash_join_single_partition_threshold = {most}",
        f"SET datafusion.optimizer.hash_join_single_partition_threshold_rows = {most}",
    )


DATAFUSION_EXCHANGE = rf"Hash\(\[{KEY}@\d+\], {{partitions}}\)"
SPARK_EXCHANGE = rf"hashpartitioning\({KEY}#\d+L?, {{partitions}}\)"
FIRESTEEL = Dialect(distribute_by, firesteel_settings, DATAFUSION_EXCHANGE)
DIALECTS = {
    "firesteel-cluster": FIRESTEEL,
    "firesteel-cluster-tcp": FIRESTEEL,
    "spark-cluster": Dialect(distribute_by, spark_settings, SPARK_EXCHANGE),
    "ballista": Dialect(anti_join, ballista_settings, DATAFUSION_EXCHANGE),
}
