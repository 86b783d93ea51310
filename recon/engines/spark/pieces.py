"""Spark's tasks for a large window: files → events in order of hash; a slice of the hash space → pieces; pieces → the window's files.

A piece of events has many row groups, so that a slice reads its own part of each. Slices run the code of DuckDB's reduce.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recon.config import Config, model
from recon.config.model import Measure
from recon.engines.duckdb import reduce
from recon.engines.duckdb import window as one_window
from recon.engines.duckdb.session import connect
from recon.engines.spark.parts import Part, refuse_uncertain, source_of
from recon.errors import WrongInput
from recon.intake.files import FileRows, SourceFile, load_events
from recon.intake.manifests import Manifest
from recon.model.totals import Totals, total_of
from recon.state import reduced
from recon.state.reduced import Figures
from recon.storage import layout, parquet
from recon.storage.parquet_parts import local_part
from recon.storage.port import ObjectStore
from recon.storage.scratch import local_copy, scratch_folder
from recon.vocabulary.duckdb import literal

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

_PIECE_EVENTS = 1 << 24
"""Makes row groups as long as they can be: pieces of a slice are read whole."""
_SAMPLES_MAX = 64
EVENTS, ARTIFACTS, DUPLICATES = "events", "artifacts", "duplicates"
_EVENT = {"hi": "UBIGINT", "key": "VARCHAR", "id": "VARCHAR", "time": "TIMESTAMPTZ", "file": "INTEGER", "line": "BIGINT"}
_REJECT = {"file": "INTEGER", "line": "BIGINT", "reason": "VARCHAR", "raw": "VARCHAR"}
_DUPLICATE = {"kind": "VARCHAR", "file": "INTEGER", "line": "BIGINT", "key": "VARCHAR", "id": "VARCHAR", "time": "TIMESTAMPTZ"}
Pieces = dict[str, list[str]]
"""What pieces hold → their paths, in order of hash."""


@dataclass(frozen=True)
class Intake:
    """What one task reads: some consecutive files of a window, from number ``first`` on, as a manifest; a task gets no list of all. Or a
    ``part`` of a single large one. ``writer``: names the attempt in the store; ``window``: its place in the range."""

    writer: str
    window: int
    manifest: Manifest
    first: int
    part: Part | None = None


@dataclass(frozen=True)
class Read:
    """The result of reading some files of a window: events and rejects as Parquet pieces. ``rows``: of each file. ``samples``: where the
    events are in the hash space: ``hi`` of the first of some consecutive events, and their number. ``absent``: of a part of a file, the
    columns that none of its lines has."""

    rows: tuple[FileRows, ...]
    totals: Totals
    events: tuple[str, ...] = ()
    rejects: tuple[str, ...] = ()
    samples: tuple[tuple[int, int], ...] = ()
    absent: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Landed:
    """What the slices of a range of windows have in common. ``writer``: names the attempt in the store; ``windows``: their names;
    ``events``: the pieces of events of each."""

    writer: str
    windows: tuple[str, ...]
    events: tuple[tuple[str, ...], ...]


def read_files(store: ObjectStore, config: Config, item: Intake) -> Read:
    """Reads files, or a part of one, by the intake into a piece of events in order of hash. Raises Uncertain for a part that cannot be read
    alone."""
    manifest, first, part = item.manifest, item.first, item.part
    place, task, files = f"window {manifest.window}: ", layout.new_attempt(), manifest.files
    absent: tuple[str, ...] = ()
    with scratch_folder(store) as scratch, connect(store, config, scratch, place) as connection:
        try:
            if part is None:
                sources = [SourceFile(file.name, one_window.local_file(store, file, scratch), bool(file.reason)) for file in files]
            else:
                source, absent = source_of(store, config, files[0], part, scratch)
                sources = [source]
            rows = load_events(connection, sources, one_window.event_spec(config), "landed")
        except WrongInput as error:
            raise WrongInput(f"{place}{error}") from None
        one_window.refuse_if_configured(connection, config, manifest, files)
        if part is None:
            for number, file in enumerate(files):
                one_window.tie_with_declared(connection, config, manifest, file, number, rows[number])
        else:
            refuse_uncertain(connection, part)
        totals = reduce.totals_of(connection, config, "(FROM landed UNION ALL BY NAME FROM landed_rejects)")
        paths = [layout.piece(item.writer, f"{item.window}-{name}", first, task, "parquet") for name in ("read", "rejects")]
        local = [scratch / path.rpartition("/")[2] for path in paths]
        order = {"landed": "ORDER BY hi", "landed_rejects": ""}
        for file_path, (table, ordered) in zip(local, order.items(), strict=True):
            shifted = f"CAST(file + {first} AS INTEGER) AS file, CAST(line + {part.line if part else 0} AS BIGINT) AS line"
            query = f"SELECT * REPLACE ({shifted}) FROM {table} {ordered}"
            connection.execute(f"COPY ({query}) TO {literal(str(file_path))} {reduce.write_options(sum(one.rows for one in rows))}")
        samples = _samples(local[0])
        written = [[path] if count else [] for path, count in zip(paths, _counts(rows), strict=True)]
        for path, file_path in zip(paths, local, strict=True):
            if path in written[0] or path in written[1]:
                store.copy_in(path, file_path)
    return Read(tuple(rows), totals, tuple(written[0]), tuple(written[1]), samples, frozenset(absent))


def _counts(rows: Sequence[FileRows]) -> tuple[int, int]:
    """The accepted and the rejected rows of some files."""
    return sum(file.accepted for file in rows), sum(file.rejected for file in rows)


def as_one(parts: Sequence[Read]) -> Read:
    """What was read of all parts of a file, as if one task had read it."""
    files = [one.rows[0] for one in parts]
    rows = FileRows(files[0].name, sum(file.rows for file in files), *_counts(files))
    return Read(
        rows=(rows,),
        totals=total_of(one.totals for one in parts),
        events=tuple(path for one in parts for path in one.events),
        rejects=tuple(path for one in parts for path in one.rejects),
        samples=tuple(sample for one in parts for sample in one.samples),
        absent=frozenset.intersection(*(one.absent for one in parts)),
    )


def _samples(piece: Path) -> tuple[tuple[int, int], ...]:
    groups = parquet.groups_of(piece, "hi")
    step = max(1, -(-len(groups) // _SAMPLES_MAX))
    return tuple((groups[place][0], sum(rows for _, rows in groups[place : place + step])) for place in range(0, len(groups), step))


def reduce_slice(store: ObjectStore, config: Config, landed: Landed, item: tuple[int, int, tuple[int, int]]) -> dict[str, str]:
    """Reduces the events of window ``place`` with bounds[0] ≤ hi < bounds[1] to pieces in order of hash; returns their paths by what they
    hold. All events of a key are in one slice, so that duplicates are set aside as in DuckDB's reduce of a whole window."""
    place, number, (first, end) = item
    named = f"window {landed.windows[place]}: "
    with scratch_folder(store) as scratch, connect(store, config, scratch, named) as connection:
        files = [local_part(store, path, scratch, parquet.Values("hi", first, end - 1)) for path in landed.events[place]]
        for table in ("landed", "duplicates", "suspects"):
            connection.execute(f"DROP TABLE IF EXISTS {table}")
        part = f"SELECT * FROM {parquet.scan(files)} WHERE hi BETWEEN {first} AND {end - 1}"
        connection.execute(f"CREATE TEMP TABLE landed AS {part}")
        if not connection.execute("SELECT 1 FROM landed LIMIT 1").fetchall():
            return {}
        reduce.set_duplicates_aside(connection, config)
        local = {name: scratch / f"{name}.parquet" for name in (EVENTS, ARTIFACTS, DUPLICATES)}
        reduce.write_events(connection, config, local[EVENTS], _PIECE_EVENTS)
        artifacts = reduce.logical(connection, config, reduce.reduce_events(config, "events"))
        reduce.write_artifacts(connection, local[ARTIFACTS], artifacts, _PIECE_EVENTS)
        if connection.execute("SELECT 1 FROM duplicates LIMIT 1").fetchall():
            _write_duplicates(connection, config, local[DUPLICATES])
        else:
            del local[DUPLICATES]
        attempt, written = layout.new_attempt(), {}
        for name, file in local.items():
            written[name] = layout.piece(landed.writer, f"{place}-{name}", number, attempt, "parquet")
            store.copy_in(written[name], file)
    return written


