"""Verifying the timeline: every entry from the first to the newest, and that their fold is what the checkpoints hold."""

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
from recon.state.timeline import Entry, Fold, State, Timeline, of_commit, rebuilt_figures
from recon.storage import documents, layout
from recon.storage.port import ObjectStore
from recon.verification.chain import Chain
from recon.verification.findings import UNREADABLE, Findings, said

_COPY = "restore it from a copy of the store"
_NAME = re.compile(r"(\d{12})\.json\Z")


class Reduced(NamedTuple):
    """A reduction as an entry names it. ``digest``: of its figures, "" in format 3."""

    window: str
    revision: int
    digest: str


@dataclass
class History:
    """``state``: the fold up to the newest commit that can be reached. ``changes``: window → commit → the window's
    figures as that commit left them. ``whole``: whether no commit had to be stepped over, so that ``changes`` has all
    of them. ``folders``: window → the stateless folders that it has had since the last rebuild. ``swept``: what sweeps have removed.

    ``reductions``: stateless folder → what the entries, also those of rebuilds, name of it. ``rules``: the versions that any entry names.
    ``digests``: commit → digest of its entry.
    ``linked``: whether the store is of a format in which every object of a chain is linked."""

    state: State
    changes: dict[str, dict[int, Mapping[str, Any]]] = field(default_factory=dict)
    whole: bool = True
    folders: dict[str, set[str]] = field(default_factory=dict)
    swept: set[str] = field(default_factory=set)
    reductions: dict[str, Reduced] = field(default_factory=dict)
    rules: set[str] = field(default_factory=set)
    digests: dict[int, str] = field(default_factory=dict)
    linked: bool = False

    @cached_property
    def windows(self) -> dict[str, Mapping[str, Any]]:
        """Window → its figures as its last change left them, in order; without those that a lost commit changed last."""
        held = sorted(self.state.windows.items())
        return {name: figures for name, one in held if (figures := self.changes.get(name, {}).get(one.commit)) is not None}


def check_timeline(store: ObjectStore, findings: Findings) -> History:
    """Reads and folds every entry. Steps over a broken one by the next checkpoint; without one it ends before it."""
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
            history.whole = False
            chain.skip()
            resumed = _step_over(store, fold, listed)
            onward = f"goes on from the checkpoint {fold.commit}" if resumed else f"ends at commit {number - 1}"
            findings.add(
                f"{layout.commit(number)}: the timeline entry is damaged or gone ({said(error)}); this verification "
                f"{onward}; restore the entry from a copy of the store"
            )
            if not resumed:
                break
            continue
        chain.add(layout.commit(number), raw, entry.previous)
        if entry.previous is not None and entry.time <= before:
            findings.add(f"{layout.commit(number)}: its time, {entry.time}, is not after that of the commit before, {before}; {_COPY}")
        before = entry.time
        _take(history, entry)
        for place in checkpoints.due(number):
            if place in listed:
                _check_checkpoint(store, fold, place, findings)
    history.state = fold.state()
    return history


def _take(history: History, entry: Entry) -> None:
    """What a commit of the store's own timeline names."""
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
    """Whether the store is of a format in which every object of a chain names the one before it."""
    identity = documents.read(store, layout.STORE, dict[str, Any], documents.RESTORE)
    return int(identity["format"]) > 3


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


def _rebuilt(store: ObjectStore, entry: Entry, history: History, findings: Findings) -> State:
    """The state that a rebuild's own timeline came to. Its windows' figures are changes of the commit that switched to it, and the
    folders that they had on the way there are those that later ones withdraw keys of."""
    assert entry.generation is not None
    generation, commit = entry.generation
    folder, made = layout.generation(generation), []
    chain, where = Chain(findings, entry.previous is not None), f"{layout.commit(entry.number)} names"
    for number in range(1, commit + 1):
        try:
            one, raw = _entry(store, folder, number)
        except UNREADABLE as error:
            raise Damaged(f"{layout.commit(number, folder)}, which it names, is damaged or gone: {said(error)}") from None
        chain.add(layout.commit(number, folder), raw, one.previous)
        made.append(one)
    if entry.previous is not None and (not made or made[-1].digest != entry.made):
        findings.add(f"{layout.commit(commit, folder)}: {where} another digest of it, so that it was edited or replaced; {_COPY}")
    figures = rebuilt_figures(store, entry)
    history.folders.clear()
    for one in made:
        _take_reductions(history, one)
    for window, held in figures.items():
        history.changes.setdefault(window, {})[entry.number] = held
    return Timeline(store, folder).at(commit)


def _numbered(store: ObjectStore, folder: str) -> set[int]:
    """The numbers of the objects right in ``folder``."""
    matches = (_NAME.match(path[len(folder) :]) for path in store.list(folder))
    return {int(match[1]) for match in matches if match}


def _entry(store: ObjectStore, folder: str, number: int) -> tuple[Entry, bytes]:
    """The entry, as far as its own form goes, and its bytes. Raises one of UNREADABLE."""
    raw = store.get(layout.commit(number, folder))
    entry = Entry.from_json(raw, check_seal=False)
    if entry.number != number:
        raise Damaged(f"it says that it is commit {entry.number}")
    datetime.fromisoformat(entry.time)
    return entry, raw


def _step_over(store: ObjectStore, fold: Fold, listed: set[Span]) -> bool:
    """Lays the nearest checkpoint that leads past the commit that cannot be read. False if there is none."""
    for place in sorted(place for place in listed if place.since <= fold.commit < place.commit):
        try:
            fold.lay(checkpoints.read(store, layout.TIMELINE, place))
        except UNREADABLE:
            continue
        return True
    return False


def _check_checkpoint(store: ObjectStore, fold: Fold, place: Span, findings: Findings) -> None:
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
