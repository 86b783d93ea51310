"""Both engines for the tests that hold them to one meaning: expressions over rows, and one Spark session for a process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import pyarrow as pa

from recon.config.settings import Engine
from recon.engines.spark.session import open_session
from recon.vocabulary import Expression, Type, emit_spark
from recon.vocabulary.spark import quoted

# Nothing but small figures comes to the driver: more than a megabyte of answers fails the job.
SETTINGS = {"spark.driver.maxResultSize": "1m"}
LOCAL = Engine(kind="spark", master="local[2]", settings=SETTINGS)
_ARROW = {"integer": pa.int64(), "text": pa.string(), "boolean": pa.bool_(), "date": pa.date32(), "timestamp": pa.timestamp("us", "UTC")}


@lru_cache(maxsize=1)
def spark() -> Any:
    """One session for all tests of a process: it takes ten seconds to start."""
    return open_session(LOCAL)


def in_spark(expressions: Sequence[Expression], columns: Mapping[str, Type], rows: Sequence[Mapping[str, Any]]) -> list[list[object]]:
    """The values of each expression over the rows, in one query; instants as microseconds. Asserts each one's type."""
    held = [*columns, "place"]
    arrays = [pa.array([row[name] for row in rows], _arrow(kind)) for name, kind in columns.items()]
    table = pa.table([*arrays, pa.array(range(len(rows)), pa.int32())], names=held)
    names = {name: quoted(name) for name in columns}
    asked = [f"{emit_spark(one, names)} AS x{place}" for place, one in enumerate(expressions)]
    found = spark().createDataFrame(table).selectExpr("place", *asked)
    for place, one in enumerate(expressions):
        assert found.schema[f"x{place}"].dataType.simpleString().upper() == one.type.spark, one.text
    answers = found.toArrow().sort_by("place")
    return [[_plain(value) for value in answers.column(f"x{place}").to_pylist()] for place in range(len(expressions))]


def _arrow(kind: Type) -> pa.DataType:
    return pa.decimal128(kind.precision, kind.scale) if kind.kind == "decimal" else _ARROW[kind.kind]


def _plain(value: object) -> object:
    if not isinstance(value, datetime):
        return value
    since = value - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