def _write_duplicates(connection: duckdb.DuckDBPyConnection, config: Config, local: Path) -> None:
    """Writes the duplicates within the window, with the columns of the rows that are set aside."""
    columns = "".join(f", {reduce.column(config, name)}" for name in model.event_columns(config))
    connection.execute(f"""
        COPY (SELECT CASE WHEN conflicting THEN 'conflicting' ELSE 'duplicate' END AS kind, file, line, key, id, time{columns}
              FROM landed JOIN duplicates USING (file, line))
        TO {literal(str(local))} (FORMAT parquet, COMPRESSION snappy)""")


def join_pieces(store: ObjectStore, config: Config, item: tuple[Manifest, Sequence[Read], Pieces]) -> Figures:
    """Writes the files of a window from its pieces, which are in order of hash, into a new folder; then ties the figures with the rows that
    were read, and puts them, which completes the folder."""
    manifest, read, pieces = item
    window = config.grid.parse(manifest.window)
    folder = layout.stateless(window, manifest.revision, config.rules_version, layout.new_attempt())
    with scratch_folder(store) as scratch, connect(store, config, scratch, f"window {manifest.window}: ") as connection:
        connection.execute("SET preserve_insertion_order = true")
        local = {name: [local_copy(store, path, scratch) for path in paths] for name, paths in pieces.items()}
        rejects = [local_copy(store, path, scratch) for one in read for path in one.rejects]
        files = {name: scratch / name for name in (reduced.EVENTS, reduced.ARTIFACTS, reduced.SET_ASIDE)}
        written = one_window.ReducedFiles(folder, files)
        events = sum(file.rows for one in read for file in one.rows)
        _join(connection, local.get(EVENTS, []), files[reduced.EVENTS], _nothing(config, _EVENT), events)
        measures = {reduce.measure(item.name): _measure_type(item) for item in config.measures}
        _join(connection, local.get(ARTIFACTS, []), files[reduced.ARTIFACTS], _nothing(config, _artifact(config), measures), events)
        for view, paths, columns in (("landed_rejects", rejects, _REJECT), ("set_aside", local.get(DUPLICATES, []), _DUPLICATE)):
            connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {_all(paths, _nothing(config, columns))}")
        reduce.write_set_aside(connection, config, files[reduced.SET_ASIDE], "(FROM set_aside)")
        money, rows = total_of(one.totals for one in read).money, [file for one in read for file in one.rows]
        figures = one_window.figures_of(connection, config, manifest, rows, money, written)
        written.copy_into(store)
    return figures if one_window.finished(store, figures) else join_pieces(store, config, item)


