"""The clean step: a converted file as messages on the store queue, from where its cleaner was last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from recon.intake.queues.parcels import RECORDS_MAX, Parcel, Records, parcels_of
from recon.intake.queues.port import Progress, Queue, RecordStore

if TYPE_CHECKING:
    import pyarrow as pa

HAND_OVER_S = 60.0
"""A cleaner with less time than this hands over to the next."""
_BYTES_AT_ONCE = 8 << 20


def clean(
    store: RecordStore, queue: Queue, file: str, name: str, batches: Iterable[pa.RecordBatch], left_s: Callable[[], float] | None = None
) -> Progress:
    """Sends a file's records to the store queue. ``batches``: the line, BIGINT and ascending, then texts; lines that are done are skipped.

    Returns how far it is: not complete if ``left_s``, the seconds that are left, are too few. Call it again then. Only records that were
    sent and not committed are sent twice, in the same parcels."""
    progress = store.begin(file, name)
    if progress.complete:
        return progress
    waiting: list[Parcel] = []
    for records in windows(batches, progress.line):
        waiting += parcels_of(file, records)
        progress = Progress(records.lines[-1], progress.rows + len(records.lines), False)
        is_late = left_s is not None and left_s() < HAND_OVER_S
        if is_late or sum(len(one.records) for one in waiting) >= _BYTES_AT_ONCE:
            _send(store, queue, file, waiting, progress)
            waiting = []
        if is_late:
            return progress
    progress = Progress(progress.line, progress.rows, True)
    _send(store, queue, file, waiting, progress)
    return progress


def _send(store: RecordStore, queue: Queue, file: str, waiting: list[Parcel], progress: Progress) -> None:
    """The messages first: a cleaner that dies in between sends them again, and the store knows them."""
    queue.send([one.body() for one in waiting])
    store.advance(file, progress)


def windows(batches: Iterable[pa.RecordBatch], after: int = 0) -> Iterator[Records]:
    """Records 500 by 500, however they are batched, of the lines after ``after``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kept: pa.Table | None = None
    for batch in batches:
        if batch.num_rows and batch.column(0)[0].as_py() <= after:
            batch = batch.filter(pc.greater(batch.column(0), after))
        table = pa.Table.from_batches([batch])
        kept = table if kept is None else pa.concat_tables([kept, table])
        whole = kept.num_rows - kept.num_rows % RECORDS_MAX
        if whole:
            yield from _cut(kept.slice(0, whole))
            kept = kept.slice(whole)
    if kept is not None and kept.num_rows:
        yield from _cut(kept)


def _cut(table: pa.Table) -> Iterator[Records]:
    names = tuple(table.column_names[1:])
    for batch in table.combine_chunks().to_batches(max_chunksize=RECORDS_MAX):
        lines, *columns = (column.to_pylist() for column in batch.columns)
        yield Records(names, tuple(lines), tuple(columns))
