"""Verifies the timeline: every entry from the first to the newest, and that their fold equals the checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from recon.config import Config
from recon.errors import Damaged
from recon.model.windows import name_of
from recon.state import checkpoints
from recon.state.checkpoints import Span
from recon.state.committed import of_commit, rebuilt_figures
from recon.state.timeline import Entry, Fold, State, Timeline
from recon.storage import documents, layout
from recon.storage.documents import RESTORE
from recon.storage.port import ObjectStore
from recon.verification.chain import Chain
from recon.verification.findings import UNREADABLE, Findings, text_of

_NAME = re.compile(r"(\d{12})\.json\Z")


class Reduced(NamedTuple):
    """A reduction that an entry names. ``digest``: of its figures, "" in format 3."""

    window: str
    revision: int
    digest: str


@dataclass
class History:
    """The entries that could be read. ``state``: their fold up to the newest commit that can be reached. ``changes``: window → commit → the
    window's figures in that commit. ``complete``: whether every commit up to then could be read. ``folders``: window → its stateless
    folders since the last rebuild. ``swept``: paths that sweeps have removed.

    ``reductions``: stateless folder → its reduction, of rebuilds too. ``rules``: the versions that any entry names. ``digests``: commit →
    digest of its entry. ``linked``: whether the store's format links every object of a chain."""

    state: State
    changes: dict[str, dict[int, Mapping[str, Any]]] = field(default_factory=dict)
    complete: bool = True
    folders: dict[str, set[str]] = field(default_factory=dict)
    swept: set[str] = field(default_factory=set)
    reductions: dict[str, Reduced] = field(default_factory=dict)
    rules: set[str] = field(default_factory=set)
    digests: dict[int, str] = field(default_factory=dict)
    linked: bool = False

    @cached_property
    def windows(self) -> dict[str, Mapping[str, Any]]:
        """Window → its figures in the last commit that changed it, in order of time. Windows last changed by a lost commit are missing."""
        changed = sorted(self.state.windows.items())
        return {name: figures for name, window in changed if (figures := self.changes.get(name, {}).get(window.commit)) is not None}


def check_timeline(store: ObjectStore, findings: Findings) -> History:
    """Reads and folds every entry. At a broken entry it goes on from the next checkpoint, and ends if there is none."""
    listed = checkpoints.listed(store, layout.TIMELINE)
    head = max([*_numbered(store, layout.TIMELINE), *(place.commit for place in listed)], default=0)
    history, fold = History(State(), linked=is_linked(store)), Fold(State())
    chain, before = Chain(findings, history.linked), ""
    while fold.commit < head:
        number = fold.commit + 1
        try:
            entry, raw = _entry(store, layout.TIMELINE, number)
            rebuilt = None if entry.generation is None else _rebuilt(store, entry, history, findings)
            fold.add(entry, rebuilt)
        except UNREADABLE as error:
            history.complete = False
            chain.skip()
            resumed = _step_over(store, fold, listed)
            onward = f"goes on from the checkpoint {fold.commit}" if resumed else f"ends at commit {number - 1}"
            findings.add(
                f"{layout.commit(number)}: the timeline entry is damaged or gone ({text_of(error)}); this verification "
                f"{onward}; restore the entry from a copy of the store"
            )
            if not resumed:
                break
            continue
        chain.add(layout.commit(number), raw, entry.previous)
        if entry.previous is not None and entry.time <= before:
            findings.add(f"{layout.commit(number)}: its time, {entry.time}, is not after that of the commit before, {before}; {RESTORE}")
        before = entry.time
        _take(history, entry)
        for place in checkpoints.due(number):
            if place in listed:
                _check_checkpoint(store, fold, place, findings)
    history.state = fold.state()
    return history


def _take(history: History, entry: Entry) -> None:
    """Adds a commit of the store's own timeline."""
    for name, figures in (*entry.windows.items(), *entry.recounted.items()):
        history.changes.setdefault(name, {})[entry.number] = {**figures, **of_commit(entry)}
    _take_reductions(history, entry)
    history.swept.update(entry.swept)
    history.digests[entry.number] = entry.digest


