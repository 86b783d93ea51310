"""Inputs of transformations that a reconciliation has: its artifacts, its breaks, and the tables that its aggregations load."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from recon.errors import WrongInput, WrongUsage
from recon.transformations.inputs.opening import Fetch
from recon.transformations.request.inputs import Input
from recon.vocabulary.types import Type

if TYPE_CHECKING:
    from recon.aggregations.runs.site import Aggregations
    from recon.intake.sources.site import Intake


class Readers(Protocol):
    """What is read of a reconciliation; see recon.api.Reconciliation."""

    def export(self, file: str | Path, *, through: str | None = None) -> int: ...

    def export_breaks(self, file: str | Path, *, through: str | None = None) -> int: ...

    def intake(self) -> Intake: ...


def fetching(readers: Readers) -> Fetch:
    """Reads such inputs by the readers of a reconciliation."""

    def fetch(given: Input, folder: Path) -> Path:
        file = folder / "rows.parquet"
        if given.from_ == "table":
            from recon.aggregations.runs.site import Aggregations  # loads the database's library, which few requests need

            _write_table(Aggregations(readers.intake()), given, file)
        else:
            (readers.export if given.from_ == "artifacts" else readers.export_breaks)(file, through=given.window)
        return file

    return fetch


def _write_table(site: Aggregations, given: Input, file: Path) -> None:
    """Raises WrongUsage for a table of windows without a window, WrongInput for a table without rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from recon.aggregations.preconditions.snapshot import ALL

    definition = site.preview().named(str(given.table))
    if (definition.section.per == ALL) == (given.window is not None):
        raise WrongUsage(f"{given.table} is loaded {'as a whole; leave out the window' if given.window else 'per window; write window: …'}")
    kinds = definition.column_types
    schema = pa.schema([(name, _arrow(kind)) for name, kind in kinds.items()])
    with closing(site.warehouse.rows(definition.section.target, given.window or ALL, list(kinds))) as batches:
        writer = None
        for batch in filter(None, batches):
            writer = writer or pq.ParquetWriter(file, schema, compression="zstd")
            columns = zip(zip(*batch, strict=True), schema, strict=True)
            writer.write_batch(pa.record_batch([_array(values, field.type) for values, field in columns], schema))
        if writer is None:
            raise WrongInput(f"{given.shown} has no rows in {site.warehouse.shown}; 'recon aggregation why {given.table}' says why")
        writer.close()


def _array(values: Sequence[Any], kind: Any) -> Any:
    """Values of a column, which a warehouse may give as texts."""
    import pyarrow as pa

    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values], pa.string()).cast(kind)


def _arrow(kind: Type) -> Any:
    import pyarrow as pa

    match kind.kind:
        case "decimal":
            return pa.decimal128(kind.precision, kind.scale)
        case "timestamp":
            return pa.timestamp("us", "UTC")
        case other:
            return {"text": pa.string(), "integer": pa.int64(), "boolean": pa.bool_(), "date": pa.date32()}[other]
