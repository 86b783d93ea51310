"""The finished records of a file as Arrow batches, as a converter would give them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from recon.intake.files.parquet import LINE
from recon.intake.queues.parcels import records_of
from recon.intake.queues.port import RecordStore

if TYPE_CHECKING:
    import pyarrow as pa


def finished(store: RecordStore, file: str) -> Iterator[pa.RecordBatch]:
    """Batches of ``LINE`` and the results' texts, in the order of lines. All have the columns of all results; null where a result lacks
    a column. ``store.counts(file)`` says whether these are all."""
    import pyarrow as pa

    names = store.result_names(file)
    schema = pa.schema([(LINE, pa.int64()), *((name, pa.string()) for name in names)])
    for parcel in store.results(file):
        records = records_of(parcel)
        columns = dict(zip(records.names, records.columns, strict=True))
        nothing = [None] * parcel.count
        yield pa.record_batch([records.lines, *(columns.get(name, nothing) for name in names)], schema=schema)
