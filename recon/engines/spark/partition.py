"""Sends each row to the partition of a given number."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def parted(rows: DataFrame, part: str, total: int) -> DataFrame:
    """``rows`` with ``part``, an INT from 0 to ``total`` - 1, in ``total`` partitions, each row in the partition ``part``."""
    from pyspark.sql import DataFrame
    from pyspark.sql.functions import col, expr

    numbered = rows.withColumn("part", expr(part))
    if hasattr(DataFrame, "repartitionById"):
        return numbered.repartitionById(total, col("part"))
    return by_hash(numbered, total)


def by_hash(numbered: DataFrame, total: int) -> DataFrame:
    """As ``parted``, before Spark 4.1, which partitions only by its own hash: by a value whose hash gives the right partition."""
    from pyspark.sql.functions import col, element_at, lit

    leading = element_at(lit(_leading(numbered.sparkSession, total)), col("part") + 1)
    return numbered.repartition(total, leading)


def _leading(session: SparkSession, total: int) -> list[int]:
    """For each partition below ``total``, a value whose hash gives that partition."""
    found: dict[int, int] = {}
    looked = max(64, 16 * total)
    while len(found) < total:
        rows = session.range(looked).selectExpr("CAST(id AS INT) AS value", f"pmod(hash(CAST(id AS INT)), {total}) AS part")
        found = {row.part: row.value for row in rows.groupBy("part").agg({"value": "min"}).toDF("part", "value").collect()}
        looked *= 4
    return [found[part] for part in range(total)]
