"""Accepted events as streams: of each committed window, the row groups that may hold the keys, and of these the columns that are asked for.

The event files are sorted by the hash of the key. Given keys are found by the statistics of row groups; for a range of keys, the column of
keys is read first, and the other columns only of row groups that hold one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.config import Config, model
from recon.reading.scans.selection import Selection, Site, ahead
from recon.state import reduced
from recon.state.committed import committed_figures
from recon.storage import parquet
from recon.storage.hashing import hash_of, salt_of

if TYPE_CHECKING:
    import pyarrow as pa

_OWN = ("window", "file", "line", "key", "id", "time", "counted")
_WINDOWS_AT_ONCE = 64


def schema(config: Config) -> pa.Schema:
    """The place of each event, its key, id and time, whether it counts, and the columns that the rules use. A user's column that has the
    name of one of these is ``name (column)``."""
    import pyarrow as pa

    from recon.model.form import Slot
    from recon.records.columns import arrow_type

    instant = pa.timestamp("us", "UTC")
    kinds = (pa.string(), pa.string(), pa.int64(), pa.string(), pa.string(), instant, pa.bool_())
    own = list(zip(_OWN, kinds, strict=True))
    columns = [(shown, arrow_type(Slot(name, str(kind)))) for name, (shown, kind) in _shown(config).items()]
    return pa.schema([*own, *columns])


def _shown(config: Config) -> dict[str, tuple[str, Any]]:
    """Event column → its name in a scan, and its type."""
    return {name: (f"{name} (column)" if name in _OWN else name, kind) for name, kind in model.event_columns(config).items()}


@dataclass(frozen=True)
class _Window:
    """A window's event file. ``files``: names of its landed files, if they are asked for. ``suppressed``: (file, line) of its events that
    an earlier window's event suppresses, None where that is not asked for."""

    name: str
    folder: str
    files: Sequence[str] = ()
    suppressed: frozenset[tuple[str, int]] | None = None
    metadata: Any = field(default=None, compare=False)

    @property
    def path(self) -> str:
        """Of the event file."""
        return self.folder + reduced.EVENTS


def tables(site: Site, selection: Selection, wanted: pa.Schema) -> Iterator[pa.Table]:
    """The events that are asked for, a row group at a time, in order of windows."""
    reading = _Reading(site, selection, wanted)
    names = list(selection.committed(site.state))
    for start in range(0, len(names), _WINDOWS_AT_ONCE):
        windows = ahead(reading.opened, reading.windows(names[start : start + _WINDOWS_AT_ONCE]))
        pieces = ((window, group) for window in windows for group in reading.groups(window))
        for table in ahead(lambda piece: reading.group(*piece), pieces):
            if table is not None:
                yield table


@dataclass(frozen=True)
class _Reading:
    site: Site
    selection: Selection
    wanted: pa.Schema

    def windows(self, names: Sequence[str]) -> Iterator[_Window]:
        """Windows with what the columns need of them."""
        suppressing = set()
        if "counted" in self.wanted.names:
            figures = committed_figures(self.site.store, self.site.state, names)
            suppressing = {name for name, committed in figures.items() if committed["suppressed"]["rows"]}
        for name in names:
            folder = self.site.state.windows[name].folder
            suppressed = frozenset[tuple[str, int]]()
            if name in suppressing:
                suppressed = _suppressed(self.site, name)
            yield _Window(name, folder, suppressed=suppressed if "counted" in self.wanted.names else None)

    def opened(self, window: _Window) -> _Window:
        files = []
        if {"file", "counted"} & set(self.wanted.names):
            files = [file["name"] for file in reduced.read(self.site.store, window.folder).files]
        metadata = parquet.open_ranges(self.site.store, window.path).metadata
        return _Window(window.name, window.folder, files, window.suppressed, metadata)

    def groups(self, window: _Window) -> list[int]:
        """The row groups that may hold the keys, by the statistics of the hash."""
        metadata = window.metadata
        every = range(metadata.num_row_groups)
        if self.selection.keys is None:
            return list(every)
        salt = salt_of(self.site.store)
        hashes = np.sort(np.array([hash_of(key, salt)[0] for key in self.selection.keys], np.uint64))
        column = metadata.schema.names.index("hi")
        return [group for group in every if _may_hold(hashes, metadata.row_group(group).column(column).statistics)]

    def group(self, window: _Window, number: int) -> pa.Table | None:
        """The rows of a row group, None where it has none that are asked for."""
        import pyarrow as pa

        opened = parquet.open_ranges(self.site.store, window.path, window.metadata)
        columns, needed = self._stored()
        if not self.selection.has_keys:
            return self._laid_out(window, opened.read_row_group(number, columns=columns), needed)
        keys = opened.read_row_group(number, columns=["key"])
        chosen = self.selection.of_keys(keys.column("key"))
        if not pa.compute.any(chosen).as_py():
            return None
        others = [name for name in columns if name != "key"]
        more = opened.read_row_group(number, columns=others) if others else keys
        table = pa.table([*keys.columns, *(more.column(name) for name in others)], names=["key", *others]).filter(chosen)
        return self._laid_out(window, table, needed)

    def _stored(self) -> tuple[list[str], dict[str, str]]:
        """The columns of the file that are read, and those of the scan that are columns of the file."""
        shown = {shown: f"c_{name}" for name, (shown, _) in _shown(self.site.config).items()}
        known = {**{name: name for name in ("line", "key", "id", "time")}, **shown}
        needed = {name: known[name] for name in self.wanted.names if name in known}
        places = {"file", "line"} if "counted" in self.wanted.names else {"file"} & set(self.wanted.names)
        # At least one column, so that the number of rows is known.
        return sorted({*needed.values(), *places}) or ["line"], needed

    def _laid_out(self, window: _Window, table: pa.Table, needed: Mapping[str, str]) -> pa.Table:
        import pyarrow as pa

        columns: dict[str, Any] = {name: table.column(stored) for name, stored in needed.items()}
        if window.files:
            names = pa.array(window.files, pa.string()).take(table.column("file").combine_chunks())
            columns["file"] = names
        if "window" in self.wanted.names:
            columns["window"] = pa.repeat(window.name, table.num_rows)
        if window.suppressed is not None:
            columns["counted"] = pa.repeat(True, table.num_rows)
            if window.suppressed:
                places = zip(names.to_pylist(), table.column("line").to_pylist(), strict=True)
                columns["counted"] = pa.array([place not in window.suppressed for place in places])
        return pa.table([columns[name] for name in self.wanted.names], names=self.wanted.names)


def _may_hold(hashes: Any, statistics: Any) -> bool:
    """Whether a row group may hold one of these sorted hashes."""
    if statistics is None or not statistics.has_min_max:
        return True
    at = int(np.searchsorted(hashes, np.uint64(statistics.min)))
    return at < len(hashes) and int(hashes[at]) <= statistics.max


def _suppressed(site: Site, window: str) -> frozenset[tuple[str, int]]:
    """(file, line) of the events of a window that an event of an earlier window suppresses."""
    from recon.reading.duplicates import duplicates

    listed = duplicates(site.store, site.config, site.state, site.config.grid.parse(window)).to_pylist()
    return frozenset((row["file"], row["line"]) for row in listed if row["counting_window"] != window)
