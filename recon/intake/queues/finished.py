"""The finished records of a file: as Arrow batches, as a converter would give them, and as a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
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


def write_finished(store: RecordStore, file: str, clean_file: Path, out: Path) -> None:
    """Writes a file's finished records to ``out``, with the metadata of the clean file that they are from."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from recon.storage import parquet

    with parquet.open_file(clean_file) as source:
        metadata = source.schema_arrow.metadata
    names = store.result_names(file)
    schema = pa.schema([(LINE, pa.int64()), *((name, pa.string()) for name in names)], metadata=metadata)
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for batch in finished(store, file):
            writer.write_batch(batch.replace_schema_metadata(metadata))
