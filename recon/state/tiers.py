"""Merges runs into tiers, so that a look-up reads few runs however many commits there are."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from recon.config import Config
from recon.state.amplification import StoredBytes, allows
from recon.state.runs import ENTRY_BYTES, choose_tiers, open_run, open_runs, write_merged
from recon.state.timeline import Entry, RunRef, Timeline
from recon.storage import layout
from recon.storage.port import AlreadyExists, NotFound, ObjectStore


@dataclass(frozen=True)
class TiersMerged:
    """The result of one call: the number of runs merged, entries of the new tiers, and runs left. ``put_off``: a tier is due, but
    ``compaction.writes`` does not allow it yet."""

    merged: int
    entries: int
    runs: int
    put_off: bool = False


def merge_tiers(store: ObjectStore, config: Config, timeline: Timeline) -> TiersMerged:
    """Merges tiers of runs until none is due, or ``compaction.writes`` does not allow the next. Each merge is a commit; after a lost race
    it starts over. Part-files do not change."""
    merged = entries = 0
    while True:
        state = timeline.head()
        due = choose_tiers([run.entries for run in state.runs])
        if due is None:
            return TiersMerged(merged, entries, len(state.runs))
        chosen, stored = state.runs[due], StoredBytes.of(state.totals)
        if not allows(config, stored, sum(run.entries for run in chosen) * ENTRY_BYTES):
            return TiersMerged(merged, entries, len(state.runs), put_off=True)
        writer = layout.new_attempt()
        path = layout.tier_run(writer)
        try:
            write_merged(store, path, open_runs(store, (run.path for run in chosen)))
            tier = open_run(store, path)
        except NotFound:
            # A sweep removed a run that this process read or wrote while it was suspended. Then there are newer commits.
            if timeline.head().commit == state.commit:
                raise
            continue
        entry = Entry(
            "tiers",
            writer,
            state.rules,
            runs_added=(RunRef(path, tier.count),),
            runs_removed=tuple(run.path for run in chosen),
            totals=stored.spent(tier.count * ENTRY_BYTES).in_totals(state.totals),
        )
        if timeline.commit(entry, onto=state) is not None:
            merged, entries = merged + len(chosen), entries + tier.count


def note_indexed(store: ObjectStore, window: datetime, commit: int) -> None:
    """Notes that the runs were merged after ``commit`` had changed the window; the next stage waits for this note."""
    earlier = [path for path in store.list(layout.indexed(window)) if path < layout.indexed_commit(window, commit)]
    with suppress(AlreadyExists):
        store.put_new(layout.indexed_commit(window, commit), [b""])
    for path in earlier:
        store.delete(path)


def indexed_at(store: ObjectStore, window: datetime) -> int:
    """The newest commit of a window in such a note, 0 without one."""
    return max((int(path.rpartition("/")[2]) for path in store.list(layout.indexed(window))), default=0)
