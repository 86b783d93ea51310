"""DuckDB on one machine: reads inputs as typed tables, makes relations, and writes outputs; what does not fit the memory limit spills."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from recon.engines.duckdb.session import DISK_FULL
from recon.errors import OutOfCapacity, WrongInput
from recon.transformations.engines.numbering import numbered
from recon.transformations.engines.reading import direct_scan, from_texts, nothing
from recon.transformations.engines.views import Select, Views
from recon.transformations.inputs.opening import Opened
from recon.transformations.operations.table import ROW, Table
from recon.vocabulary.duckdb import literal

if TYPE_CHECKING:
    import duckdb

_LOOK_S = 0.2
"""Seconds between two looks at how far a statement is."""
_ROWS = 10_000
_LONG = 60_000
"""Characters of a statement beyond which nothing is searched for that occurs twice."""
_FORMS = {".csv": "FORMAT csv, HEADER", ".tsv": "FORMAT csv, HEADER, DELIMITER '\t'", ".parquet": "FORMAT parquet, COMPRESSION zstd"}
ORDERED = re.compile(rf"(?P<select>.* FROM (?P<relation>\w+) t) ORDER BY t\.{ROW}", re.DOTALL)
T = TypeVar("T")


class DuckDB:
    """One session in a folder of its own. ``watch``: gets the share of the statement that is done, 0 to 1."""

    name = "duckdb"
    late = True

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._views = Views()
        self._searching = True
        self.watch: Callable[[float], None] = lambda share: None

    @staticmethod
    @contextmanager
    def session(folder: Path, memory_limit: str, threads: int | None = None) -> Iterator[DuckDB]:
        """A session whose relations are in memory, and beyond ``memory_limit`` in ``folder``."""
        connection = opened(str(folder / "spilled"), memory_limit, threads or os.cpu_count() or 1)
        try:
            yield DuckDB(connection)
        finally:
            connection.close()

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """See recon.transformations.engines.port.Engine."""
        return self.run(self._views.over(statement))

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement without views, which Ctrl-C ends at once. Raises WrongInput for a total of more than 38 digits or too
        little memory, OutOfCapacity for too little disk."""
        return self._running(lambda: self._alone_if_need_be(lambda: self._execute(statement).fetchall()))

    def _alone_if_need_be(self, work: Callable[[], T]) -> T:
        """Does the work once more by one thread where the memory is too little for all: each thread has vectors of 2,048 values for every
        column of a statement, which for a decimal of 38 digits in 16,000 columns is half a gigabyte."""
        import duckdb

        try:
            return work()
        except duckdb.OutOfMemoryException:
            ((threads,),) = self._connection.execute("SELECT current_setting('threads')").fetchall()
            if threads == 1:
                raise
        try:
            self._connection.execute("SET threads = 1")
            return work()
        finally:
            self._connection.execute(f"SET threads = {threads}")

    def _execute(self, statement: str) -> duckdb.DuckDBPyConnection:
        """Begins a statement. DuckDB's search for common expressions compares each with each: 18 s of a statement of 450,000 characters."""
        if self._searching != (len(statement) <= _LONG):
            self._searching = not self._searching
            self._connection.execute(f"SET disabled_optimizers = '{'' if self._searching else 'common_subexpressions'}'")
        return self._connection.execute(statement)

    def _running(self, work: Callable[[], T]) -> T:
        """Raises as ``run``."""
        import duckdb

        try:
            return self._watched(work)
        except duckdb.OutOfRangeException as error:
            raise WrongInput(f"a total has more than 38 digits ({_line(error)}); round its column first, or take other groups") from error
        except duckdb.Error as error:
            if any(why in str(error) for why in DISK_FULL) or isinstance(error, duckdb.IOException):
                raise OutOfCapacity(f"{_line(error)}; free some room on the disk, then run the same again") from error
            if isinstance(error, duckdb.NotImplementedException) and "Too many columns" in str(error):
                raise WrongInput(
                    "the table has too many columns to be sorted: a row has at most 262,136 bytes, some 16,000 texts or numbers of more "
                    "than 18 digits; select fewer columns, or cast numbers to fewer digits"
                ) from error
            if isinstance(error, duckdb.OutOfMemoryException):
                raise WrongInput(f"{_line(error)}; write a greater memory_limit in the request") from error
            raise

    def _watched(self, work: Callable[[], T]) -> T:
        """DuckDB notices a signal only at the end of a statement while the main thread is busy with it, so the main thread waits."""
        with ThreadPoolExecutor(1) as beside:
            done = beside.submit(work)
            try:
                while True:
                    try:
                        return done.result(timeout=_LOOK_S)
                    except TimeoutError:
                        self.watch(max(0.0, float(self._connection.query_progress()) / 100))
            except KeyboardInterrupt:
                self._connection.interrupt()
                raise

    def make(self, relation: str, select: Select, stored: bool) -> None:
        """See the port."""
        if stored:
            self.run(f"CREATE TEMP TABLE {relation} AS {self._views.over(_sorted_first(str(select)))}")
        else:
            self._views.add(relation, select)

    def store(self, relation: str) -> None:
        """See the port."""
        if relation not in self._views:
            return
        self.make(f"s_{relation}", f"SELECT * FROM {relation}", stored=True)
        self._views.take(relation)
        self.run(f"ALTER TABLE s_{relation} RENAME TO {relation}")

    def drop(self, relation: str) -> None:
        """See the port."""
        if relation in self._views:
            self._views.take(relation)
        else:
            self.run(f"DROP TABLE {relation}")

    def totals(self, relation: str, aggregates: Sequence[str]) -> list[Any]:
        """See the port."""
        return [value or 0 for value in self.query(f"SELECT {', '.join(aggregates)} FROM {relation}")[0]]

    def kinds(self, relation: str, error: str) -> list[tuple[int, int, int]]:
        """See the port."""
        found = self.query(f"SELECT {error}, count(*), min({ROW}) FROM {relation} WHERE {error} IS NOT NULL GROUP BY 1 ORDER BY 1")
        return [(int(code), int(count), int(first)) for code, count, first in found]

    def load(self, name: str, opened: Opened) -> Table:
        """See the port. Parquet of the table's types is read where it is; anything else is stored."""
        table = Table(name, f"i_{name}", opened.columns)
        if (scan := direct_scan(opened)) is not None:
            self.make(table.relation, scan, stored=False)
            return table
        self.make(table.relation, nothing(opened.columns), stored=True)
        values = from_texts(opened.columns, "line")
        for batch in opened.batches():
            self.insert(table.relation, f"SELECT {values} FROM arriving", batch)
        return table

    def insert(self, relation: str, select: str, batch: Any) -> None:
        """Adds rows of an Arrow batch, which the SELECT names ``arriving``, to a stored relation."""
        self._connection.register("arriving", batch)
        self.run(f"INSERT INTO {relation} {select}")
        self._connection.unregister("arriving")

    def batches(self, select: str, schema: Any) -> Iterator[Any]:
        """The rows of a SELECT as Arrow batches of a schema."""
        statement = self._views.over(select)
        for batch in self._running(lambda: self._connection.sql(statement).to_arrow_reader(_ROWS)):
            yield batch.cast(schema)

    def columns_of(self, relation: str) -> dict[str, str]:
        """The columns of a stored relation, with the names of their types."""
        return {str(row[0]): str(row[1]) for row in self.run(f"DESCRIBE {relation}")}

    def schema(self, select: str) -> Any:
        """The Arrow schema of a SELECT."""
        return self._running(lambda: self._connection.sql(f"SELECT * FROM ({self._views.over(select)}) LIMIT 0").to_arrow_table().schema)

    def copy(self, select: str, to: Path, suffix: str) -> None:
        """See the port."""
        with self._in_order():
            self.run(f"COPY ({self._ordered(select)}) TO {literal(str(to))} ({_FORMS[suffix]})")

    def rows(self, select: str) -> Generator[Sequence[Sequence[Any]], None, None]:
        """See the port."""
        with self._in_order():
            statement = self._ordered(select)
            self._running(lambda: self._execute(statement))
            while batch := self._connection.fetchmany(_ROWS):
                yield batch

    def _ordered(self, select: str) -> str:
        """The statement of an ordered SELECT. Where its relation is computed late, only what that computes from is sorted, and the session
        keeps its order."""
        found = ORDERED.fullmatch(select)
        if found is None or not self._views.is_late(found["relation"]):
            return self._views.over(select)
        return self._views.over(found["select"], ordered=found["relation"])

    @contextmanager
    def _in_order(self) -> Iterator[None]:
        try:
            self.run("SET preserve_insertion_order = true")
            yield
        finally:
            self.run("SET preserve_insertion_order = false")


def opened(spill: str, memory_limit: str, threads: int) -> duckdb.DuckDBPyConnection:
    """A connection to a database in memory, which spills into a folder."""
    import duckdb

    connection = duckdb.connect()
    for setting in (
        f"memory_limit = {literal(memory_limit)}",
        f"temp_directory = {literal(spill)}",
        f"threads = {threads}",
        "preserve_insertion_order = false",
        "enable_progress_bar = false",
        "pivot_limit = 10000000",
        "TimeZone = 'UTC'",
    ):
        connection.execute(f"SET {setting}")
    return connection


def _sorted_first(select: str) -> str:
    """The SELECT with the rows sorted before they are numbered: DuckDB's window does the same at three times the cost."""
    found = numbered(select)
    if found is None:
        return select
    keys = [f"o{at}" for at in range(len(found.order))]
    order = [
        f"{key} {'DESC' if down else 'ASC'} NULLS {'FIRST' if first else 'LAST'}"
        for key, (down, first) in zip(keys, found.order, strict=True)
    ]
    rest = f"* EXCLUDE ({', '.join(keys)})"
    return f"SELECT row_number() OVER () AS {found.name}, {rest} FROM ({found.select} ORDER BY {', '.join(order)})"


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]
