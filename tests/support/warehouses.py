"""The three warehouses for tests, each with a way to look at its tables and to change them from outside; and loads as files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, localcontext
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import postgres
import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
from redshift_data import RedshiftData

from recon.aggregations.warehouse.duckdb import DuckDBWarehouse
from recon.aggregations.warehouse.port import Load, Warehouse
from recon.aggregations.warehouse.postgresql import PostgreSQLWarehouse
from recon.aggregations.warehouse.redshift import RedshiftWarehouse
from recon.config.secrets import Credentials
from recon.config.warehouse import WarehouseSettings
from recon.storage.aws_calls import Pace
from recon.storage.local import LocalStore
from recon.vocabulary.types import BOOLEAN, DATE, INTEGER, TEXT, TIMESTAMP, Type, decimal

QUICK = Pace(first=0.002, most=0.02, patience=3)
STAGING = "s3://staging/warehouse"
KINDS = ("duckdb", "postgresql", "redshift")
KEYS: dict[str, Type] = {"store": TEXT, "code": INTEGER}
MEASURES: dict[str, Type] = {
    "sale": decimal(38, 2),
    "lines": INTEGER,
    "note": TEXT,
    "first_day": DATE,
    "last_time": TIMESTAMP,
    "paid": BOOLEAN,
}
AT = datetime(2026, 11, 1, 12, 30, 15, 123456, tzinfo=UTC)
ADDITIVE = ("sale", "lines")
Rows = Mapping[tuple[Any, ...], tuple[Any, ...]]
"""Values of a key → values of the measures."""


@dataclass
class Site:
    """A warehouse under test. ``sql``: what another program does to its database. ``examples``: of a law, so far."""

    kind: str
    warehouse: Warehouse
    sql: Callable[[str], list[tuple[Any, ...]]]
    api: RedshiftData | None = None
    examples: int = 0

    def table(self, target: str = "daily", columns: Sequence[str] = (*KEYS, *MEASURES), scope: str | None = None) -> dict[Any, Any]:
        """Key → values of the measures; a key that is there twice is a failure."""
        where = "" if scope is None else f" WHERE recon_scope = '{scope}'"
        rows = self.sql(f"SELECT {', '.join(columns)} FROM {target}{where}")
        found = {row[: len(KEYS)]: row[len(KEYS) :] for row in rows}
        assert len(found) == len(rows), rows
        return found

    def counts(self, target: str = "daily") -> dict[Any, int]:
        """Key → run that wrote its row."""
        return {row[:-1]: row[-1] for row in self.sql(f"SELECT {', '.join(KEYS)}, recon_run FROM {target}")}


def duckdb_site(folder: Path) -> Site:
    path = folder / "warehouse.duckdb"

    def sql(statement: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(path)) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            return connection.execute(statement).fetchall()

    return Site("duckdb", DuckDBWarehouse(path), sql)


def postgresql_site(server: postgres.Server, database: str) -> Site:
    settings = WarehouseSettings(kind="postgresql", url=f"postgresql://{server.host}:{server.port}/{database}")

    def sql(statement: str) -> list[tuple[Any, ...]]:
        with closing(
            psycopg2.connect(host=server.host, port=server.port, user=server.user, password=server.password, dbname=database)
        ) as connection:
            connection.autocommit = True
            return _executed(connection, statement)

    return Site("postgresql", PostgreSQLWarehouse(settings, Credentials(server.user, server.password)), sql)


def redshift_site(api: RedshiftData, staging: Path, keep_alive_s: int = 60, pace: Pace = QUICK, lock_s: float = 30) -> Site:
    """The environment must lead boto3 to ``api.url``; ``staging``: the folder that the API reads from."""
    settings = WarehouseSettings(kind="redshift", workgroup="finance", database="recon", staging=STAGING)

    def sql(statement: str) -> list[tuple[Any, ...]]:
        with closing(api.connect()) as connection:
            return _executed(connection, statement)

    made = RedshiftWarehouse(settings, partial(LocalStore, staging), pace, keep_alive_s, lock_s)
    return Site("redshift", made, sql, api)


def _executed(connection: Any, statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def from_folder(folder: Path) -> Callable[[str], bytes]:
    """What is staged by a ``LocalStore`` there."""
    return lambda place: (folder / place.removeprefix(f"{STAGING}/")).read_bytes()


def row(sale: str | None = "1.00", lines: int | None = 1, note: str | None = "x", **more: Any) -> tuple[Any, ...]:
    """Values of ``MEASURES``."""
    amount = None if sale is None else Decimal(sale)
    return (amount, lines, note, more.get("day", date(2026, 11, 1)), more.get("at", AT), more.get("paid", True))


@dataclass(frozen=True)
class Shape:
    """The columns of a table."""

    keys: Mapping[str, Type] = field(default_factory=lambda: KEYS)
    measures: Mapping[str, Type] = field(default_factory=lambda: MEASURES)
    additive: Sequence[str] = ADDITIVE
    target: str = "daily"
    aggregation: str = "orders.daily"


DEFAULT = Shape()


def load_of(folder: Path, rows: Rows, run: int, scope: str = "monday", shape: Shape = DEFAULT, **changed: Any) -> Load:
    """A load of rows, which are written to a file. Equal rows of a scope are the same load. ``changed``: fields of the load."""
    names = [*shape.keys, *shape.measures]
    kinds = [*shape.keys.values(), *shape.measures.values()]
    listed = [(*key, *values) for key, values in sorted(rows.items(), key=repr)]
    arrays = [pa.array([row[at] for row in listed], _arrow(kind)) for at, kind in enumerate(kinds)]
    path = folder / f"rows-{run}-{hashlib.sha256(repr((scope, listed)).encode()).hexdigest()[:8]}.parquet"
    pq.write_table(pa.table(dict(zip(names, arrays, strict=True))), path)
    with localcontext(prec=100):
        totals = {name: str(sum((Decimal(row[names.index(name)] or 0) for row in listed), Decimal(0))) for name in shape.additive}
    digest = hashlib.sha256(json.dumps([scope, names, list(map(str, kinds)), listed], default=str).encode()).hexdigest()
    fields = {
        "id": digest,
        "run": run,
        "aggregation": shape.aggregation,
        "target": shape.target,
        "scope": scope,
        "keys": shape.keys,
        "measures": shape.measures,
        "rows": path,
        "count": len(listed),
        "totals": totals,
    }
    return Load(**{**fields, **changed})


def _arrow(kind: Type) -> pa.DataType:
    if kind.kind == "decimal":
        return pa.decimal128(kind.precision, kind.scale)
    return {
        "text": pa.string(),
        "integer": pa.int64(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }[kind.kind]
