"""DuckDB: MERGE INTO a table without a key, or INSERT … ON CONFLICT into one with a key.

Source of the way: the pages "MERGE INTO", "INSERT" and "Indexing" of DuckDB's documentation: a primary key for point look-ups, none for
bulk work. With a key, contributions are rows of a table of their own with an index on the key, since an update of a list in a table with
an index was many times dearer than both together when this was tried, once, by hand. Without a
key, they are a list in the row.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.peers.measure import Meter
from benchmarks.peers.peer import RAW, SAME, SUMS, TYPES, Row, added, after_replay, arriving, columns, create_table
from benchmarks.peers.workload import MEASURES


class _Duck:
    def __init__(self, folder: Path, league: str) -> None:
        self._file, self._league, self._temp = folder / "totals.duckdb", league, folder / "tmp"

    def _connect(self) -> duckdb.DuckDBPyConnection:
        limit = os.environ.get("PEER_MEMORY", "8GB")
        return duckdb.connect(self._file, config={"threads": 2, "memory_limit": limit, "temp_directory": str(self._temp)})

    def maintain(self, meter: Meter) -> None:
        """Nothing is asked for beyond the checkpoint that every batch ends with."""

    def open(self) -> None:
        self._opened = self._connect()

    def sums(self) -> list[str]:
        with self._connect() as connection:
            return [str(value) for value in connection.execute(SUMS + "totals").fetchone() or ()]


class Merged(_Duck):
    """MERGE INTO, no key."""

    def load(self, slices: Sequence[Path]) -> None:
        with self._connect() as connection:
            connection.execute(create_table(self._league))
            for file in slices:
                connection.execute(f"INSERT INTO totals SELECT {', '.join(columns(self._league))} FROM '{file}'")

    def batch(self, artifacts: Path, window: int, meter: Meter) -> None:
        changes = [f"{name} = {added('t', 'a', name)}" for name in MEASURES]
        if self._league == SAME:
            changes.append("contributions = list_concat(t.contributions, a.contributions)")
        self._merge(f"({arriving(artifacts, self._league, window)})", changes, meter)

    def replay(self, artifacts: Path, window: int, meter: Meter) -> None:
        self._merge(f"({after_replay('totals', artifacts, window)})", [f"{name} = a.{name}" for name in columns(SAME)[1:]], meter)

    def _merge(self, source: str, changes: Sequence[str], meter: Meter) -> None:
        with meter.stage("upsert"), self._connect() as connection:
            connection.execute(f"""
                MERGE INTO totals t USING {source} a ON t.key = a.key
                WHEN MATCHED THEN UPDATE SET {", ".join(changes)} WHEN NOT MATCHED THEN INSERT""")
            connection.execute("CHECKPOINT")

    def look_up(self, key: str) -> Row | None:
        return self._opened.execute(f"SELECT {', '.join(columns(self._league))} FROM totals WHERE key = ?", [key]).fetchone()


class Conflicted(_Duck):
    """INSERT … ON CONFLICT, a primary key."""

    def load(self, slices: Sequence[Path]) -> None:
        with self._connect() as connection:
            connection.execute(create_table(RAW))
            for file in slices:
                connection.execute(f"INSERT INTO totals SELECT {', '.join(columns(RAW))} FROM '{file}'")
            connection.execute("ALTER TABLE totals ADD PRIMARY KEY (key)")
            if self._league == SAME:
                unnested = " UNION ALL ".join(f"SELECT key, unnest(contributions) AS c FROM '{file}'" for file in slices)
                connection.execute(f"CREATE TABLE contributions AS {unnested}; CREATE INDEX contributions_key ON contributions (key)")
            connection.execute("CHECKPOINT")

    def batch(self, artifacts: Path, window: int, meter: Meter) -> None:
        with meter.stage("upsert"), self._connect() as connection:
            connection.begin()
            self._add(connection, arriving(artifacts, RAW, window))
            if self._league == SAME:
                connection.execute(f"INSERT INTO contributions SELECT key, contributions[1] FROM ({arriving(artifacts, SAME, window)})")
            connection.commit()
            connection.execute("CHECKPOINT")

    def _add(self, connection: duckdb.DuckDBPyConnection, source: str) -> None:
        changes = ", ".join(f"{name} = {added('t', 'excluded', name)}" for name in MEASURES)
        connection.execute(f"INSERT INTO totals AS t {source} ON CONFLICT (key) DO UPDATE SET {changes}")

    def replay(self, artifacts: Path, window: int, meter: Meter) -> None:
        taken = ", ".join(f"CAST(-c.{name} AS {kind}) AS {name}" for name, kind in TYPES.items())
        with meter.stage("upsert"), self._connect() as connection:
            connection.begin()
            self._add(connection, f"SELECT key, {taken} FROM contributions WHERE c.w = {window}")
            connection.execute(f"DELETE FROM contributions WHERE c.w = {window}")
            self._add(connection, arriving(artifacts, RAW, window))
            connection.commit()
            # A deleted row keeps its place in the index until the transaction is over.
            connection.execute(f"INSERT INTO contributions SELECT key, contributions[1] FROM ({arriving(artifacts, SAME, window)})")
            connection.execute("CHECKPOINT")

    def look_up(self, key: str) -> Row | None:
        row: Any = self._opened.execute(f"SELECT {', '.join(columns(RAW))} FROM totals WHERE key = ?", [key]).fetchone()
        if row is None or self._league == RAW:
            return row  # type: ignore[no-any-return]
        return (*row, [c for (c,) in self._opened.execute("SELECT c FROM contributions WHERE key = ?", [key]).fetchall()])
