"""Compaction: rewrites part-files whose records are mostly superseded, by one commit.

Protocol and rejected alternatives: docs/decisions/007-compaction-and-sweeping.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from recon.config import Config
from recon.state.amplification import StoredBytes, allows
from recon.state.earlier import refuse_earlier_records
from recon.state.forms import head_of_part
from recon.state.rewrite import LiveRun, Rewritten, rewrite, write_live_run
from recon.state.runs import ENTRY_BYTES, MergePlan, Run, merged_plan, open_run, open_runs
from recon.state.timeline import Entry, RunRef, State, Timeline
from recon.storage import layout
from recon.storage.port import ObjectStore
from recon.storage.scratch import scratch_folder

IN_A_RUN_BYTES_MIN = 16 << 20
"""A run compacts only above this many superseded bytes, since each compaction is a commit and reads all runs; upkeep does the rest."""

# The outcomes of a try to commit.
_DONE, _PUT_OFF, _IN_DOUBT, _OTHER_RUNS = "done", "put off", "in doubt", "other runs"


@dataclass(frozen=True)
class PartFile:
    """A part-file that runs of a state name: the bytes of its records, and of those that are live."""

    path: str
    bytes: int
    live: int


@dataclass(frozen=True)
class Compacted:
    """The result of one compaction. ``commit`` is None where nothing was due. ``dropped``: part-files without live records.
    ``put_off``: it is due, but writing ``needs`` bytes would exceed ``compaction.writes``."""

    commit: int | None = None
    rewritten: int = 0
    records: int = 0
    bytes: int = 0
    dropped: int = 0
    dropped_bytes: int = 0
    put_off: bool = False
    needs: int = 0


def is_due(config: Config, state: State) -> bool:
    """Whether the part-files have more than ``compaction.disk`` times the live bytes, by the sums that commits carry."""
    stored = StoredBytes.of(state.totals)
    return stored.parts > config.compaction.disk * max(1, stored.live)


def compact_in_run(store: ObjectStore, config: Config, timeline: Timeline) -> Compacted:
    """Compacts after the merge of a run, if that is due, gains IN_A_RUN_BYTES_MIN, and ``compaction.writes`` certainly allows it, which is
    known without reading the runs."""
    state = timeline.head()
    stored = StoredBytes.of(state.totals)
    if stored.parts - stored.live < IN_A_RUN_BYTES_MIN or not is_due(config, state):
        return Compacted()
    most = stored.live + sum(run.entries for run in state.runs) * ENTRY_BYTES
    return compact(store, config, timeline) if allows(config, stored, most) else Compacted(put_off=True, needs=most)


def compact(
    store: ObjectStore,
    config: Config,
    timeline: Timeline,
    progress: Callable[[float], None] = lambda share: None,
    always: bool = False,
) -> Compacted:
    """Rewrites the part-files with the smallest live share, if that is due and ``compaction.writes`` allows it, or ``always``."""
    while True:
        begun = timeline.head()
        refuse_earlier_records(store, begun)
        if not begun.runs or not (always or is_due(config, begun)):
            return Compacted()
        done = _attempt(store, config, timeline, begun, progress, always)
        if done is not None:
            return done


def _attempt(
    store: ObjectStore, config: Config, timeline: Timeline, begun: State, progress: Callable[[float], None], always: bool
) -> Compacted | None:
    """One attempt, begun at the state ``begun``; None where it has to start over, since its part-files may have been swept."""
    attempt, state, number, spent = layout.new_attempt(), begun, 0, 0
    rewritten: Rewritten | None = None

    def allowed(at: State, added: int) -> bool:
        return always or allows(config, StoredBytes.of(at.totals), added)

    while True:
        with _live(store, state) as (runs, live):
            parts = _parts(store, runs, live)
            if rewritten is None:
                chosen = _chosen(config, parts)
                needs = sum(part.live for part in chosen) + len(live) * ENTRY_BYTES
                if not allowed(state, needs):
                    return Compacted(put_off=True, needs=needs)
                if not chosen and all(part.live for part in parts) and len(state.runs) < 2:
                    return Compacted()
                rewritten = rewrite(store, live, {part.path: part.live for part in chosen}, attempt, progress)
                spent = rewritten.bytes
            number += 1
            # Later tries look the new places up in the run of the first.
            first = None if number == 1 else open_run(store, layout.compacted_run(attempt, 1)).entries()
            path = layout.compacted_run(attempt, number)
            run = write_live_run(store, path, live, rewritten, first)
        spent += run.entries * ENTRY_BYTES
        entry, done = _entry(state, parts, rewritten, run, path, spent)
        state, committed = _committed(timeline, entry, begun, state, partial(allowed, added=spent))
        if committed == _PUT_OFF:
            return Compacted(put_off=True, needs=spent)
        if committed == _IN_DOUBT:
            return None
        if committed == _DONE:
            return replace(done, commit=state.commit)


def _committed(timeline: Timeline, entry: Entry, begun: State, onto: State, allowed: Callable[[State], bool]) -> tuple[State, str]:
    """Commits ``entry``, which was made at ``onto``, at the head. Returns the newest state, and the outcome."""
    state, ours = onto, StoredBytes.of(entry.totals)
    while True:
        if not allowed(state):
            return state, _PUT_OFF
        committed = timeline.commit(entry, onto=state)
        if committed is not None:
            return committed, _DONE
        state = timeline.head()
        between = [timeline.entry(n) for n in range(begun.commit + 1, state.commit + 1)]
        if any(found and (found.generation or entry.writer in map(layout.attempt_of, found.swept)) for found in between):
            return state, _IN_DOUBT
        # Runs that were merged meanwhile are newer than this run; only the runs that it removes must still be there.
        if not set(entry.runs_removed) <= {run.path for run in state.runs}:
            return state, _OTHER_RUNS
        meanwhile = StoredBytes.of(state.totals).since(StoredBytes.of(onto.totals))
        entry = replace(entry, rules=state.rules, totals=ours.plus(meanwhile).in_totals(state.totals))


@contextmanager
def _live(store: ObjectStore, state: State) -> Iterator[tuple[list[Run], MergePlan]]:
    """The runs of a state, and the plan of their live entries, which is kept in a file."""
    runs = open_runs(store, (run.path for run in state.runs))
    with scratch_folder(store) as scratch, open(scratch / "live", "w+b") as file:
        yield runs, merged_plan(runs, file)


def _parts(store: ObjectStore, runs: Sequence[Run], live: MergePlan) -> list[PartFile]:
    sums = np.zeros(len(live.part_files))
    for piece in live.pieces():
        sums += np.bincount(piece.column("file"), weights=piece.column("length"), minlength=len(sums))
    alive = dict(zip(live.part_files, sums.astype(int).tolist(), strict=True))
    named = dict.fromkeys(name for run in runs for name in run.part_files)
    # The head, the same in all, is left out: a part-file with nothing but live records has nothing to gain.
    head = len(head_of_part(store, live.part_files[0])) if live.part_files else 0
    # A part-file without live records may have been swept, though an older run still names it.
    return [PartFile(path, store.size(path) - head if path in alive or store.exists(path) else 0, alive.get(path, 0)) for path in named]


def _chosen(config: Config, parts: Sequence[PartFile]) -> list[PartFile]:
    """The part-files with the smallest live share, until the rest is half-way from ``compaction.disk`` to no superseded bytes."""
    live = sum(part.live for part in parts)
    size, bound = sum(part.bytes for part in parts if part.live), live * (1 + (config.compaction.disk - 1) / 2)
    chosen = []
    for part in sorted((part for part in parts if 0 < part.live < part.bytes), key=lambda part: part.live / part.bytes):
        if size <= bound:
            break
        chosen.append(part)
        size -= part.bytes - part.live
    return chosen


def _entry(state: State, parts: Sequence[PartFile], rewritten: Rewritten, run: LiveRun, path: str, spent: int) -> tuple[Entry, Compacted]:
    stays = set(run.part_files)
    dropped = [part for part in parts if part.path not in stays]
    sizes = {part.path: part.bytes for part in parts} | dict(zip(rewritten.paths, rewritten.sizes, strict=True))
    stored = StoredBytes.of(state.totals).spent(spent)
    stored = replace(stored, parts=sum(sizes[name] for name in stays), live=sum(part.live for part in parts))
    entry = Entry(
        "compact",
        layout.attempt_of(path),
        state.rules,
        runs_added=(RunRef(path, run.entries),),
        runs_removed=tuple(removed.path for removed in state.runs),
        dropped=tuple(part.path for part in dropped),
        totals=stored.in_totals(state.totals),
    )
    return entry, Compacted(
        rewritten=len(rewritten.chosen),
        records=rewritten.records,
        bytes=rewritten.bytes,
        dropped=len(dropped),
        dropped_bytes=sum(part.bytes for part in dropped),
    )
