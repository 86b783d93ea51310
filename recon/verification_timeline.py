"""Verifying the timeline: every entry from the first to the newest, and that their fold is what the checkpoints hold.

Belongs here: entries and checkpoints. Does not belong here: whether what the entries say is true of records and files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from recon import layout
from recon.errors import Damaged
from recon.store import ObjectStore
from recon.timeline import Entry, RunRef, State, Timeline, apply
from recon.verification_findings import UNREADABLE, Findings, said

_NAME = re.compile(r"(\d{12})\.json\Z")


@dataclass(frozen=True)
class History:
    """``state``: the fold up to the newest commit that can be reached. ``changes``: window → commit → the window's
    figures as that commit left them. ``whole``: whether no commit had to be stepped over, so that ``changes`` has all
    of them."""

    state: State
    changes: Mapping[str, Mapping[int, Mapping[str, Any]]] = field(default_factory=dict)
    whole: bool = True


def check_timeline(store: ObjectStore, findings: Findings) -> History:
    """Reads and folds every entry. Steps over a broken one by the next checkpoint; without one it ends before it."""
    timeline = Timeline(store)
    entries = _numbered(store, layout.TIMELINE)
    checkpoints = _numbered(store, layout.CHECKPOINTS)
    head = max([*entries, *checkpoints], default=0)
    state, whole = State(), True
    changes: dict[str, dict[int, Mapping[str, Any]]] = {}
    while state.commit < head:
        number = state.commit + 1
        try:
            entry = _entry(timeline, number)
            following = apply(state, entry)
        except UNREADABLE as error:
            whole = False
            resumed = _next_checkpoint(store, [n for n in sorted(checkpoints) if n >= number])
            onward = f"goes on from the checkpoint {resumed.commit}" if resumed else f"ends at commit {number - 1}"
            findings.add(
                f"{layout.commit(number)}: the timeline entry is damaged or gone ({said(error)}); this verification "
                f"{onward}; restore the entry from a copy of the store"
            )
            if resumed is None:
                break
            state = resumed
            continue
        state = following
        for name in (*entry.windows, *entry.recounted):
            changes.setdefault(name, {})[number] = state.windows[name]
        if number in checkpoints:
            _check_checkpoint(store, state, findings)
    return History(state, changes, whole)


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


def _next_checkpoint(store: ObjectStore, numbers: list[int]) -> State | None:
    """The first of the checkpoints that can be read."""
    for number in numbers:
        try:
            raw = json.loads(store.get(layout.checkpoint(number)))
            return State(**{**raw, "runs": tuple(RunRef(*run) for run in raw["runs"])})
        except UNREADABLE:
            continue
    return None


def _check_checkpoint(store: ObjectStore, state: State, findings: Findings) -> None:
    path = layout.checkpoint(state.commit)
    try:
        held = json.loads(store.get(path))
    except UNREADABLE as error:
        findings.add(f"{path}: the checkpoint cannot be read ({said(error)}); delete it, the entries hold all that it says")
        return
    fold = json.loads(json.dumps({**state.__dict__, "runs": [run.to_json() for run in state.runs]}))
    if wrong := [name for name in sorted({*fold, *held}) if fold.get(name) != held.get(name)]:
        findings.add(
            f"{path}: the checkpoint is not the fold of the commits 1 … {state.commit} (it differs in "
            f"{', '.join(wrong)}); delete it, the entries hold all that it says"
        )
