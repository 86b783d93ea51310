"""Copying a whole store as of one commit, beside its writers, and bringing a copy up to date.

The protocol and what was rejected: docs/decisions/017-copying.md.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recon.errors import Damaged, TryAgain, WrongUsage
from recon.model.windows import parse_instant
from recon.operations.copy.check import check_arrived
from recon.operations.copy.timeline import bring_after, bring_timeline, commits_of
from recon.operations.copy.transfer import Bringing, Thing
from recon.operations.copy.windows import bring_manifests, bring_reductions, finished_reductions
from recon.serving import builds
from recon.state import reduced
from recon.state.reachable import needed
from recon.state.timeline import State, Timeline
from recon.storage import documents, frontiers, layout
from recon.storage.local import LocalStore
from recon.storage.open import store_present
from recon.storage.port import AlreadyExists, NotFound, ObjectStore

if TYPE_CHECKING:
    from recon.model.progress import Progress

ROUNDS_MAX = 5
"""So often it begins anew where the source is swept beneath it."""
_COPIED = "copied"
"""The frontier of a copy: the commit that it was last whole at, and up to which one it followed the source's sweeps."""


@dataclass(frozen=True)
class Copied:
    """What one call did. ``commit``: of the source, as of which the target is whole. ``already``: objects that were there. ``removed``:
    objects that the source has swept, and the copy has now, too."""

    commit: int
    objects: int
    bytes: int
    already: int
    removed: int
    seconds: float


def copy(source: ObjectStore, target: ObjectStore, name: str, progress: Progress | None = None) -> Copied:
    """Makes ``target`` the store that ``source`` is at its newest commit, or brings it up to that. ``name``: the target's, for errors.

    Raises WrongUsage where the target holds anything else, or went on by itself; Damaged where the source is; TryAgain where it is swept
    faster than it is copied, or something arrived otherwise than it was sent. It may be called again after any of them, and after a kill.
    """
    _refuse_itself(source, target, name)
    with store_present(source):
        return _Copying(source, target, name, progress).copy()


class _SweptBeneath(Exception):
    """The source was swept while it was copied."""


