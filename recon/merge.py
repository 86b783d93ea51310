"""Merge: a range's stateless artifacts into the stateful ones, made visible by one commit.

Belongs here: the order of the stage, part-files and their run, the ties before the commit. Does not belong here: the queries of a
slice (recon.engines), the protocol of commits (recon.state.timeline).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.config import Config
from recon.engines.duckdb.merging import Moved, Recount, Slice, Sources, merge_slice
from recon.engines.duckdb.session import connect
from recon.engines.port import Written, engine_of
from recon.errors import WrongInput
from recon.model import conflicts
from recon.model.totals import Totals, exact_sum, subtract_measures, total_of
from recon.prefetch import Prefetched, Unread, find_standing, open_prefetched, touched_keys
from recon.state import kept_rules, reduced
from recon.state.amplification import Bytes
from recon.state.certificates import watermark_after
from recon.state.kept_rules import refuse_other_rules
from recon.state.reduced import Figures
from recon.state.runs import Entries, among, entries_of, merge_entries, write_run
from recon.state.timeline import OF_COMMIT, Entry, RunRef, State, Timeline, committed_figures
from recon.storage import layout
from recon.storage.port import NotFound, ObjectStore
from recon.storage.scratch import local_copy, scratch_folder

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    import pyarrow as pa

SLICE_ROWS = 400_000
"""Rows (arriving and standing) that one slice of the keys holds about: what bounds the memory of a merge."""
SLICE_BYTES = 256 << 20
"""Bytes of standing records that one slice holds about: those of keys with very many windows are long."""

_HASHES = 1 << 64


@dataclass(frozen=True)
class Merged:
    """What one merge did. ``commit`` is None where nothing was left to do: the timeline held these revisions already."""

    commit: int | None
    windows: tuple[str, ...] = ()
    keys: int = 0
    written: int = 0
    bytes: int = 0
    recounted: tuple[str, ...] = ()
    attempts: int = 1


def merge_windows(
    store: ObjectStore,
    config: Config,
    timeline: Timeline,
    range_figures: Sequence[Figures],
    prefetched: Prefetched | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Merged:
    """Merges a range of reduced windows and commits. Windows of which the head holds the same or a newer revision are dropped.

    Starts over at the new head as often as another writer commits first. Raises WrongInput where the figures don't tie and
    WrongUsage where the state was made by other rules; in either case nothing is visible."""
    attempts = 0
    while True:
        attempts += 1
        state = timeline.head()
        refuse_other_rules(config, state)
        kept_rules.keep(store, config)
        todo = [figures for figures in range_figures if figures.revision > state.revision(figures.window)]
        if not todo:
            return Merged(None, attempts=attempts)
        writer = layout.new_attempt()
        try:
            written = engine_of(config).merge(store, config, timeline, state, todo, prefetched, writer, progress)
        except NotFound:
            if timeline.head().commit == state.commit:
                raise
            continue  # what this state names was superseded and swept while this process stood still
        prefetched = None  # it is worth one try; after a lost race everything is read at the new head
        run = written.run or RunRef("", 0, 0)
        entry = _entry(store, config, state, todo, written.slices, writer)
        held = Bytes.of(state.totals).merged(run.part_bytes, written.superseded, run.entries)
        entry = replace(entry, totals=held.in_totals(entry.totals))
        if written.run:
            entry = replace(entry, runs_added=(written.run,))
        committed = timeline.commit(entry, onto=state)
        if committed is not None:
            return Merged(
                commit=committed.commit,
                windows=tuple(entry.windows),
                keys=sum(figures.keys for figures in todo),
                written=run.entries,
                bytes=run.part_bytes,
                recounted=tuple(entry.recounted),
                attempts=attempts,
            )


def merge_here(
    store: ObjectStore,
    config: Config,
    timeline: Timeline,
    state: State,
    todo: Sequence[Figures],
    prefetched: Prefetched | None,
    writer: str,
    progress: Callable[[float], None],
) -> Written:
    """Part-files and their run, made in this process: the embedded engine's merge, see recon.engines.port."""
    standing = standing_at(store, timeline, state, todo, prefetched)
    slices, entries, part_bytes, superseded = _write_part_files(store, config, state, todo, standing, writer, progress)
    if not len(entries.hi):
        return Written(slices, None, superseded)
    path = layout.merge_run(writer)
    write_run(store, path, entries)
    return Written(slices, RunRef(path, len(entries.hi), part_bytes), superseded)


