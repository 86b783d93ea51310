"""Verifies runs and part-files: every byte of every live run, and that each entry leads to its record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recon.errors import Damaged
from recon.state.runs import Entries, RecordAddresses, Run, check_of, find_many, open_run, read_records
from recon.state.timeline import RunRef
from recon.storage.documents import RESTORE
from recon.storage.port import NotFound, ObjectStore
from recon.verification.findings import UNREADABLE, Findings, text_of
from recon.verification.proof import Proof

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

BATCH_RECORDS = 200_000
# A damaged batch is halved down to this number of records, which are then read one by one.
_ONE_BY_ONE = 1024

Rows = npt.NDArray[np.int64]


def live_records(proof: Proof, progress: Callable[[float], None]) -> Iterator[pa.Table]:
    """Checks every entry of every live run, and fills ``proof.records``. Yields the sound live records, each once: hi, lo, record (JSON
    line)."""
    import pyarrow as pa

    store, state, findings, read = proof.store, proof.history.state, proof.findings, proof.records
    runs = [_open(store, ref, findings) for ref in state.runs]
    read.runs_lost = sum(run is None for run in runs)
    total, done = sum(ref.entries for ref in state.runs), 0
    for number, (ref, run) in enumerate(zip(state.runs, runs, strict=True)):
        if run is None:
            continue
        newer = [other for other in runs[:number] if other is not None]
        entries = run.entries()
        for batch in _batches(store, ref, entries, findings):
            hi, lo = entries.hi[batch.taken], entries.lo[batch.taken]
            live = np.ones(len(batch.taken), dtype=bool)
            live[find_many(newer, hi, lo).query] = False
            read.live += int(live.sum())
            sound = _sound(proof, _found(entries, batch), hi, lo)
            lost = np.ones(len(live), dtype=bool)
            lost[sound.column("row").to_numpy()] = False
            read.lost += zip(hi[lost & live].tolist(), lo[lost & live].tolist(), strict=True)
            yield sound.filter(pa.array(live[sound.column("row").to_numpy()])).drop_columns(["row"])
            done += len(live)
            progress(done / max(total, 1))


@dataclass(frozen=True)
class _Batch:
    """Rows of a run's entries in one part-file, by offset. ``readable``: whether the part-file is long enough for them."""

    taken: Rows
    readable: npt.NDArray[np.bool_]


def _open(store: ObjectStore, ref: RunRef, findings: Findings) -> Run | None:
    """The run after checking its bytes; None if it cannot be read."""
    try:
        run = open_run(store, ref.path)
        run.verify()
    except UNREADABLE as error:
        findings.add(
            f"{ref.path}: the run cannot be read ({text_of(error)}); its records are not checked, nor anything that needs them; {RESTORE}"
        )
        return None
    if run.count != ref.entries:
        findings.add(f"{ref.path}: the run has {run.count} entries, its commit says {ref.entries}; {RESTORE}")
    return run


def _batches(store: ObjectStore, ref: RunRef, entries: Entries, findings: Findings) -> Iterator[_Batch]:
    """All entries of a run in the order of their bytes, after checking them against the part-files' sizes."""
    order = np.lexsort((entries.offset, entries.file))
    borders = np.searchsorted(entries.file[order], np.arange(len(entries.part_files) + 1))
    written = 0
    for number, path in enumerate(entries.part_files):
        rows = order[borders[number] : borders[number + 1]]
        offset, length = entries.offset[rows], entries.length[rows]
        try:
            size = store.size(path)
        except NotFound:
            findings.add(f"{path}: the part-file is gone, and with it {len(rows)} records of {ref.path}; {RESTORE}")
            size = 0
        else:
            written += size
            _check_cover(path, ref, offset, length, size, findings)
        readable = offset + length <= size
        for start in range(0, len(rows), BATCH_RECORDS):
            span = slice(start, start + BATCH_RECORDS)
            yield _Batch(rows[span], readable[span])
    if ref.part_bytes and written != ref.part_bytes:
        findings.add(f"{ref.path}: its part-files have {written} bytes, its commit says {ref.part_bytes}; {RESTORE}")


