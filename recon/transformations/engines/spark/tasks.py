"""What Spark's tasks do: they read files, carry out statements in a DuckDB of their own, number rows, and write pieces of outputs.

A task may run more than once. It changes nothing but files of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from recon.engines.spark.tasks import local_disk
from recon.transformations.engines.duckdb import DuckDB, opened
from recon.transformations.engines.reading import direct_scan, from_texts, nothing
from recon.transformations.engines.spark.pieces import Pieces
from recon.transformations.inputs.files import Scratch
from recon.transformations.inputs.opening import Opened
from recon.transformations.operations.table import ROW
from recon.vocabulary.duckdb import literal

if TYPE_CHECKING:
    import duckdb

PART, LAST, DELETED, DIGEST = "file_part", "file_last", "file_deleted", "file_digest"
"""Columns of what is read: the file's place; its last line, its rows marked as deleted and, of an object in S3, its digest, in one row
without a number."""
PLACED = "placed_in"
"""The column of what is sorted that has the number of the partition."""


@dataclass(frozen=True)
class Step:
    """A statement over relations. ``relations``: name → its columns, as in CREATE TABLE; of several, each row arrives as one struct ``s0``,
    ``s1``, … beside the place ``side`` of its relation. ``schema``: of the result, as Arrow's. ``beside``: a further relation, its columns
    and all its rows, as batches."""

    statement: str
    relations: tuple[tuple[str, str], ...]
    schema: Any
    memory_limit: str
    beside: tuple[str, str, tuple[Any, ...]] | None = None

    def __call__(self, batches: Iterator[Any]) -> Iterator[Any]:
        with _engine(self.memory_limit) as engine:
            for name, columns in self.relations:
                engine.run(f"CREATE TEMP TABLE {name} ({columns})")
            if self.beside is not None:
                further, columns, all_rows = self.beside
                engine.run(f"CREATE TEMP TABLE {further} ({columns})")
                for one in all_rows:
                    engine.insert(further, "SELECT * FROM arriving", one)
            for batch in batches:
                for side, (name, _) in enumerate(self.relations):
                    rows = "SELECT * FROM arriving" if len(self.relations) == 1 else f"SELECT s{side}.* FROM arriving WHERE side = {side}"
                    engine.insert(name, rows, batch)
            yield from engine.batches(self.statement, self.schema)


@dataclass(frozen=True)
class Reading:
    """The rows of files, each of which is one task's: the items of the batches are places in ``parts``, or in ``files`` where the task has
    to fetch and open them."""

    opened: Opened
    schema: Any
    memory_limit: str

    def __call__(self, batches: Iterator[Any]) -> Iterator[Any]:
        places = [place for batch in batches for place in batch.column(0).to_pylist()]
        for place in places:
            whole = self.opened
            one = (
                whole.only(place, Scratch(local_disk()))
                if whole.apart
                else Opened(whole.name, whole.files, [whole.parts[place]], whole.kinds)
            )
            digest = literal(one.files[0].digest()) if whole.apart else "NULL"
            with _engine(self.memory_limit) as engine:
                last = self._load(engine, one)
                rest = f"NULL AS {LAST}, NULL AS {DELETED}, NULL AS {DIGEST}"
                yield from engine.batches(f"SELECT *, {place} AS {PART}, {rest} FROM rows", self.schema)
                nulls = f"(SELECT 1 AS one) LEFT JOIN ({nothing(one.columns)}) ON true"
                rest = f"{last} AS {LAST}, {one.deleted} AS {DELETED}, {digest} AS {DIGEST}"
                yield from engine.batches(f"SELECT * EXCLUDE (one), {place} AS {PART}, {rest} FROM {nulls}", self.schema)

    def _load(self, engine: DuckDB, one: Opened) -> int:
        """Loads a file as ``rows``, and returns its last line."""
        if (scan := direct_scan(one)) is not None:
            engine.make("rows", scan, stored=True)
            return int(engine.query(f"SELECT coalesce(max({ROW}), 0) FROM rows")[0][0])
        engine.make("rows", nothing(one.columns), stored=True)
        for batch in one.batches():
            engine.insert("rows", f"SELECT {from_texts(one.columns, 'line')} FROM arriving", batch)
        return one.last


@dataclass(frozen=True)
class Numbering:
    """Rows in order within their partition, which is their last column, numbered as column ``name`` in place of ``place``. ``before``: rows
    before each partition."""

    before: Sequence[int]
    place: int
    name: str

    def __call__(self, batches: Iterator[Any]) -> Iterator[Any]:
        import numpy as np
        import pyarrow as pa

        number: int | None = None
        for batch in batches:
            if not batch.num_rows:
                continue
            number = self.before[batch.column(batch.num_columns - 1)[0].as_py()] if number is None else number
            numbers = pa.array(np.arange(number + 1, number + 1 + batch.num_rows, dtype="int64"))
            number += batch.num_rows
            columns, names = list(batch.columns)[:-1], list(batch.schema.names)[:-1]
            columns.insert(self.place, numbers)
            names.insert(self.place, self.name)
            yield pa.record_batch(columns, names=names)


@dataclass(frozen=True)
class Writing:
    """Ordered rows of a partition → one Parquet file. Yields partition and place."""

    pieces: Pieces

    def __call__(self, batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq
        from pyspark import TaskContext

        context, writer = TaskContext.get(), None
        number = context.partitionId() if context is not None else 0
        attempt = context.taskAttemptId() if context is not None else 0
        with self.pieces.piece(f"{number:06}-{attempt}.parquet") as (local, there):
            for batch in batches:
                if not batch.num_rows:
                    continue
                writer = writer or pq.ParquetWriter(str(local), batch.schema, compression="zstd")
                writer.write_batch(batch)
            if writer is not None:
                writer.close()
        if writer is not None:
            yield pa.record_batch([pa.array([number], pa.int32()), pa.array([there])], names=["number", "path"])


@contextmanager
def _engine(memory_limit: str) -> Iterator[DuckDB]:
    """DuckDB with tables of this task alone."""
    connection = _database(os.getpid(), memory_limit).cursor()
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield DuckDB(connection)
    finally:
        connection.close()


@lru_cache(maxsize=1)
def _database(process: int, memory_limit: str) -> duckdb.DuckDBPyConnection:
    """One database for the tasks of a process, one after the other: opening one takes longer than most. It spills where Spark has its own
    intermediate files, which go when Spark ends."""
    return opened(str(Path(local_disk()) / f"recon-{process}-{uuid4().hex}"), memory_limit, 1)