def standing_at(
    store: ObjectStore,
    timeline: Timeline,
    state: State,
    todo: Sequence[Figures],
    prefetched: Prefetched | None,
    bounds: tuple[int, int] | None = None,
) -> Unread:
    """The standing records of the touched keys at ``state``: the pre-fetched ones, with what later commits wrote found anew. With
    ``bounds`` only those of bounds[0] ≤ hi < bounds[1]."""
    if prefetched is None or not fits(prefetched, state, todo):
        return _found_anew(store, state, todo, bounds)
    later: list[str] = []
    for number in range(state.commit, prefetched.commit, -1):
        entry = timeline.entry(number)
        # A merged tier holds no new records: only runs written with part-files of their own count.
        later += [run.path for run in entry.runs_added if run.part_bytes] if entry else []
    # A run that is gone was merged into a tier or compacted, and swept, since.
    with suppress(NotFound):
        fresh = find_standing(store, later, *touched_keys(store, state, todo, bounds)) if later else None
        return open_prefetched(store, prefetched, fresh, bounds)
    return _found_anew(store, state, todo, bounds)


def read_standing(store: ObjectStore, state: State, todo: Sequence[Figures], standing: Unread, bounds: tuple[int, int]) -> pa.Table:
    """The part of ``standing`` with bounds[0] ≤ hi < bounds[1]. See ``Unread.read``."""
    # A part-file that is gone was compacted, and swept, since it was found.
    with suppress(NotFound):
        return standing.read(store, bounds)
    return _found_anew(store, state, todo, bounds).read(store)


def _found_anew(store: ObjectStore, state: State, todo: Sequence[Figures], bounds: tuple[int, int] | None) -> Unread:
    return Unread(find_standing(store, [run.path for run in state.runs], *touched_keys(store, state, todo, bounds)))


def fits(prefetched: Prefetched, state: State, todo: Sequence[Figures]) -> bool:
    """Whether the file was made for these revisions, while the same revisions were committed, and since the last rebuild."""
    committed = {f.window: state.windows[f.window].folder for f in todo if f.window in state.windows}
    if prefetched.commit < state.rebuilt:  # a rebuild replaces every record, but its entry adds no run of its own
        return False
    return all(
        prefetched.revisions.get(f.window) == f.revision and prefetched.committed.get(f.window) == committed.get(f.window) for f in todo
    )


