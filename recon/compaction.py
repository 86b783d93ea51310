"""Compaction: part-files that are mostly superseded are rewritten, by one commit.

Belongs here: how much of each part-file is live, which are rewritten, and the commit. Does not belong here: removing what is dead
(recon.sweeping), and tiers of runs (recon.index).
The protocol and what was rejected: docs/decisions/007-compaction-and-sweeping.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from recon import layout
from recon.config import Config
from recon.runs import Entries, Found, Run, entries_of, merge_entries, open_run, read_records, write_run
from recon.store import ObjectStore
from recon.timeline import Entry, RunRef, State, Timeline

PART_RECORDS = 400_000
"""Records that one new part-file holds about: what bounds the memory of a compaction."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PartFile:
    """A part-file that runs of a state name: its bytes, and those of records that are live."""

    path: str
    bytes: int
    live: int


@dataclass(frozen=True)
class Compacted:
    """What one compaction did. ``commit`` is None where there was nothing to do. ``dropped``: part-files that hold nothing live now."""

    commit: int | None = None
    rewritten: int = 0
    records: int = 0
    bytes: int = 0
    dropped: int = 0
    dropped_bytes: int = 0


def is_due(config: Config, state: State) -> bool:
    """Whether the part-files hold more than ``compaction.disk`` times what is live, by what the commits have carried on."""
    held = state.totals.get("bytes")
    return held is not None and held["parts"] > config.compaction_disk * max(1, held["live"])


def survey(store: ObjectStore, state: State) -> list[PartFile]:
    """Every part-file that the runs name, those without a live record too. Reads all entries, no record."""
    runs = [open_run(store, run.path) for run in state.runs]
    return _parts(store, runs, merge_entries([run.entries() for run in runs]))


def compact(
    store: ObjectStore,
    config: Config,
    timeline: Timeline,
    progress: Callable[[float], None] = lambda share: None,
    always: bool = False,
) -> Compacted:
    """Rewrites the part-files with the smallest live share where that is due, or ``always``, and commits."""
    state = timeline.head()
    if not state.runs or not (always or is_due(config, state)):
        return Compacted()
    while True:
        begun = timeline.head()
        done = _attempt(store, config, timeline, begun, progress)
        if done is not None:
            return done


def _attempt(store: ObjectStore, config: Config, timeline: Timeline, begun: State, progress: Callable[[float], None]) -> Compacted | None:
    """One attempt from ``begun`` on; None where it has to start over, since what it rewrote is in doubt."""
    attempt, state = layout.new_attempt(), begun
    rewritten: Entries | None = None
    chosen: list[PartFile] = []
    number = 0
    while True:
        runs = [open_run(store, run.path) for run in state.runs]
        live = merge_entries([run.entries() for run in runs])
        parts = _parts(store, runs, live)
        if rewritten is None:
            chosen = _chosen(config, parts)
            rewritten = _rewrite(store, live, {part.path for part in chosen}, attempt, progress)
        entries = _moved(live, rewritten)
        number += 1
        entry, done = _entry(store, state, parts, entries, attempt, number)
        done = replace(done, rewritten=len(chosen), records=len(rewritten), bytes=int(rewritten.length.sum()))
        if not done.dropped and not chosen and len(state.runs) < 2:
            return Compacted()
        # What was merged meanwhile stands above this run; only runs that it removes must still be there.
        while (committed := timeline.commit(entry, onto=state)) is None:
            state = timeline.head()
            between = [timeline.entry(n) for n in range(begun.commit + 1, state.commit + 1)]
            if any(one and (one.generation or attempt in map(layout.attempt_of, one.swept)) for one in between):
                return None
            standing = {run.path for run in state.runs}
            if not set(entry.runs_removed) <= standing:
                break
            entry = replace(entry, rules=state.rules, totals=_totals(state, begun, entry))
        else:
            return replace(done, commit=committed.commit)


def _parts(store: ObjectStore, runs: Sequence[Run], live: Entries) -> list[PartFile]:
    held = np.bincount(live.file, weights=live.length, minlength=len(live.part_files))
    alive = dict(zip(live.part_files, held.astype(int).tolist(), strict=True))
    named = dict.fromkeys(name for run in runs for name in run.part_files)
    # One that holds nothing live may have been swept already, though an older run still names it.
    return [PartFile(path, store.size(path) if path in alive or store.exists(path) else 0, alive.get(path, 0)) for path in named]


def _chosen(config: Config, parts: Sequence[PartFile]) -> list[PartFile]:
    """Those with the smallest live share, until what stays is half-way back to what is live."""
    live = sum(part.live for part in parts)
    held, bound = sum(part.bytes for part in parts if part.live), live * (1 + (config.compaction_disk - 1) / 2)
    chosen = []
    for part in sorted((part for part in parts if 0 < part.live < part.bytes), key=lambda part: part.live / part.bytes):
        if held <= bound:
            break
        chosen.append(part)
        held -= part.bytes - part.live
    return chosen


