"""Copies the timeline, and then the objects that refer to its commits: checkpoints, notes of the index, certificates."""

from __future__ import annotations

import re
from contextlib import suppress

from pydantic import BaseModel

from recon.errors import Damaged, WrongUsage
from recon.operations.copy.transfer import Item, Transfer
from recon.state import checkpoints
from recon.state.timeline import Entry, State
from recon.storage import documents, layout
from recon.storage.port import NotFound, ObjectStore

_NUMBERED = re.compile(r"(\d{12})\.json\Z")


def commits_of(store: ObjectStore, timeline: str = layout.TIMELINE) -> set[int]:
    """The numbers of the entries of a timeline, with or without gaps."""
    matches = (_NUMBERED.match(path[len(timeline) :]) for path in store.list(timeline))
    return {int(match[1]) for match in matches if match}


def copy_timeline(transfer: Transfer, state: State, since: int, together: int) -> frozenset[str]:
    """Copies the entries after the commit ``since`` up to ``state``. Returns the windows that they changed.

    The target has the data of ``state`` only, not that of the commits before it. So all entries become visible at once, by the last put: of
    the entry that follows the target's newest. Up to ``together`` the target is not read yet, and many entries are put in parallel.

    Raises WrongUsage if the target has another entry under a number; it stays at its newest commit then."""
    there = commits_of(transfer.target)

    def put(number: int) -> set[str]:
        path = layout.commit(number)
        body = transfer.source.get(path)
        try:
            entry = Entry.from_json(body)
        except (ValueError, TypeError, KeyError) as error:
            raise Damaged(f"{path}: the timeline entry is damaged ({error}); restore it from a copy of the store") from None
        if entry.generation is not None and number not in there:
            _copy_generation(transfer, *entry.generation)
        transfer.put(path, body)
        return set(state.windows) if entry.generation is not None else {*entry.windows, *entry.recounted}

    border = max(since, min(together, state.commit))
    changed = set().union(*transfer.each(put, range(since + 1, border + 1)))
    later = _from_the_far_end(border, state.commit, there)
    lowest = min(set(later) - there, default=state.commit)
    try:
        for number in later:
            changed |= put(number)
    except WrongUsage:
        for number in later:
            if number > lowest:
                _take_back(transfer, number)
        raise
    return frozenset(changed)


def _from_the_far_end(after: int, newest: int, there: set[int]) -> list[int]:
    """The commits after ``after`` in the order of their puts. The lowest missing one is the last. The one after it is the first: it keeps
    writers from committing in the target meanwhile (Timeline.commit)."""
    numbers = list(range(newest, after, -1))
    missing = [number for number in numbers if number not in there]
    fence = missing[-2:-1]
    return fence + [number for number in numbers if number not in fence]


def _take_back(transfer: Transfer, number: int) -> None:
    """Removes an entry that follows a commit by another writer of the target, before a reader takes it for the next commit."""
    path = layout.commit(number)
    with suppress(NotFound):
        if transfer.target.get(path) == transfer.source.get(path):
            transfer.target.delete(path)


def _copy_generation(transfer: Transfer, generation: str, at: int) -> None:
    """Copies a rebuild's own timeline up to the commit that the store's timeline names."""
    folder = layout.generation(generation)
    begun = layout.generation_begun(generation)
    named = {begun, *(layout.commit(number, folder) for number in range(1, at + 1))}
    named |= {layout.checkpoint(*place, folder) for place in checkpoints.listed(transfer.source, folder) if place.commit <= at}
    above = begun.rpartition("/")[0]
    there = dict(transfer.target.sizes(above))
    for path, size in transfer.source.sizes(above):
        if path in named:
            transfer.one(Item(path, size), there.get(path))


def copy_followers(transfer: Transfer, state: State, changed: frozenset[str]) -> None:
    """Copies objects that refer to the commits up to ``state``, after these commits. ``changed``: windows whose existing certificates are
    compared."""
    sizes = dict(transfer.source.sizes(layout.checkpoints()))
    places = [place for place in checkpoints.listed(transfer.source, layout.TIMELINE) if place.commit <= state.commit]
    paths = (layout.checkpoint(*place) for place in places)
    transfer.all((Item(path, sizes[path]) for path in paths if path in sizes), dict(transfer.target.sizes(layout.checkpoints())))
    _copy_indexed(transfer, state.commit)
    _copy_certificates(transfer, state.commit, changed)


def _copy_indexed(transfer: Transfer, commit: int) -> None:
    named = {path for path in transfer.source.list(layout.INDEXED) if int(path.rpartition("/")[2]) <= commit}
    there = set(transfer.target.list(layout.INDEXED))
    list(transfer.each(lambda path: transfer.put(path, b""), sorted(named - there)))
    for path in there - named:
        transfer.target.delete(path)


class _Certificate(BaseModel):
    commit: int


def _copy_certificates(transfer: Transfer, commit: int, changed: frozenset[str]) -> None:
    sizes, there = dict(transfer.source.sizes(layout.CERTIFICATES)), dict(transfer.target.sizes(layout.CERTIFICATES))
    for path in there:
        if path not in sizes:
            raise transfer.differs(path)

    def copy(path: str) -> None:
        if path in there:
            window = layout.window_name(path.split("/")[1])
            transfer.one(Item(path, sizes[path], settled=window not in changed), there[path])
            return
        body = transfer.source.get(path)
        if documents.parsed(path, body, _Certificate, documents.RESTORE).commit <= commit:
            transfer.put(path, body)

    list(transfer.each(copy, sizes))
