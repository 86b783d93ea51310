"""Finds or begins the generation of a rebuild."""

from __future__ import annotations

from datetime import UTC, datetime

from recon.config import Config
from recon.errors import Damaged, WrongUsage
from recon.state import reachable
from recon.state.runs import open_runs
from recon.state.timeline import State, Timeline
from recon.storage import documents, layout
from recon.storage.port import NotFound, ObjectStore


def find_or_begin(store: ObjectStore, config: Config, timeline: Timeline, state: State) -> str:
    """The newest open generation of these rules of which nothing was swept; else a new one."""
    if state.commit == 0:
        raise WrongUsage(f"{config.path}: nothing is committed yet, so there is nothing to rebuild; next: recon run")
    for found in reversed(reachable.open_generations(store, timeline, state)):
        if found.rules == config.rules_version and not was_swept(store, timeline, found.generation, state):
            return found.generation
    return begin(store, config, state)


def begin(store: ObjectStore, config: Config, state: State) -> str:
    """A new generation. ``commit``: sweeps after this commit may remove objects that are made for it."""
    generation = layout.new_attempt()
    body = {"rules": config.rules_version, "time": datetime.now(UTC).isoformat(timespec="seconds"), "commit": state.commit}
    documents.put(store, layout.generation_begun(generation), body)
    return generation


def was_swept(store: ObjectStore, timeline: Timeline, generation: str, state: State) -> bool:
    """Whether a sweep listed the generation, or an object that its state needs: then no commit may switch to it."""
    try:
        begun = reachable.read_start(store, generation)
    except (NotFound, Damaged):
        return True
    swept = {path for n in range(begun.commit + 1, state.commit + 1) if (entry := timeline.entry(n)) for path in entry.swept}
    if not swept or f"{layout.GENERATIONS}{generation}/" in swept:
        return bool(swept)
    made = Timeline(store, layout.generation(generation)).head()
    if not swept.isdisjoint((*reachable.folders(made), *(run.path for run in made.runs))):
        return True
    return not swept.isdisjoint(path for run in open_runs(store, (run.path for run in made.runs)) for path in run.part_files)
