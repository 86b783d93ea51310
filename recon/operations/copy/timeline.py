"""The timeline copied: commits in order, and what is told of commits beside it."""

from __future__ import annotations

import re
from contextlib import suppress

from pydantic import BaseModel

from recon.errors import Damaged, WrongUsage
from recon.operations.copy.transfer import Bringing, Thing
from recon.state import checkpoints
from recon.state.timeline import Entry, State
from recon.storage import documents, layout
from recon.storage.port import NotFound, ObjectStore

_NUMBERED = re.compile(r"(\d{12})\.json\Z")


def commits_of(store: ObjectStore, timeline: str = layout.TIMELINE) -> set[int]:
    """The numbers of the entries of a timeline, whether or not they follow each other."""
    matches = (_NUMBERED.match(path[len(timeline) :]) for path in store.list(timeline))
    return {int(match[1]) for match in matches if match}


def bring_timeline(bringing: Bringing, state: State, since: int, together: int) -> frozenset[str]:
    """The entries after the commit ``since`` up to ``state``. Returns the windows that they changed.

    Only what ``state`` rests on is in the target, not what commits before it did: so all become visible at once, by the put of the one that
    follows the target's newest, the last. Up to ``together`` nobody reads the target yet, and many are put at once.

    Raises WrongUsage where the target holds another entry under a number; it stays at its newest commit then."""
    there = commits_of(bringing.target)

    def one(number: int) -> set[str]:
        path = layout.commit(number)
        body = bringing.source.get(path)
        try:
            entry = Entry.from_json(body)
        except (ValueError, TypeError, KeyError) as error:
            raise Damaged(f"{path}: the timeline entry is damaged ({error}); restore it from a copy of the store") from None
        if entry.generation is not None and number not in there:
            _bring_generation(bringing, *entry.generation)
        bringing.put(path, body)
        return set(state.windows) if entry.generation is not None else {*entry.windows, *entry.recounted}

    border = max(since, min(together, state.commit))
    changed = set().union(*bringing.each(one, range(since + 1, border + 1)))
    later = _from_the_far_end(border, state.commit, there)
    lowest = min(set(later) - there, default=state.commit)
    try:
        for number in later:
            changed |= one(number)
    except WrongUsage:
        for number in later:
            if number > lowest:
                _take_back(bringing, number)
        raise
    return frozenset(changed)


def _from_the_far_end(after: int, newest: int, there: set[int]) -> list[int]:
    """The commits after ``after`` in the order in which they are put: the lowest that is missing is the last. The one behind it is the
    first: it tells whoever would commit in the target that more is to come (Timeline.commit)."""
    numbers = list(range(newest, after, -1))
    missing = [number for number in numbers if number not in there]
    fence = missing[-2:-1]
    return fence + [number for number in numbers if number not in fence]


def _take_back(bringing: Bringing, number: int) -> None:
    """An entry that lies beyond what somebody else committed in the target just now, before anybody takes it for the next one."""
    path = layout.commit(number)
    with suppress(NotFound):
        if bringing.target.get(path) == bringing.source.get(path):
            bringing.target.delete(path)


def _bring_generation(bringing: Bringing, generation: str, at: int) -> None:
    """A rebuild's own timeline up to the commit that the store's timeline names, and that it does."""
    folder = layout.generation(generation)
    begun = layout.generation_begun(generation)
    wanted = {begun, *(layout.commit(number, folder) for number in range(1, at + 1))}
    wanted |= {layout.checkpoint(*place, folder) for place in checkpoints.listed(bringing.source, folder) if place.commit <= at}
    above = begun.rpartition("/")[0]
    there = dict(bringing.target.sizes(above))
    for path, size in bringing.source.sizes(above):
        if path in wanted:
            bringing.one(Thing(path, size), there.get(path))


def bring_after(bringing: Bringing, state: State, changed: frozenset[str]) -> None:
    """What tells of the commits up to ``state``: never before them. ``changed``: windows whose certificates are compared where they are
    there already."""
    sizes = dict(bringing.source.sizes(layout.checkpoints()))
    places = [place for place in checkpoints.listed(bringing.source, layout.TIMELINE) if place.commit <= state.commit]
    paths = (layout.checkpoint(*place) for place in places)
    bringing.all((Thing(path, sizes[path]) for path in paths if path in sizes), dict(bringing.target.sizes(layout.checkpoints())))
    _bring_indexed(bringing, state.commit)
    _bring_certificates(bringing, state.commit, changed)


def _bring_indexed(bringing: Bringing, commit: int) -> None:
    wanted = {path for path in bringing.source.list(layout.INDEXED) if int(path.rpartition("/")[2]) <= commit}
    there = set(bringing.target.list(layout.INDEXED))
    list(bringing.each(lambda path: bringing.put(path, b""), sorted(wanted - there)))
    for path in there - wanted:
        bringing.target.delete(path)


class _Certificate(BaseModel):
    commit: int


def _bring_certificates(bringing: Bringing, commit: int, changed: frozenset[str]) -> None:
    sizes, there = dict(bringing.source.sizes(layout.CERTIFICATES)), dict(bringing.target.sizes(layout.CERTIFICATES))
    for path in there:
        if path not in sizes:
            raise bringing.another(path)

    def one(path: str) -> None:
        if path in there:
            window = layout.window_name(path.split("/")[1])
            bringing.one(Thing(path, sizes[path], settled=window not in changed), there[path])
            return
        body = bringing.source.get(path)
        if documents.parsed(path, body, _Certificate, documents.RESTORE).commit <= commit:
            bringing.put(path, body)

    list(bringing.each(one, sizes))