def _write_part_files(
    store: ObjectStore,
    config: Config,
    state: State,
    todo: Sequence[Figures],
    standing: Unread,
    writer: str,
    progress: Callable[[float], None],
) -> tuple[list[Slice], Entries, int, int]:
    """Merges slice by slice; each slice that changes anything becomes one part-file. Returns what the slices came to, the entries of
    their records, the bytes of the part-files, and those of the standing records that are superseded by them."""
    merged: list[Slice] = []
    parts: list[Entries] = []
    part_bytes = superseded = 0
    place = f"the merge of {', '.join(figures.window for figures in todo)}: "
    with scratch_folder(store) as scratch, connect(store, config, scratch, place) as connection:
        sources = sources_of(store, state, todo, scratch)
        rows = sum(figures.keys for figures in todo) + len(standing)
        slices = hash_slices(max(1, -(-rows // SLICE_ROWS), -(-standing.bytes // SLICE_BYTES)))
        for number, bounds in enumerate(slices):
            path = layout.part_file(writer, len(parts))
            records = read_standing(store, state, todo, standing, bounds)
            part = write_slice(store, config, connection, sources, records, bounds, path)
            if part.entries is not None:
                parts.append(part.entries)
                part_bytes += part.bytes
                superseded += part.superseded
            merged.append(part.slice)
            progress((number + 1) / len(slices))
    return merged, merge_entries(parts), part_bytes, superseded


@dataclass(frozen=True)
class Part:
    """What one slice came to, without its records: those lie in a part-file, with ``entries`` that lead to them, if any changed."""

    slice: Slice
    entries: Entries | None = None
    bytes: int = 0
    superseded: int = 0


def write_slice(
    store: ObjectStore,
    config: Config,
    connection: duckdb.DuckDBPyConnection,
    sources: Sources,
    standing: pa.Table,
    bounds: tuple[int, int],
    path: str,
) -> Part:
    """Merges the keys of one slice and writes what changed as the part-file ``path``."""
    found = merge_slice(connection, config, sources, standing, bounds)
    if not found.records.num_rows:
        return Part(found)
    written = store.put_new(path, _buffers(found.records.column("record")))
    columns = [found.records.column(name).to_numpy() for name in ("hi", "lo", "length", "check")]
    return Part(_without_records(found), entries_of(path, *columns), written, _superseded(standing, found.records))


def _superseded(standing: pa.Table, written: pa.Table) -> int:
    """Bytes of the standing records whose hashes are written anew: all records of a hash are written together."""
    ours, theirs = ([part.column(name).to_numpy() for name in ("hi", "lo")] for part in (standing, written))
    return int(_lengths(standing)[among(*ours, *theirs)].sum())


def _lengths(standing: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Bytes of each record."""
    lengths: np.ndarray[Any, np.dtype[np.int64]] = standing.column("length").to_numpy().astype(np.int64)
    return lengths


def hash_slices(count: int) -> list[tuple[int, int]]:
    """The space of ``hi`` in ``count`` equal parts: first, and the end that is not included."""
    return [(number * _HASHES // count, (number + 1) * _HASHES // count) for number in range(count)]


def _buffers(column: pa.ChunkedArray) -> Iterator[memoryview]:
    """The bytes of a text column, as they lie in Arrow's buffers: records with known lengths, without a loop per row."""
    import pyarrow as pa

    for chunk in column.chunks:
        if len(chunk):
            offsets_type = np.int64 if pa.types.is_large_string(chunk.type) else np.int32
            _, offsets, content = chunk.buffers()
            bounds = np.frombuffer(offsets, offsets_type)[chunk.offset : chunk.offset + len(chunk) + 1]
            yield memoryview(content)[int(bounds[0]) : int(bounds[-1])]


def _without_records(found: Slice) -> Slice:
    return replace(found, records=found.records.slice(0, 0))


@dataclass(frozen=True)
class _WindowFiles(Mapping[str, "Path"]):
    """Local files by window, copied in only when asked for: of the many committed windows few are ever read."""

    store: ObjectStore
    scratch: Path
    folders: Mapping[str, str]
    name: str

    def __getitem__(self, window: str) -> Path:
        return local_copy(self.store, self.folders[window] + self.name, self.scratch)

    def __iter__(self) -> Iterator[str]:
        return iter(self.folders)

    def __len__(self) -> int:
        return len(self.folders)


def sources_of(store: ObjectStore, state: State, todo: Sequence[Figures], scratch: Path) -> Sources:
    new = {figures.window: figures.folder for figures in todo}
    committed = {window: held.folder for window, held in state.windows.items()}
    return Sources(
        artifacts=_WindowFiles(store, scratch, new, reduced.ARTIFACTS),
        artifacts_old=_WindowFiles(store, scratch, committed, reduced.ARTIFACTS),
        events_new=_WindowFiles(store, scratch, {**committed, **new}, reduced.EVENTS),
        events_old=_WindowFiles(store, scratch, committed, reduced.EVENTS),
    )


def _entry(store: ObjectStore, config: Config, state: State, todo: Sequence[Figures], slices: Sequence[Slice], writer: str) -> Entry:
    """The commit, after everything in it has been tied. Raises WrongInput naming what does not tie."""
    windows, wrong = {}, []
    differing = conflicts.total_of(s.conflicts for s in slices)
    for figures in todo:
        moved = [s.moved[figures.window] for s in slices if figures.window in s.moved]
        suppressed = figures.accepted.nothing() + total_of(part.totals for part in moved)
        counted = figures.accepted - suppressed
        in_records = sum(s.counted[figures.window].rows for s in slices if figures.window in s.counted)
        held_back = sum(s.suppressed.get(figures.window, 0) for s in slices)
        measures = _sum_measures([s.measures[figures.window] for s in slices if figures.window in s.measures])
        if (in_records, held_back) != (counted.rows, suppressed.rows):
            wrong.append(
                f"{figures.window}: {in_records} + {held_back} rows in the artifacts, {counted.rows} + {suppressed.rows} in the events"
            )
        elsewhere = _sum_measures([part.measures for part in moved])
        # User logic may change a measure at will, so that parts no longer add up to the whole.
        if not (config.logic and moved):
            wrong += [
                f"{figures.window}: {name} {measures.get(name, 0)} + {elsewhere.get(name, 0)} ≠ {total}"
                for name, total in figures.measures.items()
                if exact_sum((measures.get(name, 0), elsewhere.get(name, 0))) != Decimal(total)
            ]
        committed = _committed(config, figures, suppressed, counted, measures or figures.measures)
        windows[figures.window] = {**committed, "conflicts": conflicts.changed({}, figures.window, differing)}
    recounted = {}
    changes_between = conflicts.difference(differing, conflicts.total_of(s.conflicts_before for s in slices))
    outside = sorted({*(name for s in slices for name in s.moved), *(name for pair in changes_between for name in pair)} - set(windows))
    for name, held in committed_figures(store, state, outside).items():
        moved = [s.moved[name] for s in slices if name in s.moved]
        changes = [s.recounted[name] for s in slices if name in s.recounted]
        recounted[name] = {
            **_recounted(held, moved, changes, sorted(windows)),
            "conflicts": conflicts.changed(held.get("conflicts", {}), name, changes_between),
        }
        wrong += [f"{name}: recounted, {what}" for what in _recount_differences(config, moved, changes)]
    if wrong:
        raise WrongInput(f"the merge does not tie ({'; '.join(wrong)}); nothing was committed; run 'recon verify'")
    statuses = dict(state.totals.get("statuses", {}))
    for found in slices:
        for status, change in found.statuses.items():
            statuses[status] = statuses.get(status, 0) + change
    totals: dict[str, Any] = {"statuses": {status: count for status, count in sorted(statuses.items()) if count}}
    watermark = watermark_after(config, state, {name: committed["closed"] for name, committed in windows.items()})
    return Entry("merge", writer, config.rules_version, windows, recounted, totals=totals, watermark=watermark)


def _committed(config: Config, figures: Figures, suppressed: Totals, counted: Totals, measures: Mapping[str, str | int]) -> dict[str, Any]:
    """A window as its commit names it."""
    return {
        "revision": figures.revision,
        "folder": figures.folder,
        "reduced": figures.digest,
        "closed": figures.closed,
        "expected": figures.expected,
        "received": figures.received,
        "short": figures.short,
        "cause": figures.cause,
        "reason": figures.reason,
        "keys": figures.keys,
        "arrived": figures.arrived.to_json(),
        "accepted": figures.accepted.to_json(),
        "duplicates": figures.duplicates.to_json(),
        "conflicting": figures.conflicting,
        "two_keys": figures.two_keys,
        "unusual": figures.unusual,
        "rejected": figures.rejected.to_json(),
        "unreadable": figures.unreadable,
        "without_amount": figures.without_amount,
        "suppressed": suppressed.to_json(),
        "counted": counted.to_json(),
        "measures": dict(measures),
        **({"amounts": [item.name for item in config.measures if item.is_amount]} if config.events.currency else {}),
    }


def _recount_differences(config: Config, moved: Sequence[Moved], changes: Sequence[Recount]) -> list[str]:
    """Where a window outside the range lost other rows or amounts in the artifacts than the events that moved come to."""
    rows, events = sum(change.rows for change in changes), -total_of(part.totals for part in moved).rows
    found = [] if rows == events else [f"{rows} rows in the artifacts for {events} in the events"]
    if config.logic:  # which may change a measure at will, so that parts no longer add up to the whole
        return found
    kept, gone = _sum_measures([c.measures for c in changes]), _sum_measures([part.measures for part in moved])
    for name in {**kept, **gone}:
        if exact_sum((kept.get(name, 0), gone.get(name, 0))):
            found.append(f"{name} {kept.get(name, 0)} in the artifacts for less {gone.get(name, 0)} in the events")
    return found


def _recounted(held: Mapping[str, Any], moved: Sequence[Moved], changes: Sequence[Recount], by: Sequence[str]) -> dict[str, Any]:
    """The new figures of a window outside the range, some of whose events are now (or no longer) duplicates of the range's."""
    change = total_of(part.totals for part in moved)
    measures = _sum_measures([held["measures"], *(change.measures for change in changes)])
    named = ", ".join(by[:3]) + (f" and {len(by) - 3} more" if len(by) > 3 else "")
    return {
        **{field: value for field, value in held.items() if field not in OF_COMMIT},
        "suppressed": (Totals.from_json(held["suppressed"]) + change).to_json(),
        "counted": (Totals.from_json(held["counted"]) - change).to_json(),
        "measures": measures,
        "cause": "recount",
        "reason": f"{'duplicates' if moved else 'conflicts'} changed by {named}",
    }


def _sum_measures(parts: Sequence[Mapping[str, str | int]]) -> dict[str, str | int]:
    total: dict[str, str | int] = {}
    for part in parts:
        nothing: dict[str, str | int] = dict.fromkeys(part, "0")
        negative = subtract_measures(nothing, part)
        total = subtract_measures({**nothing, **total}, negative)
    return total
