"""DuckDB on one machine: reads inputs as typed tables, makes relations, and writes outputs; what does not fit the memory limit spills."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.config.settings import Limits
from recon.errors import OutOfCapacity, WrongInput, WrongUsage
from recon.intake.converters import layouts
from recon.intake.converters.opening import open_conversion
from recon.intake.converters.port import Conversion, Received
from recon.transformations.formulas.layers import column as named
from recon.transformations.formulas.layers import sql_of
from recon.transformations.formulas.tree import TEXTS, VALUE
from recon.transformations.operations.table import ROW, Column, Table
from recon.transformations.request.model import Input, Request
from recon.vocabulary import check, parse_type
from recon.vocabulary.duckdb import literal, quoted
from recon.vocabulary.types import TEXT, Type

if TYPE_CHECKING:
    import duckdb

_SUFFIXES: dict[str, layouts.AnyLayout] = {
    ".csv": layouts.Delimited(kind="delimited", header=True),
    ".tsv": layouts.Delimited(kind="delimited", header=True, delimiter="\t"),
    ".jsonl": layouts.JsonLines(kind="jsonl"),
    ".parquet": layouts.Parquet(kind="parquet"),
    ".xlsx": layouts.Sheet(kind="excel", header=True),
}


def opened(name: str, given: Input, folder: Path) -> tuple[Conversion, dict[str, Type]]:
    """An input file, and the types of its columns; only its head is read. Raises WrongUsage and WrongInput that begin with the input's
    name."""
    path = folder / given.path
    layout = given.format or _SUFFIXES.get(path.suffix.lower())
    if layout is None:
        raise WrongUsage(f"input {name}: {given.path}: its name does not say its format; write format: {{kind: …}}")
    if not path.is_file():
        raise WrongUsage(f"input {name}: {path}: there is no such file")
    try:
        conversion = open_conversion(Received(path.name, path), layout, None, Limits())
    except WrongInput as error:
        raise WrongInput(f"input {name}: {error}") from None
    names = list(conversion.names)
    folded = [column.casefold() for column in names]
    if twice := [column for at, column in enumerate(names) if folded.index(column.casefold()) != at]:
        raise WrongInput(f"input {name}: {path.name} has the column {twice[0]!r} twice; rename one in the file")
    if unknown := [column for column in given.types if column not in names]:
        raise WrongUsage(f"input {name}: types: {path.name} has no column {unknown[0]!r}; it has {', '.join(names[:20])}")
    return conversion, {c: parse_type(given.types[c], f"input {name}: types.{c}") if c in given.types else TEXT for c in names}


def columns_of(name: str, kinds: dict[str, Type]) -> tuple[Column, ...]:
    """The columns of an input's table; a typed one holds #VALUE! where the text does not fit."""
    return tuple(
        Column(c, kind, f"i_{name}_{at}", None if kind == TEXT else f"j_{name}_{at}") for at, (c, kind) in enumerate(kinds.items())
    )


