"""Answers a definition's criteria: its SELECT in the evaluation's own transaction, with limits, or its function."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from recon.aggregations.definitions.criteria import VIEWS, statement
from recon.aggregations.preconditions.conditions import CRITERIA, Answer, Scope
from recon.database import Database
from recon.database.tables import AGGREGATION_RUNS, FILES
from recon.logic.call import function_of
from recon.logic.source import LogicSource

SECONDS = 5
_STEPS = 10_000
"""Instructions of SQLite's machine between two looks at the clock."""
ROWS_MAX = 1_000_000
"""Rows of a view that a function is given."""


def answer(database: Database, connection: sa.Connection, scope: Scope) -> Answer:
    """Whether the criteria hold. What fails or takes too long does not hold, and says why."""
    criteria = scope.definition.criteria
    try:
        if isinstance(criteria, LogicSource):
            return _by_function(connection, criteria, scope)
        assert criteria is not None, "callers check that there are criteria"
        dialect = "sqlite" if database.is_sqlite else "postgres"
        values = {"scope": scope.name, "aggregation": scope.definition.name}
        query = statement(criteria, _parsed_views(scope.definition.config.name, dialect), values, dialect)
        with _limited(database, connection):
            rows = connection.exec_driver_sql(query, execution_options={"no_parameters": True}).fetchall()
    except DBAPIError as error:
        return Answer(CRITERIA, False, _failed(str(error.orig).splitlines()[0]))
    if len(rows) != 1:
        return Answer(CRITERIA, False, f"the SELECT gives {'no row' if not rows else 'several rows'}; one is expected")
    if (value := rows[0][0]) is not None and value not in (0, 1):
        return Answer(CRITERIA, False, f"the SELECT gives {str(value)[:60]!r}, which is neither true nor false; compare it with something")
    return Answer(CRITERIA, bool(value), f"the SELECT gives {'nothing' if value is None else 'true' if value else 'false'}")


def _failed(reason: str) -> str:
    if "interrupt" in reason or "statement timeout" in reason:
        return f"the SELECT took longer than {SECONDS} s"
    return f"the SELECT failed: {reason}"


@lru_cache(maxsize=16)
def _parsed_views(reconciliation: str, dialect: str) -> dict[str, Any]:
    """View → its query as a tree."""
    import sqlglot

    made: Any = sqlite.dialect() if dialect == "sqlite" else postgresql.dialect()  # type: ignore[no-untyped-call]
    given = {"dialect": made, "compile_kwargs": {"literal_binds": True}}
    texts = {name: str(query.compile(**given)) for name, query in views(reconciliation).items()}
    return {name: sqlglot.parse_one(text, dialect=dialect) for name, text in texts.items()}


def views(reconciliation: str) -> dict[str, sa.Select[Any]]:
    """View → its query, with the rows of one reconciliation."""
    files, runs = FILES.c, AGGREGATION_RUNS.c
    here = files.reconciliation == reconciliation
    return {
        "files": sa.select(*(files[name] for name in VIEWS["files"])).where(here),
        "runs": sa.select(*(runs[name] for name in VIEWS["runs"])).where(runs.reconciliation == reconciliation),
        "windows": sa.select(
            files.source,
            files.window,
            sa.func.count().label("files"),
            sa.func.sum(files.kept).label("rows"),
            sa.func.sum(files.size).label("bytes"),
            sa.func.max(files.received_at).label("last_received_at"),
        )
        .where(here, files.state == "landed")
        .group_by(files.source, files.window),
    }


@contextmanager
def _limited(database: Database, connection: sa.Connection) -> Iterator[None]:
    """A block in which statements only read, and end after some seconds."""
    if not database.is_sqlite:
        with connection.begin_nested():  # a failure leaves the transaction as it was
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {SECONDS * 1000}")
            yield
            connection.exec_driver_sql("SET LOCAL statement_timeout TO DEFAULT")
        return
    raw: Any = connection.connection.driver_connection
    end = time.monotonic() + SECONDS
    connection.exec_driver_sql("PRAGMA query_only = ON")
    raw.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)
        connection.exec_driver_sql("PRAGMA query_only = OFF")


def _by_function(connection: sa.Connection, source: LogicSource, scope: Scope) -> Answer:
    """Calls ``function(tables, scope)``: ``tables``: view → Arrow table. It returns whether the criteria hold, or a text that says why
    not."""
    import pyarrow as pa

    name = f"{source.module.name}:{source.function}"
    tables = {}
    for view, query in views(scope.definition.config.name).items():
        rows = connection.execute(query.limit(ROWS_MAX + 1)).fetchall()
        if len(rows) > ROWS_MAX:
            return Answer(CRITERIA, False, f"{name} is not called: {view} has more than {ROWS_MAX:,} rows; write a SELECT instead")
        tables[view] = pa.table({column: pa.array([row[at] for row in rows]) for at, column in enumerate(VIEWS[view])})
    try:
        found: Any = function_of(source)(tables, scope.name)
    except Exception as error:  # it is the user's
        return Answer(CRITERIA, False, f"{name} failed ({type(error).__name__}: {error})")
    if isinstance(found, str):
        return Answer(CRITERIA, False, f"{name}: {found}")
    if not isinstance(found, bool):
        return Answer(CRITERIA, False, f"{name} returned {str(found)[:60]!r}; True, False or a text is expected")
    return Answer(CRITERIA, found, f"{name} returned {found}")
