"""Inputs of transformations that a reconciliation has: its artifacts, its breaks, and the tables that its aggregations load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from recon.aggregations.preconditions.snapshot import ALL
from recon.aggregations.runs.site import Aggregations
from recon.errors import WrongInput, WrongUsage
from recon.transformations.inputs.opening import Fetch
from recon.transformations.request.inputs import Input

if TYPE_CHECKING:
    from recon.intake.sources.site import Intake

ROWS_MAX = 1_000_000
"""Rows of a warehouse's table, which are in memory at once."""


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
            _write_table(Aggregations(readers.intake()), given, file)
        else:
            (readers.export if given.from_ == "artifacts" else readers.export_breaks)(file, through=given.window)
        return file

    return fetch


def _write_table(site: Aggregations, given: Input, file: Path) -> None:
    """Raises WrongUsage for a table of windows without a window, WrongInput for a table without rows or with too many."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    definition = site.preview().named(str(given.table))
    if (definition.section.per == ALL) == (given.window is not None):
        raise WrongUsage(f"{given.table} is loaded {'as a whole; leave out the window' if given.window else 'per window; write window: …'}")
    rows: list[dict[str, Any]] = site.warehouse.sample(definition.section.target, given.window or ALL, ROWS_MAX + 1)
    if not rows:
        raise WrongInput(f"{given.shown} has no rows in {site.warehouse.shown}; 'recon aggregation why {given.table}' says why")
    if len(rows) > ROWS_MAX:
        raise WrongInput(f"{given.shown} has more than {ROWS_MAX:,} rows; export it from the warehouse to a file")
    pq.write_table(pa.Table.from_pylist(rows), file)