class DuckDB:
    """One session in a folder of its own."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    @staticmethod
    @contextmanager
    def session(request: Request, folder: Path) -> Iterator[DuckDB]:
        import duckdb

        connection = duckdb.connect(str(folder / "work.duckdb"))
        try:
            for setting in (
                f"memory_limit = {literal(request.memory_limit)}",
                f"temp_directory = {literal(str(folder / 'spilled'))}",
                f"threads = {os.cpu_count() or 1}",
                "preserve_insertion_order = false",
                "TimeZone = 'UTC'",
            ):
                connection.execute(f"SET {setting}")
            yield DuckDB(connection)
        finally:
            connection.close()

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement. Raises WrongInput for a total of more than 38 digits, or too little memory, OutOfCapacity for too little
        disk."""
        import duckdb

        try:
            return self._connection.execute(statement).fetchall()
        except duckdb.OutOfRangeException as error:
            raise WrongInput(f"a total has more than 38 digits ({_line(error)}); round its column first, or take other groups") from error
        except duckdb.OutOfMemoryException as error:
            raise WrongInput(f"{_line(error)}; write a greater memory_limit in the request") from error
        except duckdb.IOException as error:
            raise OutOfCapacity(f"{_line(error)}; see to the disk, then run the same again") from error

    def make(self, name: str, select: str, stored: bool) -> None:
        """Makes a relation, stored or a view. Raises as ``query``."""
        self.query(f"CREATE TEMP {'TABLE' if stored else 'VIEW'} {name} AS {select}")

    def load(self, name: str, conversion: Conversion, columns: Sequence[Column]) -> Table:
        """Reads an input. Raises WrongInput for a row that cannot be read."""
        parts = [f"line AS {ROW}"]
        for at, column in enumerate(columns):
            value = _typed(f"t{at}", column.type)
            parts.append(f"{value} AS {column.value}")
            if column.error:
                parts.append(
                    f"CAST(CASE WHEN ({value}) IS NULL AND t{at} IS NOT NULL AND t{at} <> '' THEN {VALUE} END AS TINYINT) AS {column.error}"
                )
        relation = f"i_{name}"
        for number, batch in enumerate(conversion.batches()):
            self._connection.register("arriving", batch)
            if bad := self._connection.execute(
                "SELECT line, problem FROM arriving WHERE problem IS NOT NULL ORDER BY line LIMIT 1"
            ).fetchone():
                raise WrongInput(f"input {name}: {conversion.place(bad[0])}: {bad[1]}")
            make = f"CREATE TEMP TABLE {relation} AS" if number == 0 else f"INSERT INTO {relation}"
            self._connection.execute(f"{make} SELECT {', '.join(parts)} FROM arriving")
            self._connection.unregister("arriving")
        if not self.query(f"SELECT 1 FROM duckdb_tables() WHERE table_name = {literal(relation)}"):
            empty = [f"CAST(NULL AS BIGINT) AS {ROW}"]
            for column in columns:
                empty.append(f"CAST(NULL AS {column.type.duckdb}) AS {column.value}")
                empty += [f"CAST(NULL AS TINYINT) AS {column.error}"] if column.error else []
            self._connection.execute(f"CREATE TEMP TABLE {relation} AS SELECT {', '.join(empty)} LIMIT 0")
        return Table(name, relation, tuple(columns))

    def write(self, table: Table, path: Path, to: Path, on_error: str) -> None:
        """Writes a table to the file ``to`` in order of its rows, in the format of ``path``. Raises as ``query``."""
        as_text = on_error == "text" and path.suffix.lower() == ".csv"
        shown = [f"{_shown(column, as_text)} AS {quoted(column.name)}" for column in table.known]
        form = {".csv": "(FORMAT csv, HEADER)", ".parquet": "(FORMAT parquet, COMPRESSION zstd)"}[path.suffix.lower()]
        query = f"SELECT {', '.join(shown)} FROM {table.relation} ORDER BY {ROW}"
        try:
            self.query("SET preserve_insertion_order = true")
            self.query(f"COPY ({query}) TO {literal(str(to))} {form}")
        finally:
            self.query("SET preserve_insertion_order = false")


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _typed(text: str, kind: Type) -> str:
    """SQL of a text as a value, by the vocabulary's cast: null where it is none. An empty text is a blank."""
    return f"nullif({text}, '')" if kind == TEXT else sql_of(check.cast(named(text, TEXT), kind))


def _shown(column: Column, errors_as_text: bool) -> str:
    if column.error is None or not errors_as_text:
        return column.value
    cases = " ".join(f"WHEN {code} THEN {literal(text)}" for code, text in TEXTS.items())
    return f"CASE WHEN {column.error} IS NULL THEN CAST({column.value} AS VARCHAR) ELSE CASE {column.error} {cases} END END"