def _take_reductions(history: History, entry: Entry) -> None:
    history.rules.add(entry.rules)
    for name, figures in (*entry.windows.items(), *entry.recounted.items()):
        history.folders.setdefault(name, set()).add(figures["folder"])
        history.reductions[figures["folder"]] = Reduced(name, figures["revision"], figures.get("reduced", ""))


def is_linked(store: ObjectStore) -> bool:
    """Whether in the store's format every object of a chain names the object before it."""
    identity = documents.read(store, layout.STORE, dict[str, Any], RESTORE)
    return int(identity["format"]) > 3


def check_watermark(config: Config, history: History, findings: Findings) -> None:
    """Compares the watermark that the newest commit states with a walk over the grid."""
    state, last, window = history.state, "", config.grid.start
    while (committed := state.windows.get(name_of(window))) is not None and committed.closed:
        last, window = name_of(window), config.grid.after(window)
    if history.complete and last != state.watermark:
        findings.add(
            f"{layout.commit(state.commit)}: the watermark is said to be {state.watermark or 'none'}, the windows that are closed "
            f"reach to {last or 'none'}; restore the timeline from a copy of the store"
        )


def _rebuilt(store: ObjectStore, entry: Entry, history: History, findings: Findings) -> State:
    """The final state of a rebuild's own timeline. Its windows' figures become changes of the commit that switched to it, and its stateless
    folders become those that later revisions withdraw keys from."""
    assert entry.generation is not None
    generation, commit = entry.generation
    folder, entries = layout.generation(generation), []
    chain, where = Chain(findings, entry.previous is not None), f"{layout.commit(entry.number)} names"
    for number in range(1, commit + 1):
        try:
            made, raw = _entry(store, folder, number)
        except UNREADABLE as error:
            raise Damaged(f"{layout.commit(number, folder)}, which it names, is damaged or gone: {text_of(error)}") from None
        chain.add(layout.commit(number, folder), raw, made.previous)
        entries.append(made)
    if entry.previous is not None and (not entries or entries[-1].digest != entry.made):
        findings.add(f"{layout.commit(commit, folder)}: {where} another digest of it, so that it was edited or replaced; {RESTORE}")
    history.folders.clear()
    for made in entries:
        _take_reductions(history, made)
    for window, figures in rebuilt_figures(store, entry).items():
        history.changes.setdefault(window, {})[entry.number] = figures
    return Timeline(store, folder).at(commit)


def _numbered(store: ObjectStore, folder: str) -> set[int]:
    """The numbers of the objects directly in ``folder``."""
    matches = (_NAME.match(path[len(folder) :]) for path in store.list(folder))
    return {int(match[1]) for match in matches if match}


def _entry(store: ObjectStore, folder: str, number: int) -> tuple[Entry, bytes]:
    """The entry, checked for its form, and its bytes. Raises one of UNREADABLE."""
    raw = store.get(layout.commit(number, folder))
    entry = Entry.from_json(raw, check_seal=False)
    if entry.number != number:
        raise Damaged(f"it says that it is commit {entry.number}")
    datetime.fromisoformat(entry.time)
    return entry, raw


def _step_over(store: ObjectStore, fold: Fold, listed: set[Span]) -> bool:
    """Continues the fold from the nearest checkpoint after the unreadable commit. False if there is none."""
    for place in sorted(place for place in listed if place.since <= fold.commit < place.commit):
        try:
            fold.add_checkpoint(checkpoints.read(store, layout.TIMELINE, place))
        except UNREADABLE:
            continue
        return True
    return False


def _check_checkpoint(store: ObjectStore, fold: Fold, place: Span, findings: Findings) -> None:
    path = layout.checkpoint(*place)
    try:
        stored = checkpoints.read(store, layout.TIMELINE, place)
    except UNREADABLE as error:
        findings.add(f"{path}: the checkpoint cannot be read ({text_of(error)}); delete it, the entries hold all that it says")
        return
    expected = fold.checkpoint(place)
    wrong = [name for name in sorted({*expected.at, *stored.at}) if expected.at.get(name) != stored.at.get(name)]
    if stored.windows() != expected.windows():
        wrong.append("windows")
    if wrong:
        findings.add(
            f"{path}: the checkpoint is not the fold of the commits 1 … {place.commit} (it differs in "
            f"{', '.join(wrong)}); delete it, the entries hold all that it says"
        )