def _rewrite(store: ObjectStore, live: Entries, paths: set[str], attempt: str, progress: Callable[[float], None]) -> Entries:
    """The live records of these part-files in new ones; their entries, in order of hash."""
    numbers = np.array([path in paths for path in live.part_files], bool)
    rows = np.flatnonzero(numbers[live.file]) if len(live) else np.zeros(0, np.int64)
    written: list[Entries] = []
    for first, end in _cuts(live, rows):
        part = rows[first:end]
        found = Found(live.part_files, np.arange(len(part)), live.file[part], live.offset[part], live.length[part], live.check[part])
        path = layout.part_file(attempt, len(written))
        store.put_new(path, _bytes_of(read_records(store, found)))
        written.append(entries_of(path, live.hi[part], live.lo[part], live.length[part], live.check[part]))
        progress(end / len(rows))
    return merge_entries(written)


def _cuts(live: Entries, rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Stretches of ``rows``, none of which ends between two entries of one hash."""
    first = 0
    while first < len(rows):
        end = min(first + PART_RECORDS, len(rows))
        while end < len(rows) and (live.hi[rows[end]], live.lo[rows[end]]) == (live.hi[rows[end - 1]], live.lo[rows[end - 1]]):
            end += 1
        yield first, end
        first = end


def _bytes_of(records: Any) -> Iterator[memoryview]:
    import pyarrow as pa

    joined = records.cast(pa.large_binary())
    _, offsets, content = joined.buffers()
    bounds = np.frombuffer(offsets, np.int64)[joined.offset : joined.offset + len(joined) + 1]
    yield memoryview(content)[int(bounds[0]) : int(bounds[-1])]


def _moved(live: Entries, rewritten: Entries) -> Entries:
    """All live entries, those of rewritten records at their new places. One that was superseded meanwhile stays where it is."""
    if not len(rewritten):
        return live
    base = len(live.part_files)
    place = _position(live, rewritten)
    columns = {name: np.array(getattr(live, name)) for name in ("file", "offset")}
    columns["file"][place.live] = rewritten.file[place.rewritten] + np.uint32(base)
    columns["offset"][place.live] = rewritten.offset[place.rewritten]
    return _only_used(replace(live, part_files=(*live.part_files, *rewritten.part_files), **columns))


@dataclass(frozen=True)
class _Positions:
    live: npt.NDArray[np.int64]
    rewritten: npt.NDArray[np.int64]


def _position(live: Entries, rewritten: Entries) -> _Positions:
    """Rows of ``live`` whose record is the very one that was rewritten, by hash, length and check, beside its new row.

    A record of the same hash, length and check that is not the same would need 128 and 32 equal bits of MD5."""
    dtype = [("hi", "<u8"), ("lo", "<u8"), ("check", "<u4"), ("length", "<u4")]

    def keys(entries: Entries, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        held = np.empty(len(rows), dtype)
        for name in ("hi", "lo", "check", "length"):
            held[name] = getattr(entries, name)[rows]
        return held

    near = np.flatnonzero(np.isin(live.hi, rewritten.hi))
    wanted = keys(rewritten, np.arange(len(rewritten)))
    order = np.argsort(wanted, kind="stable")
    asked = keys(live, near)
    at = np.minimum(np.searchsorted(wanted[order], asked), len(order) - 1)
    same = wanted[order][at] == asked
    return _Positions(near[same], order[at[same]])


def _only_used(entries: Entries) -> Entries:
    """Without the part-files that no entry leads to."""
    used = np.unique(entries.file)
    new = np.zeros(len(entries.part_files), np.uint32)
    new[used] = np.arange(len(used), dtype=np.uint32)
    return replace(entries, part_files=tuple(entries.part_files[n] for n in used.tolist()), file=new[entries.file])


def _entry(
    store: ObjectStore, state: State, parts: Sequence[PartFile], entries: Entries, attempt: str, number: int
) -> tuple[Entry, Compacted]:
    path = layout.compacted_run(attempt, number)
    write_run(store, path, entries)
    stays = set(entries.part_files)
    dropped = [part for part in parts if part.path not in stays]
    live = int(entries.length.sum(dtype=np.uint64))
    held = {part.path: part.bytes for part in parts}
    kept = sum(held[name] for name in stays if name in held)
    new = sum(int(entries.length[entries.file == n].sum(dtype=np.uint64)) for n, name in enumerate(entries.part_files) if name not in held)
    entry = Entry(
        "compact",
        attempt,
        state.rules,
        runs_added=(RunRef(path, len(entries)),),
        runs_removed=tuple(run.path for run in state.runs),
        dropped=tuple(part.path for part in dropped),
        totals={**state.totals, "bytes": {"parts": kept + new, "live": live}},
    )
    return entry, Compacted(dropped=len(dropped), dropped_bytes=sum(part.bytes for part in dropped))


def _totals(state: State, begun: State, entry: Entry) -> dict[str, Any]:
    """The totals of the state that the entry is put onto now, with what the merges since ``begun`` added to the bytes."""
    ours, then, now = (dict(one.get("bytes", {})) for one in (entry.totals, begun.totals, state.totals))
    changed = {name: ours[name] + now.get(name, 0) - then.get(name, 0) for name in ours}
    return {**state.totals, "bytes": changed}