class _Copying:
    """One call. ``_whole``: whether the target is a store already, in which others may read meanwhile."""

    def __init__(self, source: ObjectStore, target: ObjectStore, name: str, progress: Progress | None) -> None:
        self._source, self._target, self._name, self._progress = source, target, name, progress
        self._timeline = Timeline(source)
        self._bringing = Bringing(source, target, name, self._arrived)
        self._planned = self._done = 0

    def copy(self) -> Copied:
        started, first = time.perf_counter(), self._timeline.head()
        self._whole, self._begun = self._begin(first)
        self._before = Timeline(self._target).head() if self._whole else State()
        self._refuse_another(first)
        for _ in range(ROUNDS_MAX):
            try:
                state = self._brought_what_it_rests_on()
                break
            except _SweptBeneath:
                continue
        else:
            raise TryAgain(
                f"{self._name}: the source was swept {ROUNDS_MAX} times while it was copied; run the same again, what came stays there"
            )
        last, value = frontiers.read(self._target, _COPIED)
        changed = bring_timeline(self._bringing, state, last, self._begun)
        bring_after(self._bringing, state, changed)
        removed, followed = self._follow_sweeps(int((value or {}).get("followed", 0)), last)
        frontiers.advance(self._target, _COPIED, state.commit, {"followed": followed if last else self._begun})
        if not self._whole:
            with suppress(AlreadyExists):  # another copy of the same store was as far
                self._target.put_new(layout.STORE, [self._source.get(layout.STORE)])
        self._target.delete(layout.COPYING)
        done = self._bringing
        return Copied(state.commit, done.objects, done.bytes, done.already, removed, round(time.perf_counter() - started, 3))

    # ---- whether the target is one to copy into ----

    def _begin(self, state: State) -> tuple[bool, int]:
        """Whether the target is a store already; and, where it is not, the source's commit when this copy was begun: whoever makes a store
        of it has come as far."""
        identity = documents.read(self._source, layout.STORE, dict[str, Any], documents.RESTORE)
        with suppress(NotFound):
            if self._read(layout.STORE) != identity:
                raise WrongUsage(f"{self._name}: this is the store of another reconciliation; name an empty or a new folder or prefix")
            return True, 0
        entry = self._timeline.entry(1)
        mark = {"store": identity, "first": entry.writer if entry else "", "commit": state.commit}
        if self._target.empty():
            with suppress(AlreadyExists):
                documents.put(self._target, layout.COPYING, mark, **documents.INDENTED)
        try:
            held = self._read(layout.COPYING)
            same = held["store"] == identity and (not held["first"] or held["first"] == mark["first"])
        except NotFound:
            raise WrongUsage(
                f"{self._name}: holds something that is neither a store nor a copy of one; name an empty or a new folder or prefix"
            ) from None
        except (TypeError, KeyError) as error:
            raise Damaged(f"{self._name}: {layout.COPYING} is damaged ({error}); empty it and copy again") from None
        if not same:
            raise WrongUsage(f"{self._name}: holds an unfinished copy of another store; empty it, or name a new folder or prefix")
        return False, int(held["commit"])

    def _read(self, path: str) -> Any:
        raw = self._target.get(path)
        return documents.parsed(f"{self._name}: {path}", raw, dict[str, Any], "empty it and copy again, or bring it back")

    def _refuse_another(self, state: State) -> None:
        """The target's commits are the first ones of the source's."""
        newest = max(commits_of(self._target), default=0)
        if newest > state.commit:
            raise WrongUsage(
                f"{self._name}: is at commit {newest}, the source at {state.commit}: it has gone on by itself; name a new folder or prefix"
            )
        for number in {1, self._before.commit} if self._before.commit else ():
            path = layout.commit(number)
            if self._target.get(path) != self._source.get(path):
                raise self._bringing.another(path)

    # ---- what a commit rests on ----

    def _brought_what_it_rests_on(self) -> State:
        """Everything that the newest commit refers to is in the target then. Raises _SweptBeneath."""
        state = self._timeline.head()
        try:
            self._bring(state)
        except NotFound as error:
            if self._swept_since(state):
                raise _SweptBeneath from None
            raise Damaged(f"{error}; the source is not whole: run 'recon verify' on it, and restore what is gone") from None
        if self._swept_since(state):
            raise _SweptBeneath  # what was swept may be missing from what was listed, though nothing is from what was read
        return state

    def _bring(self, state: State) -> None:
        source, bringing = self._source, self._bringing
        # Reductions and reasons before manifests, so that the manifest of each is listed, too.
        reductions, quarantined = finished_reductions(source), list(source.sizes(layout.QUARANTINE))
        rules = list(source.sizes(layout.RULES))
        events = dict(source.sizes(layout.EVENTS))
        rests_on = needed(source, state)
        records = {path: size for path, size in source.sizes(layout.STATE) if path in rests_on}
        if gone := sorted(rests_on - records.keys()):
            raise NotFound(f"{gone[0]}: does not exist")
        listed = (events, records, *reductions.values())
        self._planned, self._done = sum(sum(sizes.values()) for sizes in listed), 0
        there = self._there(layout.RULES)
        bringing.all((Thing(path, size) for path, size in rules if path not in there), {})
        bring_manifests(bringing, events, self._before, self._there(layout.EVENTS))
        bringing.all((Thing(path, size) for path, size in quarantined), self._there(layout.QUARANTINE))
        bring_reductions(bringing, reductions, self._there(layout.STATELESS))
        bringing.all((Thing(path, size) for path, size in records.items()), self._there(layout.STATE))
        check_arrived(source, self._target, state, rests_on - needed(self._target, self._before))
        self._refuse_gaps(state, records)

    def _there(self, prefix: str) -> dict[str, int]:
        return dict(self._target.sizes(prefix))

    def _refuse_gaps(self, state: State, records: Mapping[str, int]) -> None:
        """What the commit names is there once more, before any entry is put."""
        there = {**self._there(layout.STATE), **self._there(layout.STATELESS), **self._there(layout.EVENTS)}
        short = [path for path, size in records.items() if there.get(path) != size]
        for name, held in state.windows.items():
            manifest = layout.manifest(parse_instant(name, "window"), held.revision)
            short += [path for path in (held.folder + reduced.FIGURES, manifest) if path not in there]
        if short and self._source.exists(short[0]):
            raise TryAgain(f"{self._name}: {short[0]} has come and is gone again; is another at work there? Run the same again")
        if short:
            raise NotFound(f"{short[0]}: does not exist")

    def _swept_since(self, state: State) -> bool:
        entries = (self._timeline.entry(number) for number in range(state.commit + 1, self._timeline.head().commit + 1))
        return any(entry is not None and entry.swept for entry in entries)

    # ---- afterwards ----

    def _follow_sweeps(self, followed: int, last: int) -> tuple[int, int]:
        """Removes what sweeps up to the commit ``last``, at which the target was whole before, took out of the source; what an index table
        of its own still leads to stays, and all that came after. Returns how many objects, and how far it came."""
        if followed >= last:
            return 0, followed
        timeline, removed = Timeline(self._target), 0
        served = builds.needed(self._target, timeline)
        for number in range(followed + 1, last + 1):
            entry = timeline.entry(number)
            swept = entry.swept if entry else ()
            if not served.isdisjoint(swept):
                return removed, number - 1
            for path in swept:
                for found in list(self._target.list(path)) if path.endswith("/") else [path] * self._target.exists(path):
                    self._target.delete(found)
                    removed += 1
        return removed, last

    def _arrived(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress("copy", "", min(1.0, self._done / max(self._planned, 1)))


def _refuse_itself(source: ObjectStore, target: ObjectStore, name: str) -> None:
    """Raises WrongUsage where one lies in the other."""
    if isinstance(source, LocalStore) and isinstance(target, LocalStore):
        here, there = source.root.resolve(), target.root.resolve()
        inside = here.is_relative_to(there) or there.is_relative_to(here)
    else:
        places = [getattr(store, "location", None) for store in (source, target)]
        inside = None not in places and _nested(*places)
    if inside:
        raise WrongUsage(f"{name}: is the store itself, or lies in it, or around it; name a folder or prefix beside it")


def _nested(here: Any, there: Any) -> bool:
    return bool(here.bucket == there.bucket and (here.below.startswith(there.below) or there.below.startswith(here.below)))
