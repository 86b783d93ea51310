"""The objects that are reachable from the timeline: generations, runs, part-files and reduced folders that its entries name.

Everything here is derived from timeline entries, since any other note may be missing after a process was killed.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from recon.errors import Damaged
from recon.state.runs import open_runs
from recon.state.timeline import State, Timeline
from recon.storage import documents, layout
from recon.storage.port import NotFound, ObjectStore


@dataclass(frozen=True)
class OpenGeneration:
    """A generation that no commit names: of a rebuild or preview that is running, or was given up. ``rules`` and ``time``: from its
    ``begun.json``, "" where that is missing or damaged."""

    generation: str
    rules: str = ""
    time: str = ""


def needed(store: ObjectStore, state: State) -> set[str]:
    """Runs and part-files that look-ups at ``state`` may read."""
    runs = open_runs(store, (run.path for run in state.runs))
    return {path for run in runs for path in (run.path, *run.part_files)}


def folders(state: State) -> set[str]:
    """Reduced folders that a state needs."""
    return {window.folder for window in state.windows.values()}


def switched(timeline: Timeline, state: State) -> dict[str, int]:
    """Generations that commits up to ``state`` switched to → the commit that did so last. Reads one state per rebuild."""
    found: dict[str, int] = {}
    while state.rebuilt:
        entry = timeline.entry(state.rebuilt)
        if entry is None or entry.generation is None:
            path = layout.commit(state.rebuilt, timeline.folder)
            raise Damaged(f"{path}: it names no generation, though commit {state.commit} needs one; run 'recon verify'")
        found.setdefault(entry.generation[0], entry.number)
        state = timeline.at(entry.number - 1)
    return found


def open_generations(store: ObjectStore, timeline: Timeline, state: State) -> list[OpenGeneration]:
    """Generations that no commit up to ``state`` names, oldest first."""
    names = {path.removeprefix(layout.GENERATIONS).partition("/")[0] for path in store.list(layout.GENERATIONS)}
    named = switched(timeline, state) if names else {}
    return sorted((_open_generation(store, name) for name in names - named.keys()), key=lambda found: (found.time, found.generation))


def _open_generation(store: ObjectStore, generation: str) -> OpenGeneration:
    try:
        body = read_start(store, generation)
        return OpenGeneration(generation, body.rules, body.time)
    except (NotFound, Damaged):
        return OpenGeneration(generation)


class GenerationStart(BaseModel):
    """``begun.json``. ``commit``: a sweep after this commit may have removed what was made for the generation."""

    rules: str
    time: str
    commit: int


def read_start(store: ObjectStore, generation: str) -> GenerationStart:
    """Raises NotFound, and Damaged."""
    return documents.read(store, layout.generation_begun(generation), GenerationStart, "delete its folder; the rebuild begins again")
