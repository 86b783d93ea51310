"""Verifying the index table: that it says just what the runs say, at the commit that it has come to.

Both sides go into a database on disk: an entry of the runs and an item are compared by the key's hash, so that records are read only where
they differ. Items that later commits have moved on already are compared with the newest state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import WrongUsage
from recon.model.record import key_of
from recon.serving import builds
from recon.serving.builds import TableBuild
from recon.serving.dynamodb import TableClient, TableGone
from recon.serving.items import MARK, commit_of, item_key
from recon.state.runs import RecordAddress, Run, find_many, open_run, read_record
from recon.state.timeline import State, Timeline
from recon.storage.hashing import hash_of, salt_of
from recon.storage.port import ObjectStore
from recon.verification.findings import UNREADABLE, Findings, said

if TYPE_CHECKING:
    import duckdb

ENTRIES_AT_ONCE = 200_000
DIFFERING_AT_ONCE = 1_000
_MEND = "make it anew: recon index rebuild"
_PLACE = 'file, "offset", length, "check"'


def check_table(
    store: ObjectStore,
    connection: duckdb.DuckDBPyConnection,
    tables: TableClient,
    findings: Findings,
    progress: Callable[[str, float], None],
) -> int:
    """Compares the table that stands with the runs. Returns its items; 0 where none stands yet, which is no problem: the runs answer.

    Raises kinds of TryAgain, and WrongUsage, where DynamoDB does not answer."""
    timeline = Timeline(store)
    build = builds.current(store, timeline.head())
    if build is None:
        return 0
    if tables.owner(build.table) != build.owner:
        findings.add(f"table {build.table}: it is gone, or no longer the one that was filled; {_MEND}")
        return 0
    at = timeline.at(builds.frontier(store, build))
    progress("", 0)
    try:
        return _compared(store, connection, tables, build, at, findings, progress)
    except UNREADABLE as error:
        findings.add(f"table {build.table}: it is not compared with the runs, which cannot be read ({said(error)})")
        return 0


def _compared(
    store: ObjectStore,
    connection: duckdb.DuckDBPyConnection,
    tables: TableClient,
    build: TableBuild,
    at: State,
    findings: Findings,
    progress: Callable[[str, float], None],
) -> int:
    connection.execute(f"CREATE TABLE entries (hi UBIGINT, lo UBIGINT, {_columns()})")
    connection.execute(f"CREATE TABLE items (name VARCHAR, hi UBIGINT, lo UBIGINT, {_columns()}, said UBIGINT)")
    try:
        for run, taken in _live(store, at):
            _insert_entries(connection, run, taken)
        progress("", 0.3)
        items = _insert_items(store, connection, tables, build, findings)
        progress("", 0.8)
        _Comparison(store, connection, build, at, Timeline(store).head(), findings).report()
        return items
    finally:
        connection.execute("DROP TABLE entries; DROP TABLE items")


def _columns() -> str:
    return 'file VARCHAR, "offset" UBIGINT, length UINTEGER, "check" UINTEGER'


def _live(store: ObjectStore, state: State) -> Iterator[tuple[Run, dict[str, Any]]]:
    """The entries that no newer run supersedes, run by run in pieces."""
    newer: list[Run] = []
    for ref in state.runs:
        run = open_run(store, ref.path)
        for first in range(0, run.count, ENTRIES_AT_ONCE):
            end = min(first + ENTRIES_AT_ONCE, run.count)
            held = {name: run.column(name, first, end) for name in ("hi", "lo", "file", "offset", "length", "check")}
            stays = np.ones(end - first, bool)
            stays[find_many(newer, held["hi"], held["lo"]).query] = False
            yield run, {name: column[stays] for name, column in held.items()}
            run.release()
        newer.append(run)


def _insert_entries(connection: duckdb.DuckDBPyConnection, run: Run, taken: dict[str, Any]) -> None:
    import pyarrow as pa

    numbers = pa.array(taken["file"].astype(np.int32))
    file = pa.DictionaryArray.from_arrays(numbers, pa.array(run.part_files or [""])).cast(pa.string())
    batch = pa.table({**taken, "file": file})  # noqa: F841 - DuckDB finds it by its name
    connection.execute(f"INSERT INTO entries SELECT hi, lo, {_PLACE} FROM batch")


def _insert_items(
    store: ObjectStore, connection: duckdb.DuckDBPyConnection, tables: TableClient, build: TableBuild, findings: Findings
) -> int:
    """Every item of the table. A tombstone has no place; an item whose name is not the key itself gets its hash from its record."""
    count = 0
    try:
        for page in tables.scan(build.table):
            rows = [row for item in page if (row := _row(store, build, item, findings)) is not None]
            count += len(page)
            _insert(connection, rows)
    except TableGone as gone:
        findings.add(f"{gone}; {_MEND}")
    return count


def _insert(connection: duckdb.DuckDBPyConnection, rows: Sequence[tuple[Any, ...]]) -> None:
    import pyarrow as pa

    kinds = (pa.string(), pa.uint64(), pa.uint64(), pa.string(), pa.uint64(), pa.uint32(), pa.uint32(), pa.uint64())
    names = ("name", "hi", "lo", "file", "offset", "length", "check", "said")
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    arrays = {name: pa.array(list(column), kind) for name, kind, column in zip(names, kinds, columns, strict=True)}
    page = pa.table(arrays)  # noqa: F841 - DuckDB finds it by its name
    connection.execute(f"INSERT INTO items SELECT name, hi, lo, {_PLACE}, said FROM page")


def _row(store: ObjectStore, build: TableBuild, item: dict[str, Any], findings: Findings) -> tuple[Any, ...] | None:
    name = str(item["key"]["S"])
    try:
        at = commit_of(int(item["seq"]["N"]))
        place: tuple[Any, ...] = (None,) * 4
        if "file" in item:
            sizes = (("offset", 62), ("length", 31), ("check", 32))
            place = (str(item["file"]["S"]), *(_number(item, column, bits) for column, bits in sizes))
        key = name if not name.startswith(MARK) else _key_at(store, place) if "file" in item else None
        if key is not None and item_key(key) != name:
            raise ValueError(f"it leads to the record of {key[:80]}")
        hashes = (None, None) if key is None else hash_of(key, salt_of(store))
        return (name, *hashes, *place, min(at, (1 << 63) - 1))
    except (*UNREADABLE, WrongUsage) as error:
        findings.add(f"table {build.table}: the item of {name[:200]} is none of ours ({said(error)}); {_MEND}")
        return None


def _number(item: dict[str, Any], column: str, bits: int) -> int:
    number = int(item[column]["N"])
    if not 0 <= number < 1 << bits:
        raise ValueError(f"{column} {number}")
    return number


def _key_at(store: ObjectStore, place: Sequence[Any]) -> str:
    return key_of(read_record(store, RecordAddress(*place)))[0]


class _Comparison:
    """Entries without an equal item, and items without an equal entry, each looked at by itself."""

    def __init__(
        self, store: ObjectStore, connection: duckdb.DuckDBPyConnection, build: TableBuild, at: State, head: State, findings: Findings
    ) -> None:
        self._store, self._connection, self._table, self._findings = store, connection, build.table, findings
        self._at, self._head = at, head
        self._runs = [open_run(store, run.path) for run in head.runs]

    def report(self) -> None:
        self._say(f"SELECT name, said FROM items WHERE said > {self._head.commit}", "is of commit {1}, which is still to come", ())
        self._connection.execute(f"CREATE TABLE lone AS SELECT * FROM entries e ANTI JOIN items i USING (hi, lo, {_PLACE})")
        self._connection.execute("CREATE TABLE asked (name VARCHAR, lives BOOLEAN, place VARCHAR, hi UBIGINT, lo UBIGINT)")
        try:
            for rows in self._pieces(f"SELECT hi, lo, {_PLACE} FROM lone"):
                self._entries(rows)
            extra = f"SELECT name, hi, lo, said, {_PLACE} FROM items i ANTI JOIN entries e USING (hi, lo) WHERE i.file IS NOT NULL"
            for rows in self._pieces(extra):
                for name, hi, lo, at, *place in rows:
                    if at <= self._at.commit or not self._newest(hi, lo, place):
                        self._findings.add(f"table {self._table}: the item of {name[:200]} is of a key that the runs do not hold; {_MEND}")
        finally:
            self._connection.execute("DROP TABLE lone; DROP TABLE asked")

    def _entries(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Entries without an equal item: what the item of their key says instead."""
        asked = []
        for hi, lo, *place in rows:
            try:
                key, lives = key_of(read_record(self._store, RecordAddress(*place)))
                asked.append((item_key(key), lives, f"{place[0]} at {place[1]}", hi, lo))
            except UNREADABLE:
                continue  # verification_records tells of it
        self._connection.execute("DELETE FROM asked")
        if asked:
            self._connection.executemany("INSERT INTO asked VALUES (?, ?, ?, ?, ?)", asked)
        found = self._connection.execute(
            f"SELECT a.name, lives, place, a.hi, a.lo, i.said, i.name IS NULL, {', '.join(f'i.{one}' for one in _PLACE.split(', '))} "
            "FROM asked a LEFT JOIN items i ON a.name = i.name"
        ).fetchall()
        for name, lives, place, hi, lo, at, absent, *served in found:
            if absent:
                self._wrong(name, "is missing", place)
            elif at > self._at.commit:
                if not self._newest(hi, lo, served):
                    self._wrong(name, f"leads to {_said(served)}, whatever commit {at} wrote", place)
            elif served[0] is None:
                if lives:
                    self._wrong(name, "is a tombstone", place)
            else:
                self._wrong(name, f"leads to {_said(served)}", place)

    def _newest(self, hi: int, lo: int, place: Sequence[Any]) -> bool:
        """Whether an item is what the newest state says, too."""
        hits = next((hits for run in self._runs if (hits := run.find(hi, lo))), [])
        if place[0] is None:
            return any(not key_of(read_record(self._store, hit))[1] for hit in hits)
        return RecordAddress(*place) in hits

    def _wrong(self, name: str, what: str, place: str) -> None:
        self._findings.add(f"table {self._table}: the item of {name[:200]} {what}, its record lies in {place}; {_MEND}")

    def _say(self, query: str, what: str, given: Sequence[Any]) -> None:
        for rows in self._pieces(query):
            for row in rows:
                self._findings.add(f"table {self._table}: the item of {str(row[0])[:200]} {what.format(*row)}; {_MEND}")

    def _pieces(self, query: str) -> Iterator[list[tuple[Any, ...]]]:
        cursor = self._connection.cursor()
        try:
            cursor.execute(query)
            while rows := cursor.fetchmany(DIFFERING_AT_ONCE):
                yield rows
        finally:
            cursor.close()


def _said(place: Sequence[Any]) -> str:
    return f"{place[0]} at {place[1]}"
