"""Verifying the timeline: every entry from the first to the newest, and that their fold is what the checkpoints hold.

Belongs here: entries and checkpoints. Does not belong here: whether what the entries say is true of records and files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from recon import checkpoints, layout
from recon.checkpoints import Place
from recon.config import Config
from recon.errors import Damaged
from recon.store import ObjectStore
from recon.timeline import Entry, Fold, State, Timeline, rebuilt_figures
from recon.verification_findings import UNREADABLE, Findings, said
from recon.windows import name_of

_NAME = re.compile(r"(\d{12})\.json\Z")


@dataclass(frozen=True)
class History:
    """``state``: the fold up to the newest commit that can be reached. ``changes``: window → commit → the window's
    figures as that commit left them. ``whole``: whether no commit had to be stepped over, so that ``changes`` has all
    of them. ``folders``: window → the stateless folders that it has had since the last rebuild. ``swept``: what sweeps have removed."""

    state: State
    changes: Mapping[str, Mapping[int, Mapping[str, Any]]] = field(default_factory=dict)
    whole: bool = True
    folders: Mapping[str, set[str]] = field(default_factory=dict)
    swept: frozenset[str] = frozenset()

    @cached_property
    def windows(self) -> dict[str, Mapping[str, Any]]:
        """Window → its figures as its last change left them, in order; without those that a lost commit changed last."""
        held = sorted(self.state.windows.items())
        return {name: figures for name, one in held if (figures := self.changes.get(name, {}).get(one.commit)) is not None}


def check_timeline(store: ObjectStore, findings: Findings) -> History:
    """Reads and folds every entry. Steps over a broken one by the next checkpoint; without one it ends before it."""
    timeline = Timeline(store)
    listed = checkpoints.listed(store, layout.TIMELINE)
    head = max([*_numbered(store, layout.TIMELINE), *(place.commit for place in listed)], default=0)
    fold, whole = Fold(State()), True
    changes: dict[str, dict[int, Mapping[str, Any]]] = {}
    folders: dict[str, set[str]] = {}
    swept: set[str] = set()
    while fold.commit < head:
        number = fold.commit + 1
        try:
            entry = _entry(timeline, number)
            rebuilt = None if entry.generation is None else _rebuilt(store, entry, changes, folders)
            fold.add(entry, rebuilt)
        except UNREADABLE as error:
            whole = False
            resumed = _step_over(store, fold, listed)
            onward = f"goes on from the checkpoint {fold.commit}" if resumed else f"ends at commit {number - 1}"
            findings.add(
                f"{layout.commit(number)}: the timeline entry is damaged or gone ({said(error)}); this verification "
                f"{onward}; restore the entry from a copy of the store"
            )
            if not resumed:
                break
            continue
        for name, figures in (*entry.windows.items(), *entry.recounted.items()):
            changes.setdefault(name, {})[number] = {**figures, "commit": number}
            folders.setdefault(name, set()).add(figures["folder"])
        swept.update(entry.swept)
        for place in checkpoints.due(number):
            if place in listed:
                _check_checkpoint(store, fold, place, findings)
    return History(fold.state(), changes, whole, folders, frozenset(swept))


def check_watermark(config: Config, history: History, findings: Findings) -> None:
    """The watermark that the newest commit states, against a walk over the grid."""
    state, last, window = history.state, "", config.grid.start
    while (held := state.windows.get(name_of(window))) is not None and held.closed:
        last, window = name_of(window), config.grid.after(window)
    if history.whole and last != state.watermark:
        findings.add(
            f"{layout.commit(state.commit)}: the watermark is said to be {state.watermark or 'none'}, the windows that are closed "
            f"reach to {last or 'none'}; restore the timeline from a copy of the store"
        )


def _rebuilt(store: ObjectStore, entry: Entry, changes: dict[str, dict[int, Mapping[str, Any]]], folders: dict[str, set[str]]) -> State:
    """The state that a rebuild's own timeline came to. Its windows' figures are changes of the commit that switched to it, and the
    folders that they had on the way there are those that later ones withdraw keys of."""
    assert entry.generation is not None
    generation, commit = entry.generation
    timeline = Timeline(store, layout.generation(generation))
    for window, figures in rebuilt_figures(store, entry).items():
        changes.setdefault(window, {})[entry.number] = figures
    folders.clear()
    for number in range(1, commit + 1):
        if (made := timeline.entry(number)) is None:
            raise Damaged(f"{layout.commit(number, timeline.folder)} is gone")
        for window, figures in made.windows.items():
            folders.setdefault(window, set()).add(figures["folder"])
    return timeline.at(commit)


def _numbered(store: ObjectStore, folder: str) -> set[int]:
    """The numbers of the objects right in ``folder``."""
    matches = (_NAME.match(path[len(folder) :]) for path in store.list(folder))
    return {int(match[1]) for match in matches if match}


def _entry(timeline: Timeline, number: int) -> Entry:
    """The entry, as far as its own form goes. Raises one of UNREADABLE."""
    entry = timeline.entry(number)
    if entry is None:
        raise Damaged("later commits stand")
    if entry.number != number:
        raise Damaged(f"it says that it is commit {entry.number}")
    datetime.fromisoformat(entry.time)
    return entry


def _step_over(store: ObjectStore, fold: Fold, listed: set[Place]) -> bool:
    """Lays the nearest checkpoint that leads past the commit that cannot be read. False if there is none."""
    for place in sorted(place for place in listed if place.since <= fold.commit < place.commit):
        try:
            fold.lay(checkpoints.read(store, layout.TIMELINE, place))
        except UNREADABLE:
            continue
        return True
    return False


def _check_checkpoint(store: ObjectStore, fold: Fold, place: Place, findings: Findings) -> None:
    path = layout.checkpoint(*place)
    try:
        held = checkpoints.read(store, layout.TIMELINE, place)
    except UNREADABLE as error:
        findings.add(f"{path}: the checkpoint cannot be read ({said(error)}); delete it, the entries hold all that it says")
        return
    expected = fold.checkpoint(place)
    wrong = [name for name in sorted({*expected.at, *held.at}) if expected.at.get(name) != held.at.get(name)]
    if held.windows() != expected.windows():
        wrong.append("windows")
    if wrong:
        findings.add(
            f"{path}: the checkpoint is not the fold of the commits 1 … {place.commit} (it differs in "
            f"{', '.join(wrong)}); delete it, the entries hold all that it says"
        )
