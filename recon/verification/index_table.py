"""Verifies the index table: at the commit up to which it is filled, it agrees with the runs.

Both sides are loaded into a database on disk. Entries of the runs and items are compared by the key's hash, so that records are read only
where they differ. Items of later commits are compared with the newest state.
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
from recon.verification.findings import UNREADABLE, text_of
from recon.verification.proof import Proof

if TYPE_CHECKING:
    import duckdb

ENTRIES_AT_ONCE = 200_000
DIFFERING_AT_ONCE = 1_000
_FIX = "make it anew: recon index rebuild"
_PLACE = 'file, "offset", length, "check"'
_PLACE_TYPES = 'file VARCHAR, "offset" UBIGINT, length UINTEGER, "check" UINTEGER'


def check_table(proof: Proof, tables: TableClient, progress: Callable[[str, float], None]) -> int:
    """Compares the current table with the runs. Returns the number of its items; 0 if there is no table yet, which is no problem: the runs
    answer.

    Raises TryAgain or WrongUsage if DynamoDB does not answer."""
    connection, findings, timeline = proof.connection, proof.findings, Timeline(proof.store)
    build = builds.current(proof.store, timeline.head())
    if build is None:
        return 0
    if tables.owner(build.table) != build.owner:
        findings.add(f"table {build.table}: it is gone, or no longer the one that was filled; {_FIX}")
        return 0
    at = timeline.at(builds.frontier(proof.store, build))
    progress("", 0)
    connection.execute(f"CREATE TABLE entries (hi UBIGINT, lo UBIGINT, {_PLACE_TYPES})")
    connection.execute(f"CREATE TABLE items (name VARCHAR, hi UBIGINT, lo UBIGINT, {_PLACE_TYPES}, commit UBIGINT)")
    try:
        for run, entries in _live(proof.store, at):
            _insert_entries(connection, run, entries)
        progress("", 0.3)
        items = _insert_items(proof, tables, build)
        progress("", 0.8)
        _Comparison(proof, build, at, Timeline(proof.store).head()).report()
        return items
    except UNREADABLE as error:
        findings.add(f"table {build.table}: it is not compared with the runs, which cannot be read ({text_of(error)})")
        return 0
    finally:
        connection.execute("DROP TABLE entries; DROP TABLE items")


def _live(store: ObjectStore, state: State) -> Iterator[tuple[Run, dict[str, Any]]]:
    """The entries that no newer run supersedes, run by run in pieces: column → values."""
    newer: list[Run] = []
    for ref in state.runs:
        run = open_run(store, ref.path)
        for first in range(0, run.count, ENTRIES_AT_ONCE):
            end = min(first + ENTRIES_AT_ONCE, run.count)
            columns = {name: run.column(name, first, end) for name in ("hi", "lo", "file", "offset", "length", "check")}
            live = np.ones(end - first, bool)
            live[find_many(newer, columns["hi"], columns["lo"]).query] = False
            yield run, {name: column[live] for name, column in columns.items()}
            run.release()
        newer.append(run)


def _insert_entries(connection: duckdb.DuckDBPyConnection, run: Run, columns: dict[str, Any]) -> None:
    import pyarrow as pa

    numbers = pa.array(columns["file"].astype(np.int32))
    file = pa.DictionaryArray.from_arrays(numbers, pa.array(run.part_files or [""])).cast(pa.string())
    batch = pa.table({**columns, "file": file})  # noqa: F841 - DuckDB finds it by its name
    connection.execute(f"INSERT INTO entries SELECT hi, lo, {_PLACE} FROM batch")


def _insert_items(proof: Proof, tables: TableClient, build: TableBuild) -> int:
    """Loads every item of the table and returns their number. A tombstone has no place. An item that is named by a hash instead of its key
    gets the key from its record."""
    count = 0
    try:
        for page in tables.scan(build.table):
            rows = [row for item in page if (row := _row(proof, build, item)) is not None]
            count += len(page)
            _insert(proof.connection, rows)
    except TableGone as gone:
        proof.findings.add(f"{gone}; {_FIX}")
    return count


def _insert(connection: duckdb.DuckDBPyConnection, rows: Sequence[tuple[Any, ...]]) -> None:
    import pyarrow as pa

    kinds = (pa.string(), pa.uint64(), pa.uint64(), pa.string(), pa.uint64(), pa.uint32(), pa.uint32(), pa.uint64())
    names = ("name", "hi", "lo", "file", "offset", "length", "check", "commit")
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    arrays = {name: pa.array(list(column), kind) for name, kind, column in zip(names, kinds, columns, strict=True)}
    page = pa.table(arrays)  # noqa: F841 - DuckDB finds it by its name
    connection.execute(f"INSERT INTO items SELECT name, hi, lo, {_PLACE}, commit FROM page")


def _row(proof: Proof, build: TableBuild, item: dict[str, Any]) -> tuple[Any, ...] | None:
    name = str(item["key"]["S"])
    try:
        at = commit_of(int(item["seq"]["N"]))
        place: tuple[Any, ...] = (None,) * 4
        if "file" in item:
            sizes = (("offset", 62), ("length", 31), ("check", 32))
            place = (str(item["file"]["S"]), *(_number(item, column, bits) for column, bits in sizes))
        key = name if not name.startswith(MARK) else _key_at(proof.store, place) if "file" in item else None
        if key is not None and item_key(key) != name:
            raise ValueError(f"it leads to the record of {key[:80]}")
        hashes = (None, None) if key is None else hash_of(key, salt_of(proof.store))
        return (name, *hashes, *place, min(at, (1 << 63) - 1))
    except (*UNREADABLE, WrongUsage) as error:
        proof.findings.add(f"table {build.table}: the item of {name[:200]} is none of ours ({text_of(error)}); {_FIX}")
        return None


def _number(item: dict[str, Any], column: str, bits: int) -> int:
    number = int(item[column]["N"])
    if not 0 <= number < 1 << bits:
        raise ValueError(f"{column} {number}")
    return number


def _key_at(store: ObjectStore, place: Sequence[Any]) -> str:
    return key_of(read_record(store, RecordAddress(*place)))[0]


class _Comparison:
    """Reports entries without an equal item, and items without an equal entry."""

    def __init__(self, proof: Proof, build: TableBuild, at: State, head: State) -> None:
        self._store, self._connection, self._table, self._findings = proof.store, proof.connection, build.table, proof.findings
        self._at, self._head = at, head
        self._runs = [open_run(proof.store, run.path) for run in head.runs]

    def report(self) -> None:
        for rows in self._pieces(f"SELECT name, commit FROM items WHERE commit > {self._head.commit}"):
            for name, commit in rows:
                self._wrong(name, f"is of commit {commit}, which is still to come")
        self._connection.execute(f"CREATE TABLE lone AS SELECT * FROM entries e ANTI JOIN items i USING (hi, lo, {_PLACE})")
        self._connection.execute("CREATE TABLE wanted (name VARCHAR, lives BOOLEAN, place VARCHAR, hi UBIGINT, lo UBIGINT)")
        try:
            for rows in self._pieces(f"SELECT hi, lo, {_PLACE} FROM lone"):
                self._entries(rows)
            extra = f"SELECT name, hi, lo, commit, {_PLACE} FROM items i ANTI JOIN entries e USING (hi, lo) WHERE i.file IS NOT NULL"
            for rows in self._pieces(extra):
                for name, hi, lo, commit, *place in rows:
                    if commit <= self._at.commit or not self._is_newest(hi, lo, place):
                        self._wrong(name, "is of a key that the runs do not hold")
        finally:
            self._connection.execute("DROP TABLE lone; DROP TABLE wanted")

    def _entries(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Compares entries without an equal item with the item of the same key."""
        wanted = []
        for hi, lo, *place in rows:
            try:
                key, lives = key_of(read_record(self._store, RecordAddress(*place)))
                wanted.append((item_key(key), lives, _at(place), hi, lo))
            except UNREADABLE:
                continue  # reported by the check of the records
        self._connection.execute("DELETE FROM wanted")
        if wanted:
            self._connection.executemany("INSERT INTO wanted VALUES (?, ?, ?, ?, ?)", wanted)
        found = self._connection.execute(
            f"SELECT w.name, lives, place, w.hi, w.lo, i.commit, i.name IS NULL, {', '.join(f'i.{name}' for name in _PLACE.split(', '))} "
            "FROM wanted w LEFT JOIN items i ON w.name = i.name"
        ).fetchall()
        for name, lives, place, hi, lo, commit, absent, *served in found:
            where = f", its record is in {place}"
            if absent:
                self._wrong(name, f"is missing{where}")
            elif commit > self._at.commit:
                if not self._is_newest(hi, lo, served):
                    self._wrong(name, f"leads to {_at(served)}, whatever commit {commit} wrote{where}")
            elif served[0] is None:
                if lives:
                    self._wrong(name, f"is a tombstone{where}")
            else:
                self._wrong(name, f"leads to {_at(served)}{where}")

    def _is_newest(self, hi: int, lo: int, place: Sequence[Any]) -> bool:
        """Whether an item agrees with the newest state."""
        hits = next((hits for run in self._runs if (hits := run.find(hi, lo))), [])
        if place[0] is None:
            return any(not key_of(read_record(self._store, hit))[1] for hit in hits)
        return RecordAddress(*place) in hits

    def _wrong(self, name: str, what: str) -> None:
        self._findings.add(f"table {self._table}: the item of {name[:200]} {what}; {_FIX}")

    def _pieces(self, query: str) -> Iterator[list[tuple[Any, ...]]]:
        cursor = self._connection.cursor()
        try:
            cursor.execute(query)
            while rows := cursor.fetchmany(DIFFERING_AT_ONCE):
                yield rows
        finally:
            cursor.close()


def _at(place: Sequence[Any]) -> str:
    return f"{place[0]} at {place[1]}"