def _check_cover(path: str, ref: RunRef, offset: Any, length: Any, size: int, findings: Findings) -> None:
    """Checks the entries of a part-file, by offset, against its size: no overlap, and no gap if the run was written with it."""
    ends = offset + length
    beyond = int((ends > size).sum())
    if beyond:
        findings.add(
            f"{path}: cut short: it has {size} bytes, {int(ends[-1])} are expected; {beyond} records from offset "
            f"{int(offset[ends > size][0])} on cannot be read; {RESTORE}"
        )
    overlaps = np.flatnonzero(offset[1:] < ends[:-1])
    if len(overlaps):
        at = int(offset[overlaps[0] + 1])
        findings.add(f"{path}: two entries of {ref.path} overlap at offset {at}; {RESTORE}")
    if not ref.part_bytes:
        return  # a merged tier leaves out entries that newer runs supersede
    gaps = np.flatnonzero(np.append(offset, max(size, int(ends[-1]))) > np.append(0, ends))
    if len(gaps):
        at = int(np.append(0, ends)[gaps[0]])
        findings.add(f"{path}: no entry of {ref.path} leads to the bytes from offset {at} on; {RESTORE}")


def _found(entries: Entries, batch: _Batch) -> RecordAddresses:
    rows = batch.taken[batch.readable]
    place = (entries.file[rows], entries.offset[rows], entries.length[rows], entries.check[rows])
    return RecordAddresses(entries.part_files, np.flatnonzero(batch.readable), *place)


def _sound(proof: Proof, found: RecordAddresses, hi: Any, lo: Any) -> pa.Table:
    """row, hi, lo, record of the records whose bytes, form and key agree with their entries. ``row``: position in ``hi``."""
    import pyarrow as pa

    connection = proof.connection
    pieces = [
        pa.table({"row": part.query, "hi": hi[part.query], "lo": lo[part.query], "record": records.cast(pa.large_string())})
        for part, records in _readable(proof.store, found, proof.findings)
    ]
    schema = pa.schema([("row", pa.int64()), ("hi", pa.uint64()), ("lo", pa.uint64()), ("record", pa.large_string())])
    table = pa.concat_tables([schema.empty_table(), *pieces])
    connection.register("unchecked", table)
    wrong = connection.execute("""
        SELECT "row", key IS NULL FROM (
            SELECT "row", hi, lo,
                   CASE WHEN json_valid(record) AND right(record, 1) = chr(10) THEN record ->> '$.k' END AS key
            FROM unchecked)
        WHERE key IS NULL OR key_hash(key) <> (hi::UHUGEINT << 64) + lo ORDER BY "row" """).fetchall()
    connection.unregister("unchecked")
    if not wrong:
        return table
    places = dict(zip(found.query.tolist(), range(len(found)), strict=True))
    for row, formless in wrong:
        path, offset = _place(found, places[row])
        what = "is no JSON line with a key" if formless else "is of another key than its run entry's hash"
        proof.findings.add(f"{path}: the record at offset {offset} {what}; {RESTORE}")
    return table.filter(pa.array(~np.isin(table.column("row").to_numpy(), [row for row, _ in wrong])))


def _readable(store: ObjectStore, found: RecordAddresses, findings: Findings) -> Iterator[tuple[RecordAddresses, pa.StringViewArray]]:
    """The records whose bytes match their check, in pieces. A piece with a damaged record is halved until the record is found."""
    if not len(found):
        return
    try:
        yield found, read_records(store, found)
    except Damaged:
        if len(found) > _ONE_BY_ONE:
            middle = len(found) // 2
            yield from _readable(store, _part(found, slice(middle)), findings)
            yield from _readable(store, _part(found, slice(middle, None)), findings)
            return
        good = [row for row in range(len(found)) if _checks(store, found, row, findings)]
        if good:
            part = _part(found, good)
            yield part, read_records(store, part)


def _checks(store: ObjectStore, found: RecordAddresses, row: int, findings: Findings) -> bool:
    path, offset = _place(found, row)
    try:
        if check_of(store.get_range(path, offset, int(found.length[row]))) == int(found.check[row]):
            return True
    except Damaged:
        pass
    findings.add(f"{path}: the record at offset {offset} is not what was written; {RESTORE}")
    return False


def _part(found: RecordAddresses, rows: slice | Sequence[int]) -> RecordAddresses:
    columns = (found.query, found.part, found.offset, found.length, found.check)
    return RecordAddresses(found.part_files, *(column[rows] for column in columns))


def _place(found: RecordAddresses, row: int) -> tuple[str, int]:
    return found.part_files[int(found.part[row])], int(found.offset[row])
