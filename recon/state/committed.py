"""The figures of windows, as the commits that changed them last hold them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from recon.errors import Damaged
from recon.state.timeline import Entry, State, Timeline
from recon.storage import layout
from recon.storage.port import ObjectStore

OF_COMMIT = ("commit", "entry", "time", "rules")
"""The members of a window's figures that describe their commit: its number, the digest of its entry, its time and its rules."""


def of_commit(entry: Entry) -> dict[str, Any]:
    """The members of OF_COMMIT, from the entry of a commit."""
    return dict(zip(OF_COMMIT, (entry.number, entry.digest, entry.time, entry.rules), strict=True))


def committed_figures(store: ObjectStore, state: State, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Window → its figures in the commit that changed it last, with the members of OF_COMMIT. Windows that are not in the state are left
    out. Reads one entry for all windows of one commit."""
    timeline = Timeline(store, state.folder)
    by_commit: dict[int, list[str]] = {}
    for name in names:
        if (window := state.windows.get(name)) is not None:
            by_commit.setdefault(window.commit, []).append(name)
    found: dict[str, dict[str, Any]] = {}
    for commit, changed in by_commit.items():
        found |= _figures_of(store, timeline, commit, changed)
    return {name: found[name] for changed in by_commit.values() for name in changed}


def _figures_of(store: ObjectStore, timeline: Timeline, commit: int, names: list[str]) -> dict[str, dict[str, Any]]:
    entry = timeline.entry(commit)
    if entry is None:
        raise Damaged(f"{layout.commit(commit, timeline.folder)}: the timeline entry is gone; restore it from a copy of the store")
    figures = {**entry.windows, **entry.recounted}
    if entry.generation is not None:
        figures = {**rebuilt_figures(store, entry, [name for name in names if name not in figures]), **figures}
    try:
        return {name: {**figures[name], **of_commit(entry)} for name in names}
    except KeyError as missing:
        raise Damaged(f"{layout.commit(commit, timeline.folder)}: it has no figures of window {missing}; run 'recon verify'") from None


def rebuilt_figures(store: ObjectStore, entry: Entry, names: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
    """Window → its figures (of all windows without ``names``) in the generation that an entry switches to."""
    if entry.generation is None:
        return {}
    generation, at = entry.generation
    state = Timeline(store, layout.generation(generation)).at(at)
    found = committed_figures(store, state, state.windows if names is None else names)
    changed = {**of_commit(entry), "cause": "rebuild", "reason": f"by the rules {entry.rules}"}
    return {name: {**figures, **changed} for name, figures in found.items()}
