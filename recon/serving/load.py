"""Loads a share into the index table: reads entries of a run and the keys of their records, and writes an item for each.

The same code runs in this process, in worker processes and in Lambda.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from recon.errors import Damaged
from recon.model.record import key_of
from recon.serving.dynamodb import WriteCounts
from recon.serving.items import Pointer
from recon.serving.shares import RunsGone, Share
from recon.state.runs import RecordAddresses, Run, find_many, open_run, open_runs, read_few
from recon.state.runs.entries import COLUMNS, Column
from recon.state.runs.file import BLOCK
from recon.storage import layout
from recon.storage.hashing import hash_of, salt_of
from recon.storage.port import NotFound, ObjectStore

BATCH_ENTRIES = 4 * BLOCK
BATCH_BYTES = 32 << 20
"""Entries, and bytes of their records, in memory at once."""


@dataclass(frozen=True)
class Loaded:
    """Counts of one loaded share. ``entries``: of the run that counted. ``items``: put or updated. ``refused``: the table has this pointer
    or a newer one. ``tombstones``: items of keys without contributions. ``units``: consumed write capacity."""

    share: str
    entries: int = 0
    items: int = 0
    refused: int = 0
    tombstones: int = 0
    units: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Items(Protocol):
    """What takes the items of a share: a table's client, or a file for an import. ``fill``: into a table without readers."""

    def fill(self, table: str, pointers: Iterable[Pointer], beat: Callable[[], None] = ...) -> WriteCounts: ...

    def update(self, table: str, pointers: Iterable[Pointer], beat: Callable[[], None] = ...) -> WriteCounts: ...


def load_share(store: ObjectStore, tables: Items, share: Share, beat: Callable[[], None] = lambda: None) -> Loaded:
    """Loads a share. Loading it again, or in two processes at once, changes nothing. ``beat`` is called between updates and between
    batches of some thousand entries.

    Raises RunsGone if the run or its part-files were swept, Damaged if they are not what was written, TableGone, and kinds of TryAgain.
    Items that were loaded before an error stay, and are right."""
    write = tables.fill if share.fresh else tables.update
    entries = tombstones = 0
    done = WriteCounts()
    try:
        for found, hi, lo in _batches(store, share):
            pointers = _pointers(store, share, found, hi, lo)
            entries += len(pointers)
            tombstones += sum(pointer.is_tombstone for pointer in pointers)
            done += write(share.table, pointers, beat)
            beat()
    except NotFound as error:
        raise RunsGone(f"{share.run}: its part-files were swept ({error})") from error
    return Loaded(share.share, entries, done.items, done.refused, tombstones, done.units)


def _batches(store: ObjectStore, share: Share) -> Iterator[tuple[RecordAddresses, Column, Column]]:
    """Places of the records of the share's entries that count, with their hashes."""
    run, newer = open_run(store, share.run), open_runs(store, share.newer)
    wanted = np.array([not share.attempt or layout.attempt_of(path) == share.attempt for path in run.part_files], bool)
    for first in range(share.first, share.end, BATCH_ENTRIES):
        entries = _entries(run, first, min(first + BATCH_ENTRIES, share.end))
        stays = np.asarray(wanted[entries["file"]])
        if newer:
            stays[find_many(newer, entries["hi"], entries["lo"]).query] = False
        taken = {name: column[stays] for name, column in entries.items()}
        for rows in _by_bytes(taken["length"]):
            part = {name: column[rows] for name, column in taken.items()}
            place = (part["file"], part["offset"], part["length"], part["check"])
            yield RecordAddresses(run.part_files, np.arange(len(part["hi"])), *place), part["hi"], part["lo"]


def _entries(run: Run, first: int, end: int) -> dict[str, Column]:
    """Rows of a run. Its hashes are checked here; a wrong offset, length or check is found when the record is read."""
    block = first // BLOCK
    hi, lo = run.hashes(block, -(-end // BLOCK))
    rows = slice(first - block * BLOCK, end - block * BLOCK)
    columns = {"hi": hi[rows], "lo": lo[rows]}
    columns |= {name: run.column(name, first, end) for name in COLUMNS if name not in columns}
    if len(columns["file"]):
        run.part_file(int(columns["file"].max()))
    return columns


def _by_bytes(length: Column) -> Iterator[slice]:
    ends: npt.NDArray[np.int64] = np.cumsum(length, dtype=np.int64)
    first = 0
    while first < len(length):
        before = int(ends[first - 1]) if first else 0
        end = max(first + 1, int(np.searchsorted(ends, before + BATCH_BYTES, side="right")))
        yield slice(first, end)
        first = end


def _pointers(store: ObjectStore, share: Share, found: RecordAddresses, hi: Column, lo: Column) -> list[Pointer]:
    """The pointer of each key. Reads the records for their keys, which the runs do not contain, and checks them."""
    pointers, salt = [], salt_of(store)
    columns = (column.tolist() for column in (hi, lo, found.part, found.offset, found.length, found.check))
    for record, *hashes, part, offset, length, check in zip(read_few(store, found), *columns, strict=True):
        key, lives = read_key(record)
        if key is None or hash_of(key, salt) != tuple(hashes):
            raise Damaged(
                f"{found.part_files[part]}: the record at offset {offset} is not that of its run entry in {share.run}; run 'recon verify'"
            )
        place = (found.part_files[part], offset, length, check) if lives else ()
        pointers.append(Pointer(key, share.sequence, *place))
    return pointers


def read_key(record: bytes) -> tuple[str | None, bool]:
    """The key of a record, and whether any window still contributes to it; without contributions it is a tombstone in the table."""
    try:
        return key_of(record)
    except ValueError:
        return None, False
