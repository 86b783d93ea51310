"""PostgreSQL: COPY into a staging table, INSERT … ON CONFLICT, VACUUM now and then.

Source of the way: the pages "Populating a Database", "INSERT" and "Routine Vacuuming" of PostgreSQL's documentation. Contributions are
one jsonb object a row, window → values, so that a window that comes again replaces its own.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import duckdb
import psycopg2
import pyarrow as pa
import pyarrow.csv as pa_csv

from benchmarks.peers.measure import Meter
from benchmarks.peers.peer import SAME, SUMS, Row, added, columns, contribution
from benchmarks.peers.workload import MEASURES

_TYPES = {"billed": "numeric", "paid": "numeric", "refunded": "numeric", "lines": "bigint"}


class PostgreSQL:
    def __init__(self, folder: Path, league: str, address: str) -> None:
        self._address, self._league, self._table = address, league, f"totals_{league}"

    def _connect(self):  # type: ignore[no-untyped-def]
        connection = psycopg2.connect(self._address)
        connection.autocommit = True
        return connection

    def _columns(self) -> str:
        listed = ", contributions jsonb" if self._league == SAME else ""
        return f'key text COLLATE "C", {", ".join(f"{name} {kind}" for name, kind in _TYPES.items())}{listed}'

    def load(self, slices: Sequence[Path]) -> None:
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {self._table}; CREATE TABLE {self._table} ({self._columns()})")
            for file in slices:
                rows = ", ".join(["key", *MEASURES])
                if self._league == SAME:
                    one = "{'n': c.n, 'ids': c.ids, 'billed': c.billed, 'paid': c.paid, 'refunded': c.refunded, 'lines': c.lines}"
                    pairs = f"map_from_entries(list_transform(contributions, lambda c: struct_pack(k := c.w::VARCHAR, v := {one})))"
                    rows += f", CAST(to_json({pairs}) AS VARCHAR)"
                self._copy(cursor, self._table, f"SELECT {rows} FROM '{file}'")
            cursor.execute(f"ALTER TABLE {self._table} ADD PRIMARY KEY (key)")
            cursor.execute(f"VACUUM (ANALYZE) {self._table}")
            cursor.execute("CHECKPOINT")

    def _copy(self, cursor, table: str, query: str) -> None:  # type: ignore[no-untyped-def]
        with duckdb.connect(config={"threads": 2, "memory_limit": "8GB"}) as connection:
            for batch in connection.sql(query).to_arrow_reader(200_000):
                text = io.BytesIO()
                pa_csv.write_csv(pa.Table.from_batches([batch]), text, pa_csv.WriteOptions(include_header=False))
                text.seek(0)
                cursor.copy_expert(f"COPY {table} FROM STDIN (FORMAT csv)", text)

    def _stage(self, cursor, artifacts: Path, window: int) -> None:  # type: ignore[no-untyped-def]
        cursor.execute(f"CREATE TEMP TABLE arriving ({self._columns()})")
        rows = ", ".join(["key", *(f"m_{name}" for name in MEASURES)])
        if self._league == SAME:
            rows += f", CAST(to_json(map {{'{window}': {contribution(window)}}}) AS VARCHAR)"
        self._copy(cursor, "arriving", f"SELECT {rows} FROM read_parquet('{artifacts}')")
        cursor.execute("ANALYZE arriving")

    def batch(self, artifacts: Path, window: int, meter: Meter) -> None:
        changes = [f"{name} = {added('t', 'excluded', name)}" for name in MEASURES]
        if self._league == SAME:
            changes.append("contributions = t.contributions || excluded.contributions")
        with meter.stage("upsert"), closing(self._connect()) as connection, connection.cursor() as cursor:
            self._stage(cursor, artifacts, window)
            cursor.execute(
                f"INSERT INTO {self._table} AS t SELECT * FROM arriving ON CONFLICT (key) DO UPDATE SET {', '.join(changes)}; "
                "DROP TABLE arriving"
            )
            cursor.execute("CHECKPOINT")

    def replay(self, artifacts: Path, window: int, meter: Meter) -> None:
        def of(name: str) -> str:
            return f"(t.contributions->'{window}'->>'{name}')::{_TYPES[name]}"

        changes = [f"{name} = coalesce(t.{name} - {of(name)}, t.{name})" for name in MEASURES]
        with meter.stage("upsert"), closing(self._connect()) as connection, connection.cursor() as cursor:
            self._stage(cursor, artifacts, window)
            cursor.execute(
                f"UPDATE {self._table} t SET {', '.join(changes)}, contributions = t.contributions - '{window}' "
                f"WHERE t.contributions ? '{window}'"
            )
            added_again = [f"{name} = {added('t', 'excluded', name)}" for name in MEASURES]
            cursor.execute(
                f"INSERT INTO {self._table} AS t SELECT * FROM arriving ON CONFLICT (key) DO UPDATE SET {', '.join(added_again)}, "
                "contributions = t.contributions || excluded.contributions; DROP TABLE arriving"
            )

    def maintain(self, meter: Meter) -> None:
        with meter.stage("maintenance"), closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f"VACUUM (ANALYZE) {self._table}")
            cursor.execute("CHECKPOINT")

    def open(self) -> None:
        self._opened = self._connect().cursor()
        self._opened.execute(f"PREPARE one (text) AS SELECT {', '.join(columns(self._league))} FROM {self._table} WHERE key = $1")

    def look_up(self, key: str) -> Row | None:
        self._opened.execute("EXECUTE one (%s)", [key])
        return self._opened.fetchone()

    def sums(self) -> list[str]:
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute(SUMS + self._table)
            return [str(value) for value in cursor.fetchone() or ()]
