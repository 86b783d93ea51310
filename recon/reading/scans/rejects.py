"""Rejected rows as streams, window by window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from recon.config import Config
from recon.reading import rejects
from recon.reading.scans.selection import Selection, Site, ahead
from recon.state.timeline import Mark

if TYPE_CHECKING:
    import pyarrow as pa


def schema(config: Config) -> pa.Schema:
    """The columns of ``recon rejects``."""
    return rejects.schema()


def tables(site: Site, selection: Selection, wanted: pa.Schema) -> Iterator[pa.Table]:
    """The rejected rows of the windows that are asked for. Windows without such rows are not opened."""
    marked = [(name, window.folder) for name, window in selection.committed(site.state).items() if window.has(Mark.REJECTED)]
    for found in ahead(lambda place: rejects.rejected_in(site.store, *place, wanted.names), marked):
        yield from found