def _join(connection: duckdb.DuckDBPyConnection, pieces: Sequence[Path], file: Path, nothing: str, events: int) -> None:
    connection.execute(f"COPY ({_all(pieces, nothing)}) TO {literal(str(file))} {reduce.write_options(events)}")


def _all(pieces: Sequence[Path], nothing: str) -> str:
    """SELECT of all rows of the pieces, concatenated; ``nothing`` where there are no pieces."""
    return f"SELECT * FROM {parquet.scan(pieces)}" if pieces else nothing


def _nothing(config: Config, own: dict[str, str], further: dict[str, str] | None = None) -> str:
    """SELECT of no rows: columns ``own`` by type, then ``further``, by default the columns of events."""
    if further is None:
        further = {reduce.column(config, name): kind.duckdb for name, kind in model.event_columns(config).items()}
    return f"SELECT {', '.join(f'NULL::{kind} AS {name}' for name, kind in {**own, **further}.items())} WHERE false"


def _artifact(config: Config) -> dict[str, str]:
    """The columns of a reduced artifact without its measures."""
    currencies = {"u": "VARCHAR[]"} if config.events.currency else {}
    return {"hi": "UBIGINT", "lo": "UBIGINT", "key": "VARCHAR", "n": "BIGINT", **currencies, "ids": "UBIGINT[]"}


def _measure_type(item: Measure) -> str:
    """SQL type of a measure in a reduced file."""
    kind = item.type.duckdb
    return f"STRUCT(t VARCHAR, f INTEGER, l BIGINT, v {kind})" if item.kind in ("first", "last") else kind
