"""Carries out a request: checks all that can be known, reads the inputs, makes one table after the other, writes outputs and
certificate."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recon.config import mistakes, yaml_file
from recon.errors import ReconError, WrongInput, WrongUsage
from recon.model.progress import Progress, silent
from recon.storage.scratch import file_digest
from recon.transformations.engines.duckdb import DuckDB, columns_of, opened
from recon.transformations.formulas.settings import Settings
from recon.transformations.formulas.tree import TEXTS
from recon.transformations.operations.port import Operation, Plan
from recon.transformations.operations.table import ROW, Table
from recon.transformations.request.model import Request


@dataclass(frozen=True)
class Asked:
    """A request that has been read and checked. ``folder``: paths are relative to it."""

    request: Request
    folder: Path
    digest: str
    settings: Settings


def read_request(path: Path) -> Asked:
    """A request from a YAML or JSON file. Raises WrongUsage for the first mistake, with its place; no input is read further than its
    head."""
    file = yaml_file.read(path, "see docs/transformations.md for an example", "name the file of a request")
    request = mistakes.validated(file, Request)
    digest = hashlib.sha256(json.dumps(file.content, sort_keys=True).encode()).hexdigest()
    asked = Asked(request, path.parent, digest, request.settings(datetime.now(UTC).date()))
    tables_of(asked)
    return asked


def tables_of(asked: Asked) -> dict[str, Table]:
    """All tables at the end, from columns and types only. A table whose columns depend on data ends the checks of what follows from it.

    Raises WrongUsage for the first operation that does not fit, and for an output that would take the place of another file."""
    _refuse_paths(asked)
    tables: dict[str, Table] = {}
    for name, given in asked.request.inputs.items():
        _, kinds = opened(name, given, asked.folder)
        tables[name] = Table(name, f"i_{name}", columns_of(name, kinds))
    made = 0
    for number, operation in enumerate(asked.request.operations, 1):
        new = operation.as_ or operation.table
        if any(tables[name].columns is None for name in operation.inputs):
            tables[new] = Table(new, "", None)
            continue
        plan = Plan(tables, asked.settings, None, made)
        with _naming(number, operation):
            tables[new] = _renamed(operation.apply(plan, tables[operation.table]), new)
        made += len(plan.made)
    return tables


def _refuse_paths(asked: Asked) -> None:
    """Raises WrongUsage for an output that is an input, or another output."""
    taken = {(asked.folder / given.path).resolve(): f"the input {name}" for name, given in asked.request.inputs.items()}
    for number, output in enumerate(asked.request.outputs, 1):
        path = (asked.folder / output.path).resolve()
        if path in taken:
            raise WrongUsage(f"output {number}: {output.path} is {taken[path]}; choose another path")
        taken[path] = f"output {number}"


def _renamed(table: Table, name: str) -> Table:
    return Table(name, table.relation, table.columns)


@contextmanager
def _naming(number: int, operation: Operation) -> Iterator[None]:
    """Puts the operation's number and kind before an error."""
    try:
        yield
    except ReconError as error:
        raise type(error)(f"operation {number} ({operation.KIND}): {error}") from None


def carry_out(asked: Asked, progress: Progress = silent) -> dict[str, Any]:
    """Carries out a request and returns its certificate. Raises WrongInput for data that do not allow it; then no output is written."""
    request, steps = asked.request, list[dict[str, Any]]()
    with tempfile.TemporaryDirectory(prefix="recon-transform-") as scratch, DuckDB.session(request, Path(scratch)) as engine:
        tables, inputs = _loaded(asked, engine, progress)
        made = 0
        for number, operation in enumerate(request.operations, 1):
            progress("transform", f"{number} {operation.KIND}", number / (len(request.operations) + 1))
            plan = Plan(tables, asked.settings, engine.query, made)
            new = operation.as_ or operation.table
            with _naming(number, operation):
                rows_in = _rows(engine, tables[operation.table])
                table = _Making(plan, engine).apply(operation, tables[operation.table])
                made += len(plan.made)
                before = {column.value for column in tables[operation.table].known}
                steps.append({"number": number, "operation": operation.KIND, "table": new, "rows_in": rows_in, **plan.figures})
                steps[-1] |= {"rows_out": _rows(engine, table), "errors": _errors(engine, table, before)}
                tables = {**tables, new: _renamed(table, new)}
        outputs = _written(asked, engine, tables)
    return {
        "request": asked.digest,
        "as_of": asked.settings.today.isoformat(),
        "holidays": [day.isoformat() for day in asked.settings.holidays],
        "engine": "duckdb",
        "inputs": inputs,
        "operations": steps,
        "outputs": outputs,
    }


