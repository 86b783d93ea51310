"""Compaction: part-files that are mostly superseded are rewritten, by one commit.

The protocol and what was rejected: docs/decisions/007-compaction-and-sweeping.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from recon.config import Config
from recon.state.amplification import StoredBytes, allows
from recon.state.rewrite import LiveRun, Rewritten, moved, rewrite
from recon.state.runs import ENTRY_BYTES, MergePlan, Run, merged_plan, open_run, open_runs
from recon.state.timeline import Entry, RunRef, State, Timeline
from recon.storage import layout
from recon.storage.port import ObjectStore
from recon.storage.scratch import scratch_folder

IN_A_RUN_BYTES_MIN = 16 << 20
"""Up to so many superseded bytes a run leaves to the next upkeep: each compaction is a commit and reads all runs."""

# What comes of a try to commit.
_DONE, _PUT_OFF, _IN_DOUBT, _OTHER_RUNS = "done", "put off", "in doubt", "other runs stand"


@dataclass(frozen=True)
class PartFile:
    """A part-file that runs of a state name: its bytes, and those of records that are live."""

    path: str
    bytes: int
    live: int


@dataclass(frozen=True)
class Compacted:
    """What one compaction did. ``commit`` is None where there was nothing to do. ``dropped``: part-files that hold nothing live now.
    ``put_off``: it is due, but to write ``needs`` more bytes goes beyond ``compaction.writes``."""

    commit: int | None = None
    rewritten: int = 0
    records: int = 0
    bytes: int = 0
    dropped: int = 0
    dropped_bytes: int = 0
    put_off: bool = False
    needs: int = 0


def is_due(config: Config, state: State) -> bool:
    """Whether the part-files hold more than ``compaction.disk`` times what is live, by what the commits have carried on."""
    held = StoredBytes.of(state.totals)
    return held.parts > config.compaction.disk * max(1, held.live)


def compact_in_run(store: ObjectStore, config: Config, timeline: Timeline) -> Compacted:
    """What a run does after its merge: compacts where that is due, there is much to gain, and it is certain without reading all runs that
    ``compaction.writes`` allows it."""
    state = timeline.head()
    held = StoredBytes.of(state.totals)
    if held.parts - held.live < IN_A_RUN_BYTES_MIN or not is_due(config, state):
        return Compacted()
    most = held.live + sum(run.entries for run in state.runs) * ENTRY_BYTES
    return compact(store, config, timeline) if allows(config, held, most) else Compacted(put_off=True, needs=most)


def compact(
    store: ObjectStore,
    config: Config,
    timeline: Timeline,
    progress: Callable[[float], None] = lambda share: None,
    always: bool = False,
) -> Compacted:
    """Rewrites the part-files with the smallest live share where that is due and ``compaction.writes`` allows it, or ``always``, and
    commits."""
    while True:
        begun = timeline.head()
        if not begun.runs or not (always or is_due(config, begun)):
            return Compacted()
        done = _attempt(store, config, timeline, begun, progress, always)
        if done is not None:
            return done


def _attempt(
    store: ObjectStore, config: Config, timeline: Timeline, begun: State, progress: Callable[[float], None], always: bool
) -> Compacted | None:
    """One attempt from ``begun`` on; None where it has to start over, since what it rewrote is in doubt."""
    attempt, state, number, spent = layout.new_attempt(), begun, 0, 0
    rewritten: Rewritten | None = None
    while True:
        with _live(store, state) as (runs, live):
            parts = _parts(store, runs, live)
            if rewritten is None:
                chosen = _chosen(config, parts)
                needs = sum(part.live for part in chosen) + len(live) * ENTRY_BYTES
                if not (always or allows(config, StoredBytes.of(state.totals), needs)):
                    return Compacted(put_off=True, needs=needs)
                if not chosen and all(part.live for part in parts) and len(state.runs) < 2:
                    return Compacted()
                rewritten = rewrite(store, live, {part.path: part.live for part in chosen}, attempt, progress)
                spent = rewritten.bytes
            number += 1
            # The run of the first try tells where the records went, should another be needed.
            first = None if number == 1 else open_run(store, layout.compacted_run(attempt, 1)).entries()
            made = moved(store, layout.compacted_run(attempt, number), live, rewritten, first)
        spent += made.entries * ENTRY_BYTES
        entry, done = _entry(state, parts, rewritten, made, attempt, layout.compacted_run(attempt, number), spent)
        state, committed = _committed(timeline, config, entry, begun, state, spent, always)
        if committed == _PUT_OFF:
            return Compacted(put_off=True, needs=spent)
        if committed == _IN_DOUBT:
            return None
        if committed == _DONE:
            return replace(done, commit=state.commit)


def _committed(timeline: Timeline, config: Config, entry: Entry, begun: State, onto: State, spent: int, always: bool) -> tuple[State, str]:
    """Puts ``entry``, which was made at ``onto``, onto whatever the head is; returns the state then, and what came of it."""
    state, ours = onto, StoredBytes.of(entry.totals)
    while True:
        if not (always or allows(config, StoredBytes.of(state.totals), spent)):
            return state, _PUT_OFF
        committed = timeline.commit(entry, onto=state)
        if committed is not None:
            return committed, _DONE
        state = timeline.head()
        between = [timeline.entry(n) for n in range(begun.commit + 1, state.commit + 1)]
        if any(one and (one.generation or entry.writer in map(layout.attempt_of, one.swept)) for one in between):
            return state, _IN_DOUBT
        # What was merged meanwhile stands above this run; only runs that it removes must still be there.
        if not set(entry.runs_removed) <= {run.path for run in state.runs}:
            return state, _OTHER_RUNS
        came = StoredBytes.of(state.totals).since(StoredBytes.of(onto.totals))
        entry = replace(entry, rules=state.rules, totals=ours.plus(came).in_totals(state.totals))


@contextmanager
def _live(store: ObjectStore, state: State) -> Iterator[tuple[list[Run], MergePlan]]:
    """The runs of a state, and which of their entries are live; none of these is held in memory."""
    runs = open_runs(store, (run.path for run in state.runs))
    with scratch_folder(store) as scratch, open(scratch / "live", "w+b") as file:
        yield runs, merged_plan(runs, file)


def _parts(store: ObjectStore, runs: Sequence[Run], live: MergePlan) -> list[PartFile]:
    held = np.zeros(len(live.part_files))
    for piece in live.pieces():
        held += np.bincount(piece.column("file"), weights=piece.column("length"), minlength=len(held))
    alive = dict(zip(live.part_files, held.astype(int).tolist(), strict=True))
    named = dict.fromkeys(name for run in runs for name in run.part_files)
    # One that holds nothing live may have been swept already, though an older run still names it.
    return [PartFile(path, store.size(path) if path in alive or store.exists(path) else 0, alive.get(path, 0)) for path in named]


def _chosen(config: Config, parts: Sequence[PartFile]) -> list[PartFile]:
    """Those with the smallest live share, until what stays is half-way back to what is live."""
    live = sum(part.live for part in parts)
    held, bound = sum(part.bytes for part in parts if part.live), live * (1 + (config.compaction.disk - 1) / 2)
    chosen = []
    for part in sorted((part for part in parts if 0 < part.live < part.bytes), key=lambda part: part.live / part.bytes):
        if held <= bound:
            break
        chosen.append(part)
        held -= part.bytes - part.live
    return chosen


def _entry(
    state: State, parts: Sequence[PartFile], rewritten: Rewritten, made: LiveRun, attempt: str, run: str, spent: int
) -> tuple[Entry, Compacted]:
    stays = set(made.part_files)
    dropped = [part for part in parts if part.path not in stays]
    sizes = {part.path: part.bytes for part in parts} | dict(zip(rewritten.paths, rewritten.sizes, strict=True))
    held = StoredBytes.of(state.totals).spent(spent)
    held = replace(held, parts=sum(sizes[name] for name in stays), live=sum(part.live for part in parts))
    entry = Entry(
        "compact",
        attempt,
        state.rules,
        runs_added=(RunRef(run, made.entries),),
        runs_removed=tuple(run.path for run in state.runs),
        dropped=tuple(part.path for part in dropped),
        totals=held.in_totals(state.totals),
    )
    return entry, Compacted(
        rewritten=len(rewritten.chosen),
        records=rewritten.records,
        bytes=rewritten.bytes,
        dropped=len(dropped),
        dropped_bytes=sum(part.bytes for part in dropped),
    )
