"""A lazy table of one kind at one commit: nothing is read until its rows are asked for, and each reading begins anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from recon.errors import WrongInput, WrongUsage
from recon.reading.scans import artifacts, certificates, events, rejects
from recon.reading.scans.selection import ROWS, Selection, Site, only
from recon.storage.port import NotFound

if TYPE_CHECKING:
    import duckdb
    import pandas as pd  # type: ignore[import-untyped]
    import polars as pl
    import pyarrow as pa

Kind = Literal["artifacts", "events", "rejects", "certificates"]
_KINDS: dict[str, Any] = {"artifacts": artifacts, "events": events, "rejects": rejects, "certificates": certificates}


@dataclass(frozen=True)
class Scan:
    """Rows of ``kind`` at the commit of ``site``. Made by ``Reconciliation.scan``; columns and their types: docs/embedding.md.

    Any reader of Arrow's C stream takes it as it is: ``FROM scan`` in DuckDB, ``polars.DataFrame(scan)``, ``pyarrow.table(scan)``."""

    kind: Kind
    site: Site
    selection: Selection

    @property
    def commit(self) -> int:
        """The commit at which every reading of this scan reads."""
        return self.site.state.commit

    @property
    def windows(self) -> tuple[str, ...]:
        """The committed windows that are asked for, in order of time. A window that is not committed at this commit has no rows."""
        return tuple(self.selection.committed(self.site.state))

    @property
    def schema(self) -> pa.Schema:
        """The columns in their order, with their types."""
        return only(_KINDS[self.kind].schema(self.site.config), self.selection.columns)

    def select(self, *columns: str) -> Scan:
        """The same rows with these columns. Raises WrongUsage for an unknown column."""
        return checked(replace(self, selection=replace(self.selection, columns=columns)))

    def reader(self, rows: int = ROWS) -> pa.RecordBatchReader:
        """A stream of record batches of at most ``rows`` rows. Memory holds a few batches and, of Parquet files, a few row groups.

        Raises WrongInput, while it is read, where files of its commit were swept since."""
        import pyarrow as pa

        return pa.RecordBatchReader.from_batches(self.schema, self._batches(rows))

    def to_arrow(self) -> pa.Table:
        """All rows in memory."""
        return self.reader().read_all()

    def to_pandas(self) -> pd.DataFrame:
        """All rows in memory; decimals as ``decimal.Decimal``."""
        return self.to_arrow().to_pandas()

    def to_duckdb(self, connection: duckdb.DuckDBPyConnection | None = None) -> duckdb.DuckDBPyRelation:
        """A relation that reads the stream whenever it is executed. ``connection``: default: a new one."""
        import duckdb

        return (connection or duckdb.connect()).from_arrow(self)

    def to_polars(self) -> pl.LazyFrame:
        """A lazy frame; columns that a query does not use are not read. Needs Polars."""
        import polars as pl
        from polars.io.plugins import register_io_source

        def frames(columns: list[str] | None, predicate: Any, rows: int | None, batch_rows: int | None) -> Iterator[pl.DataFrame]:
            scan = self if columns is None else self.select(*columns)
            for batch in scan.reader(batch_rows or ROWS):
                frame = pl.DataFrame(batch)
                frame = frame if rows is None else frame.head(rows)
                rows = None if rows is None else rows - len(frame)
                yield frame if predicate is None else frame.filter(predicate)
                if rows == 0:
                    return

        return register_io_source(frames, schema=pl.DataFrame(self.schema.empty_table()).schema)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.reader().__arrow_c_stream__(requested_schema)

    def _batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        read: Callable[..., Iterator[pa.Table]] = _KINDS[self.kind].tables
        schema = self.schema
        try:
            for table in read(self.site, self.selection, schema):
                yield from table.select(schema.names).cast(schema).to_batches(rows)
        except NotFound as gone:
            raise WrongInput(f"commit {self.commit}: {gone}; compacted or swept since then: scan again at the newest commit") from None


def checked(scan: Scan) -> Scan:
    """The scan. Raises WrongUsage for a kind, a column or a selection that there is not."""
    if scan.kind not in get_args(Kind):
        raise WrongUsage(f"scan: {scan.kind!r} is no kind; take one of {', '.join(get_args(Kind))}")
    if scan.selection.has_keys and scan.kind not in ("artifacts", "events"):
        raise WrongUsage(f"scan: {scan.kind} have no key; choose their windows")
    if scan.selection.keys is not None and scan.selection.key_range is not None:
        raise WrongUsage("scan: both keys and key_range were given; give one of them")
    if scan.selection.windows is not None and scan.selection.windows[0] > scan.selection.windows[1]:
        raise WrongUsage(f"scan: the first window, {scan.selection.windows[0]}, lies after the last; swap them")
    known, columns = _KINDS[scan.kind].schema(scan.site.config).names, scan.selection.columns
    if columns is not None and not columns:
        raise WrongUsage("scan: no columns were given; leave 'columns' out for all")
    for name in columns or ():
        if name not in known:
            raise WrongUsage(f"scan: {scan.kind} have no column {name!r}; they have {', '.join(known)}")
    if columns is not None and len(set(columns)) < len(columns):
        raise WrongUsage(f"scan: a column is named twice: {', '.join(columns)}")
    return scan
