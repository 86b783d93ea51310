"""Lists suppressed rows, each with the row that counts: within a window, across windows, and ids under two keys.

Across windows the row that counts is the first of its chain, see docs/decisions/001-contributions-and-duplicates.md. A chain is followed
back to its first window.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from recon.config import Config, model
from recon.engines.duckdb.reduce import column
from recon.engines.duckdb.session import connect
from recon.model.windows import name_of
from recon.state import reduced
from recon.state.committed import committed_figures
from recon.state.timeline import State
from recon.storage import parquet
from recon.storage.port import ObjectStore
from recon.storage.scratch import scratch_folder
from recon.vocabulary.duckdb import literal

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_COLUMNS = (
    '"window" VARCHAR, file VARCHAR, line BIGINT, kind VARCHAR, key VARCHAR, id VARCHAR, differs VARCHAR, '
    "counting_window VARCHAR, counting_file VARCHAR, counting_line BIGINT"
)


def duplicates(store: ObjectStore, config: Config, state: State, window: datetime | None = None) -> pa.Table:
    """The duplicates of all committed windows, or of one window: window, file, line, kind, key, id, differs, counting_window,
    counting_file, counting_line. Conflicts come first, then by window, file and line.

    ``kind``: ``conflict`` (differs from the row that counts), ``two keys`` (another key of the window has the same id; both rows count) or
    ``duplicate``. ``differs``: the columns that differ, with both values."""
    chosen = sorted(state.windows) if window is None else [name_of(window)]
    with scratch_folder(store) as scratch, connect(store, config, scratch) as connection:
        reading = _Reading(store, config, state, connection, scratch)
        connection.execute(f"CREATE TEMP TABLE listed ({_COLUMNS})")
        connection.execute("CREATE TEMP TABLE names (w VARCHAR, number INTEGER, file VARCHAR)")
        suppressed = []
        for name, figures in committed_figures(store, state, chosen).items():
            if figures["duplicates"]["rows"]:
                _within(reading, name)
            if figures.get("two_keys"):
                _two_keys(reading, name)
            if figures["suppressed"]["rows"]:
                suppressed.append(name)
        if suppressed:
            _across(reading, suppressed)
        return connection.sql("FROM listed ORDER BY kind = 'duplicate', \"window\", file, line").to_arrow_table()


@dataclass(frozen=True)
class _Reading:
    store: ObjectStore
    config: Config
    state: State
    connection: duckdb.DuckDBPyConnection
    scratch: Path

    def files(self, windows: Iterable[str], name: str) -> dict[str, Path]:
        """A stateless file of each window, locally."""
        return {window: reduced.local_file(self.store, self.state.windows[window].folder, name, self.scratch) for window in windows}

    def name_files(self, windows: Iterable[str]) -> None:
        """Adds the landed files of windows to the table ``names``."""
        known = {window for (window,) in self.connection.execute("SELECT DISTINCT w FROM names").fetchall()}
        for window in sorted(set(windows) - known):
            figures = reduced.read(self.store, self.state.windows[window].folder)
            rows = [(window, number, file["name"]) for number, file in enumerate(figures.files)]
            if rows:
                self.connection.executemany("INSERT INTO names VALUES (?, ?, ?)", rows)

    def insert(self, pairs: str, kind: str) -> None:
        """Adds to ``listed`` the rows of ``pairs``. Its columns ``a`` and ``b`` are rows with ``w``; ``b`` counts. ``kind``: SQL."""
        names = ["time", *(column(self.config, name) for name in model.event_columns(self.config))]
        labels = ["time" if self.config.events.time is None else self.config.events.time, *model.event_columns(self.config)]
        differing = ", ".join(
            f"CASE WHEN a.{name} IS DISTINCT FROM b.{name} THEN {literal(label + ': ')} || coalesce(CAST(a.{name} AS VARCHAR), 'null') "
            f"|| ' ≠ ' || coalesce(CAST(b.{name} AS VARCHAR), 'null') END"
            for name, label in zip(names, labels, strict=True)
        )
        self.connection.execute(f"""
            INSERT INTO listed
            SELECT a.w, n.file, a.line, {kind}, a.key, a.id, differs, b.w, m.file, b.line
            FROM (SELECT a, b, array_to_string(list_filter([{differing}], lambda x: x IS NOT NULL), '; ') AS differs FROM {pairs})
            JOIN names n ON n.w = a.w AND n.number = a.file JOIN names m ON m.w = b.w AND m.number = b.file""")


def _within(reading: _Reading, window: str) -> None:
    """Lists rows that repeat an identity of their own window."""
    reading.name_files([window])
    aside, events = (parquet.scan(reading.files([window], name)[window]) for name in (reduced.SET_ASIDE, reduced.EVENTS))
    columns = _columns(reading.config)
    pairs = (
        f"(SELECT a, b FROM (SELECT {literal(window)} AS w, {columns} FROM {aside} WHERE kind <> 'rejected') a "
        f"JOIN (SELECT {literal(window)} AS w, {columns} FROM {events}) b ON a.key = b.key AND a.id = b.id)"
    )
    reading.insert(pairs, "CASE WHEN differs = '' THEN 'duplicate' ELSE 'conflict' END")


def _two_keys(reading: _Reading, window: str) -> None:
    """Lists rows whose id another key of the window has too, each with the first row of that id."""
    reading.name_files([window])
    scan = parquet.scan(reading.files([window], reduced.EVENTS)[window])
    events = f"(SELECT {literal(window)} AS w, {_columns(reading.config)} FROM {scan})"
    pairs = f"""(
        SELECT a, first AS b FROM (
            SELECT e AS a, first_value(e) OVER same AS first, row_number() OVER same AS place FROM {events} e
            WHERE e.id IN (SELECT id FROM {events} GROUP BY id HAVING count(*) > 1)
            WINDOW same AS (PARTITION BY e.id ORDER BY e.time ASC NULLS LAST, e.file, e.line)
        ) WHERE place > 1)"""
    reading.insert(pairs, "'two keys'")


def _across(reading: _Reading, windows: list[str]) -> None:
    """Lists rows of ``windows`` whose identity an earlier window within the horizon has."""
    config, connection = reading.config, reading.connection
    connection.execute("CREATE TEMP TABLE sent (key VARCHAR, id VARCHAR, w VARCHAR)")
    own = parquet.scan_windows(reading.files(windows, reduced.EVENTS))
    connection.execute(f"INSERT INTO sent SELECT key, id, w FROM {own} WHERE id IS NOT NULL")
    wanted = f"(SELECT DISTINCT key, id FROM sent WHERE w IN ({_texts(windows)}))"
    read, starts = set(windows), [config.grid.parse(window) for window in windows]
    while earlier := sorted(_before(reading.state, config, starts) - read):
        files = parquet.scan_windows(reading.files(earlier, reduced.EVENTS))
        connection.execute(f"INSERT INTO sent SELECT e.key, e.id, e.w FROM {files} e SEMI JOIN {wanted} a ON a.key = e.key AND a.id = e.id")
        read |= set(earlier)
        # Only windows with one of these identities can continue a chain.
        found = connection.execute(f"SELECT DISTINCT w FROM sent WHERE w IN ({_texts(earlier)})").fetchall()
        starts = [config.grid.parse(window) for (window,) in found]
    connection.execute(f"CREATE TEMP TABLE chained AS {_chains(config)}")
    connection.execute(f"DELETE FROM chained WHERE w NOT IN ({_texts(windows)})")
    listed = {name for pair in connection.execute("SELECT DISTINCT w, counting FROM chained").fetchall() for name in pair}
    if not listed:
        return
    reading.name_files(listed)
    rows = f"(SELECT w, {_columns(config)} FROM {parquet.scan_windows(reading.files(sorted(listed), reduced.EVENTS))})"
    pairs = f"""(
        SELECT a, b FROM chained c JOIN {rows} a ON a.key = c.key AND a.id = c.id AND a.w = c.w
        JOIN {rows} b ON b.key = c.key AND b.id = c.id AND b.w = c.counting)"""
    reading.insert(pairs, "CASE WHEN differs = '' THEN 'duplicate' ELSE 'conflict' END")


def _before(state: State, config: Config, starts: list[datetime]) -> set[str]:
    """The committed windows within the horizon before any of ``starts``."""
    found: set[str] = set()
    for name in state.windows:
        start = config.grid.parse(name)
        if any(timedelta(0) < other - start <= config.grid.reach(config.events.dedupe) for other in starts):
            found.add(name)
    return found


def _chains(config: Config) -> str:
    """SELECT over ``sent``: key, id, w of every suppressed event, and ``counting``, the window of the event that counts."""
    seconds = config.grid.reach(config.events.dedupe) // timedelta(seconds=1)
    follows = f"CAST(w AS TIMESTAMPTZ) - lag(CAST(w AS TIMESTAMPTZ)) OVER (PARTITION BY key, id ORDER BY w) <= to_seconds({seconds})"
    return f"""
        SELECT key, id, w, counting FROM (
            SELECT key, id, w, min(w) OVER (PARTITION BY key, id, chain) AS counting FROM (
                SELECT *, count(*) FILTER (WHERE NOT coalesce(follows, false)) OVER (PARTITION BY key, id ORDER BY w) AS chain
                FROM (SELECT key, id, w, {follows} AS follows FROM sent)
            )
        ) WHERE w <> counting"""


def _columns(config: Config) -> str:
    return ", ".join(["file", "line", "key", "id", "time", *(column(config, name) for name in model.event_columns(config))])


def _texts(names: Iterable[str]) -> str:
    return ", ".join(literal(name) for name in names)
