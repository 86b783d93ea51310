"""Verifies runs and part-files: every byte of every live run, and that each entry leads to its record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recon.config.form import form_of
from recon.errors import Damaged
from recon.model.form import Form, read_head
from recon.state.forms import head_of_part
from recon.state.runs import Entries, RecordAddresses, Run, check_of, find_many, open_run, read_records
from recon.state.timeline import RunRef
from recon.storage.documents import RESTORE
from recon.storage.port import NotFound, ObjectStore
from recon.verification.findings import UNREADABLE, Findings, text_of
from recon.verification.proof import Proof

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from recon.verification.words import Decoded

BATCH_RECORDS = 200_000
BATCH_BYTES = 1 << 27
"""Records that are decoded at once, and their bytes: at most so many, or one record. The decoded tables need about three times as much."""
# A damaged batch is halved down to this number of records, which are then read one by one.
_ONE_BY_ONE = 1024

Rows = npt.NDArray[np.int64]


def live_records(proof: Proof, progress: Callable[[float], None]) -> Iterator[Decoded]:
    """Checks every entry of every live run, and fills ``proof.records``. Yields the sound live records, each once.

    Raises JsonLines where the part-files are of an earlier version."""
    store, state, read = proof.store, proof.history.state, proof.records
    runs = [_open(store, ref, proof.findings) for ref in state.runs]
    read.runs_lost = sum(run is None for run in runs)
    total, done = sum(ref.entries for ref in state.runs), 0
    for number, (ref, run) in enumerate(zip(state.runs, runs, strict=True)):
        if run is None:
            continue
        newer = [other for other in runs[:number] if other is not None]
        entries = run.entries()
        for batch in _batches(proof, ref, entries):
            hi, lo = entries.hi[batch.taken], entries.lo[batch.taken]
            live = np.ones(len(batch.taken), dtype=bool)
            live[find_many(newer, hi, lo).query] = False
            read.live += int(live.sum())
            lost = np.ones(len(live), dtype=bool)
            if batch.form is not None:
                sound = _sound(proof, batch.form, _found(entries, batch), hi, lo)
                lost[sound.artifacts.column("row").to_numpy()] = False
                yield sound.only(live)
            read.lost += zip(hi[lost & live].tolist(), lo[lost & live].tolist(), strict=True)
            done += len(live)
            progress(done / max(total, 1))


@dataclass(frozen=True)
class _Batch:
    """Rows of a run's entries in one part-file, by offset. ``readable``: whether the part-file is long enough for them. ``form``: None
    where the head cannot be read."""

    form: Form | None
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


def _batches(proof: Proof, ref: RunRef, entries: Entries) -> Iterator[_Batch]:
    """All entries of a run in the order of their bytes, after checking part-files' heads and sizes."""
    findings = proof.findings
    order = np.lexsort((entries.offset, entries.file))
    borders = np.searchsorted(entries.file[order], np.arange(len(entries.part_files) + 1))
    written: int | None = 0
    for number, path in enumerate(entries.part_files):
        rows = order[borders[number] : borders[number + 1]]
        offset, length = entries.offset[rows], entries.length[rows]
        form, size, head = None, 0, 0
        try:
            size = proof.store.size(path)
            form, head = _head(proof, path)
        except NotFound:
            findings.add(f"{path}: the part-file is gone, and with it {len(rows)} records of {ref.path}; {RESTORE}")
        except Damaged as error:
            findings.add(f"{error}; {len(rows)} records of {ref.path} cannot be decoded without its head")
            written = None
        else:
            written = None if written is None else written + size - head
            _check_cover(path, ref, _Cover(head, offset, offset + length, size), findings)
        readable = offset + length <= size
        for span in _spans(length):
            yield _Batch(form, rows[span], readable[span])
    if ref.part_bytes and written is not None and written != ref.part_bytes:
        findings.add(f"{ref.path}: the records in its part-files have {written} bytes, its commit says {ref.part_bytes}; {RESTORE}")


def _spans(length: Any) -> Iterator[slice]:
    """Records of these lengths in batches."""
    ends = np.cumsum(length, dtype=np.uint64)
    first = 0
    while first < len(ends):
        within = int(np.searchsorted(ends, int(ends[first]) - int(length[first]) + BATCH_BYTES, side="right"))
        until = min(first + BATCH_RECORDS, max(first + 1, within))
        yield slice(first, until)
        first = until


