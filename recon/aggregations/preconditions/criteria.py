"""Answers a definition's criteria: its SELECT in the evaluation's own transaction, with limits, or its function."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from recon.aggregations.definitions.criteria import VIEWS, statement
from recon.aggregations.preconditions.conditions import CRITERIA, Answer, Scope
from recon.database import Database
from recon.database.tables import AGGREGATION_RUNS, FILES
from recon.errors import ReconError
from recon.logic.call import function_of
from recon.logic.source import LogicSource

SECONDS = 5
_STEPS = 10_000
"""Instructions of SQLite's machine between two looks at the clock."""
_ROWS_MAX = 1_000_000


def answer(database: Database, connection: sa.Connection, scope: Scope) -> Answer:
    """Whether the criteria hold. What fails or takes too long does not hold, and says why."""
    criteria = scope.definition.criteria
    try:
        if isinstance(criteria, LogicSource):
            return _by_function(database, connection, criteria, scope)
        assert criteria is not None, "callers check that there are criteria"
        values = {"scope": scope.name, "aggregation": scope.definition.name}
        dialect = "sqlite" if database.is_sqlite else "postgres"
        query = statement(criteria, views(database, scope.definition.config.name), values, dialect)
        with _limited(database, connection):
            rows = connection.exec_driver_sql(query).fetchmany(2)
    except DBAPIError as error:
        return Answer(CRITERIA, False, f"the SELECT failed: {str(error.orig).splitlines()[0]}")
    if len(rows) != 1 or len(rows[0]) != 1:
        return Answer(CRITERIA, False, "the SELECT has to give one row with one value")
    return Answer(CRITERIA, bool(rows[0][0]), f"the SELECT gives {rows[0][0]}")


def views(database: Database, reconciliation: str) -> dict[str, str]:
    """View → its query, with the rows of one reconciliation."""
    files, runs = FILES.c, AGGREGATION_RUNS.c
    here = files.reconciliation == reconciliation
    queries = {
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
    dialect = database.engine.dialect
    return {name: str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True})) for name, query in queries.items()}


@contextmanager
def _limited(database: Database, connection: sa.Connection) -> Iterator[None]:
    """A block in which statements only read, and end after some seconds."""
    if not database.is_sqlite:
        with connection.begin_nested():  # a failure leaves the transaction as it was
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {SECONDS * 1000}")
            yield
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
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


def _by_function(database: Database, connection: sa.Connection, source: LogicSource, scope: Scope) -> Answer:
    """Calls ``function(tables, scope)``: ``tables``: view → Arrow table. It returns whether the criteria hold, or a text that says why
    not."""
    import pyarrow as pa

    name = f"{source.module.name}:{source.function}"
    tables, queries = {}, views(database, scope.definition.config.name)
    for view, columns in VIEWS.items():
        rows = connection.exec_driver_sql(queries[view]).fetchmany(_ROWS_MAX)
        tables[view] = pa.table({column: pa.array([row[at] for row in rows]) for at, column in enumerate(columns)})
    try:
        found: Any = function_of(source)(tables, scope.name)
    except ReconError:
        raise
    except Exception as error:  # it is the user's
        return Answer(CRITERIA, False, f"{name} failed ({type(error).__name__}: {error})")
    if isinstance(found, str):
        return Answer(CRITERIA, False, f"{name}: {found}")
    return Answer(CRITERIA, found is True, f"{name} returned {found!r}")
