"""A small site with aggregations, whose clean files are put into database and store directly: what intake does is tested there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

import recon
from recon.aggregations.definitions.load import Definition
from recon.aggregations.preconditions.evaluate import Evaluation
from recon.aggregations.runs.carry_out import carry_out
from recon.aggregations.runs.site import Aggregations
from recon.aggregations.runs.tracking import Run
from recon.aggregations.tick import Tick, tick
from recon.database.tables import FILES
from recon.storage import layout

NAME = "shops"
RECON = """
name: shops
store: ./store
key: shop
windows: {start: 2026-11-01T00:00Z, every: 1d}
events: {types: {amount: "decimal(18,2)", code: integer}}
measures: {total: {sum: amount}}
"""
SALES = """
files: "{shop}.csv"
format: {kind: delimited, delimiter: ",", header: true}
columns: {shop: {}, code: {type: integer}, amount: {type: "decimal(18,2)"}}
"""
ITEMS = """
files: "items*.csv"
reference: true
format: {kind: delimited, delimiter: ",", header: true}
columns: {item: {}}
"""
DAILY = """
source: sales
keys: shop
measures: {total: {sum: amount}, lines: {count: "*"}}
target: daily
"""
WINDOW, NEXT = "2026-11-01T00:00Z", "2026-11-02T00:00Z"
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
Rows = Sequence[tuple[str, str, str]]
"""Of a file: shop, code and amount, as text."""


def made(folder: Path, aggregations: Mapping[str, str] = {"daily": DAILY}, more: str = "") -> Aggregations:
    """A site in a folder, with the sources sales and items, and aggregations by name. ``more``: of recon.yaml."""
    for name in ("sources", "aggregations"):
        (folder / name).mkdir(parents=True)
    (folder / "recon.yaml").write_text(RECON + more)
    (folder / "sources" / "sales.yaml").write_text(SALES)
    (folder / "sources" / "items.yaml").write_text(ITEMS)
    for name, text in aggregations.items():
        define(folder, name, text)
    return opened(folder)


def define(folder: Path, name: str, text: str) -> None:
    """Writes the file of an aggregation."""
    (folder / "aggregations" / f"{name}.yaml").write_text(text.lstrip())


def opened(folder: Path) -> Aggregations:
    """The site as another process opens it."""
    return Aggregations(recon.open(folder / "recon.yaml").intake("test"))


def definition(site: Aggregations, name: str = "daily") -> Definition:
    found = site.definitions()
    assert name in found.good, found.broken
    return found.good[name]


def land(
    site: Aggregations,
    name: str = "a.csv",
    rows: Rows = (("A", "4", "1.00"),),
    window: str = WINDOW,
    source: str = "sales",
    at: datetime = NOON,
) -> int:
    """Lands a file, in place of one of the same name and window. Returns its number."""
    path, digest = _put(site, name, rows, window)
    values = {"reconciliation": NAME, "source": source, "name": name, "series": name, "digest": digest, "size": 100, "window": window}
    values |= {"state": "landed", "received_at": at, "landed_at": at, "rows": len(rows), "kept": len(rows), "rejected_rows": 0}
    values |= {"landed_as": f"{name}.parquet", "landed_path": path, "landed_digest": digest, "landings": 1}
    with site.intake.database.write() as connection:
        connection.execute(FILES.update().where(*_here(name, window, source)).values(state="superseded", superseded_at=at))
        return int(connection.execute(FILES.insert().values(values)).inserted_primary_key[0])  # type: ignore[index]


def take_back(site: Aggregations, name: str = "a.csv", window: str = WINDOW, source: str = "sales") -> None:
    """Takes a landed file out of its window."""
    with site.intake.database.write() as connection:
        connection.execute(FILES.update().where(*_here(name, window, source)).values(state="rejected", reason="taken back"))


def reconvert(site: Aggregations, name: str, rows: Rows, window: str = WINDOW) -> None:
    """Makes other clean rows of the same received bytes."""
    path, digest = _put(site, name, rows, window)
    change = {"landed_path": path, "landed_digest": digest, "kept": len(rows), "landings": FILES.c.landings + 1}
    with site.intake.database.write() as connection:
        connection.execute(FILES.update().where(*_here(name, window, "sales")).values(change))


def deliver_again(site: Aggregations, name: str, at: datetime, source: str = "items") -> None:
    """The same bytes come once more."""
    with site.intake.database.write() as connection:
        connection.execute(FILES.update().where(FILES.c.source == source, FILES.c.name == name).values(delivered_at=at))


def _here(name: str, window: str, source: str) -> list[sa.ColumnElement[bool]]:
    values = {"source": source, "name": name, "window": window, "state": "landed"}
    return [FILES.c[field] == value for field, value in values.items()]


def _put(site: Aggregations, name: str, rows: Rows, window: str) -> tuple[str, str]:
    """Puts clean rows into the store. Returns path and digest."""
    columns = ("shop", "code", "amount")
    table = pa.table({column: pa.array([row[at] for row in rows], pa.string()) for at, column in enumerate(columns)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    body = sink.getvalue().to_pybytes()
    digest = hashlib.sha256(body).hexdigest()
    path = layout.landed_file(site.config.grid.parse(window), digest, layout.new_attempt(), f"{name}.parquet")
    site.intake.store.put_new(path, [body])
    return path, digest


def evaluated(site: Aggregations, name: str = "daily", scope: str = WINDOW, now: datetime | None = None) -> Evaluation:
    """The evaluation of one scope."""
    definitions = site.definitions()
    assert name in definitions.good, definitions.broken
    (found,) = site.evaluator.evaluate([definitions.good[name]], now, settled=True, known=definitions.good, scope=scope)
    return found


def answers(found: Evaluation) -> dict[str, tuple[bool, str]]:
    """Condition → whether it holds, and why."""
    return {answer.condition: (answer.passes, answer.why) for answer in found.answers}


def run(site: Aggregations, now: datetime | None = None, worker: str = "test") -> tuple[Tick, list[Run]]:
    """A tick, and what became of the runs that it claimed."""
    found = tick(site, now=now, worker=worker)
    done = []
    for claimed in found.claimed:
        try:
            done.append(carry_out(site, claimed, worker))
        except Exception:  # the run says why
            done.append(site.runs.get(claimed.id))
    return found, done


def table_rows(site: Aggregations, target: str = "daily") -> list[tuple[Any, ...]]:
    """The rows of a table of the DuckDB warehouse, without Recon's own columns, sorted."""
    import duckdb

    with duckdb.connect(str(site.config.path.parent / "warehouse.duckdb"), read_only=True) as connection:
        found = connection.execute(f"SELECT * EXCLUDE (recon_scope, recon_run) FROM {target}").fetchall()
    return sorted(found)


def edit(site: Aggregations, sql: str, **values: Any) -> None:
    """Changes the database by SQL, as people may."""
    with site.intake.database.write() as connection:
        connection.execute(sa.text(sql), values)


def stored_answers(site: Aggregations) -> list[dict[str, Any]]:
    """The stored evaluations, oldest first, with their answers by condition."""
    with site.intake.database.read() as connection:
        rows = connection.execute(sa.text("SELECT * FROM aggregation_evaluations ORDER BY id")).mappings().all()
    return [{**row, "answers": {one["condition"]: one for one in json.loads(row["answers"])}} for row in rows]


@contextmanager
def counted(site: Aggregations) -> Iterator[list[str]]:
    """The statements that the block executes."""
    found: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        found.append(statement)

    sa.event.listen(site.intake.database.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        sa.event.remove(site.intake.database.engine, "before_cursor_execute", note)