def _head(proof: Proof, path: str) -> tuple[Form, int]:
    """The form in the head of a part-file, and its bytes, after comparing it with the rules. Raises NotFound, JsonLines and Damaged."""
    head, state, config = head_of_part(proof.store, path), proof.history.state, proof.config
    form = read_head(head)
    if form.rules != state.rules:
        raise Damaged(f"{path}: its head is of the rules version {form.rules}, the newest commit of {state.rules}; {RESTORE}")
    expected = form_of(config) if state.rules == config.rules_version else form
    if head != expected.head():
        wrong = ", ".join(field.name for field in fields(Form) if getattr(form, field.name) != getattr(expected, field.name))
        raise Damaged(f"{path}: its head differs from what the rules give ({wrong or 'the form of its JSON'}); {RESTORE}")
    return form, len(head)


@dataclass(frozen=True)
class _Cover:
    """The bytes of a part-file: of its head, and of the entries' records from ``offset`` to ``ends``, by offset."""

    head: int
    offset: Any
    ends: Any
    size: int


def _check_cover(path: str, ref: RunRef, cover: _Cover, findings: Findings) -> None:
    """Checks the entries of a part-file against its size: no overlap, and no gap if the run was written with it."""
    offset, ends, size = cover.offset, cover.ends, cover.size
    beyond = int((ends > size).sum())
    if beyond:
        findings.add(
            f"{path}: cut short: it has {size} bytes, {int(ends[-1])} are expected; {beyond} records from offset "
            f"{int(offset[ends > size][0])} on cannot be read; {RESTORE}"
        )
    before = np.append(np.uint64(cover.head), ends)
    overlaps = np.flatnonzero(offset < before[:-1])
    if len(overlaps):
        at = int(offset[overlaps[0]])
        findings.add(f"{path}: the entry of {ref.path} for offset {at} overlaps the entry before it, or the head; {RESTORE}")
    if not ref.part_bytes:
        return  # a merged tier leaves out entries that newer runs supersede
    gaps = np.flatnonzero(np.append(offset, max(size, int(ends[-1]))) > before)
    if len(gaps):
        findings.add(f"{path}: no entry of {ref.path} leads to the bytes from offset {int(before[gaps[0]])} on; {RESTORE}")


def _found(entries: Entries, batch: _Batch) -> RecordAddresses:
    rows = batch.taken[batch.readable]
    place = (entries.file[rows], entries.offset[rows], entries.length[rows], entries.check[rows])
    return RecordAddresses(entries.part_files, np.flatnonzero(batch.readable), *place)


def _sound(proof: Proof, form: Form, found: RecordAddresses, hi: Any, lo: Any) -> Decoded:
    """The records whose bytes, form and key agree with their entries. ``row``: position in ``hi``."""
    import pyarrow as pa

    from recon.verification.words import decode

    pieces = list(_readable(proof.store, found, proof.findings))
    rows = np.concatenate([np.zeros(0, np.int64), *(part.query for part, _ in pieces)])
    records = pa.concat_arrays([pa.array([], pa.large_binary()), *(read.cast(pa.large_binary()) for _, read in pieces)])
    decoded = decode(form, records).numbered(rows)
    places = dict(zip(found.query.tolist(), range(len(found)), strict=True))

    def add(row: int, what: str) -> None:
        path, offset = _place(found, places[row])
        proof.findings.add(f"{path}: the record at offset {offset} {what}; {RESTORE}")

    for row, reason in sorted(decoded.broken.items()):
        add(row, f"is no record of its part-file's form ({reason})")
    for row, reason in sorted(decoded.odd.items()):
        add(row, f"is written in another form than expected ({reason})")
    own = decoded.artifacts.column("row").to_numpy()
    keyed = decoded.artifacts.select(["row", "key"]).append_column("hi", pa.array(hi[own])).append_column("lo", pa.array(lo[own]))
    proof.connection.register("unchecked", keyed)
    wrong = proof.connection.execute('SELECT "row" FROM unchecked WHERE key_hash(key) <> (hi::UHUGEINT << 64) + lo ORDER BY 1').fetchall()
    proof.connection.unregister("unchecked")
    keep = np.ones(len(hi), bool)
    for (row,) in wrong:
        keep[row] = False
        add(row, "is of another key than its run entry's hash")
    return decoded.only(keep)


def _readable(store: ObjectStore, found: RecordAddresses, findings: Findings) -> Iterator[tuple[RecordAddresses, pa.BinaryViewArray]]:
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