class _Making:
    """Makes each relation as soon as the operation names it, so that a pivot can ask for its values."""

    def __init__(self, plan: Plan, engine: DuckDB) -> None:
        self._plan, self._engine, self._done = plan, engine, 0
        self._ask = plan.query
        plan.query = self._query

    def apply(self, operation: Operation, table: Table) -> Table:
        found = operation.apply(self._plan, table)
        self._make()
        return found

    def _query(self, statement: str) -> list[tuple[Any, ...]]:
        self._make()
        return self._engine.query(statement)

    def _make(self) -> None:
        for name, select, stored in self._plan.made[self._done :]:
            self._engine.make(name, select, stored)
        self._done = len(self._plan.made)


def _loaded(asked: Asked, engine: DuckDB, progress: Progress) -> tuple[dict[str, Table], list[dict[str, Any]]]:
    tables: dict[str, Table] = {}
    figures: list[dict[str, Any]] = []
    for name, given in asked.request.inputs.items():
        progress("transform", f"read {given.path}", 0.0)
        digest = file_digest(asked.folder / given.path)
        conversion, kinds = opened(name, given, asked.folder)
        table = tables[name] = engine.load(name, conversion, columns_of(name, kinds))
        if file_digest(asked.folder / given.path) != digest:
            raise WrongInput(f"input {name}: {given.path} changed while it was read; run the same again")
        counts = {"rows": _rows(engine, table), "sums": _sums(engine, table)}
        figures.append({"input": name, "path": given.path, "digest": digest, **counts})
    return tables, figures


def _written(asked: Asked, engine: DuckDB, tables: dict[str, Table]) -> list[dict[str, Any]]:
    """Writes the outputs, each beside its place; when all are there, each takes its place. Raises WrongInput where an error is a reason to
    fail."""
    for output in asked.request.outputs:
        table = tables[output.table]
        errors = _errors(engine, table, set())
        if errors and asked.request.on_error == "fail":
            first = next(iter(errors.items()))
            raise WrongInput(f"output {output.path}: column {first[0]!r} has errors: {first[1]}; nothing was written")
    figures, beside = [], dict[Path, Path]()
    try:
        for output in asked.request.outputs:
            table, path = tables[output.table], asked.folder / output.path
            path.parent.mkdir(parents=True, exist_ok=True)
            beside[path] = path.with_name(f".{path.name}.{os.getpid()}")
            engine.write(table, path, beside[path], asked.request.on_error)
            counts = {"rows": _rows(engine, table), "sums": _sums(engine, table), "errors": _errors(engine, table, set())}
            figures.append({"path": output.path, "digest": file_digest(beside[path]), **counts})
        for path, written in beside.items():
            os.replace(written, path)
    finally:
        for written in beside.values():
            written.unlink(missing_ok=True)
    return figures


def _rows(engine: DuckDB, table: Table) -> int:
    return int(engine.query(f"SELECT count(*) FROM {table.relation}")[0][0])


def _errors(engine: DuckDB, table: Table, without: set[str]) -> dict[str, dict[str, Any]]:
    """Column → kind of error → how many, and the first row; of columns that are not ``without``."""
    found: dict[str, dict[str, Any]] = {}
    for column in table.known:
        if column.error is None or column.value in without:
            continue
        counts = f"SELECT {column.error}, count(*), min({ROW}) FROM {table.relation} WHERE {column.error} IS NOT NULL GROUP BY 1 ORDER BY 1"
        if rows := engine.query(counts):
            found[column.name] = {TEXTS[int(code)]: {"count": int(count), "first_row": int(first)} for code, count, first in rows}
    return found


def _sums(engine: DuckDB, table: Table) -> dict[str, str]:
    numbers = [column for column in table.known if column.type.is_number]
    if not numbers:
        return {}
    sums = ", ".join(f"coalesce(sum({column.value}), 0)" for column in numbers)
    row = engine.query(f"SELECT {sums} FROM {table.relation}")[0]
    return {column.name: str(total) for column, total in zip(numbers, row, strict=True)}
