"""Copies a store as of one commit while writers are active, and brings a copy up to date.

Objects are immutable: everything else is copied first, the timeline last. Protocol: docs/decisions/017-copying.md.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recon.errors import Damaged, TryAgain, WrongUsage
from recon.model.windows import parse_instant
from recon.operations.copy.check import check_records
from recon.operations.copy.timeline import commits_of, copy_followers, copy_timeline
from recon.operations.copy.transfer import Item, Transfer
from recon.operations.copy.windows import copy_manifests, copy_reductions, finished_reductions
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
"""Retries if the source is swept during the copy."""
_COPIED = "copied"
"""The frontier of a copy: its newest complete commit, and the commit up to which it has followed the source's sweeps."""


@dataclass(frozen=True)
class Copied:
    """What one call did. ``commit``: the source's commit that the target now has. ``already``: objects that the target had. ``removed``:
    objects that the source had swept and this call has removed from the target."""

    commit: int
    objects: int
    bytes: int
    already: int
    removed: int
    seconds: float


def copy(source: ObjectStore, target: ObjectStore, name: str, progress: Progress | None = None) -> Copied:
    """Copies ``source`` at its newest commit into ``target``, or brings ``target`` up to that commit. ``name``: the target's, for errors.

    Raises WrongUsage if the target has other data or commits of its own; Damaged if the source is damaged; TryAgain if the source is swept
    faster than it is copied, or an object was changed on the way. May be called again after any error, and after a kill.
    """
    _refuse_itself(source, target, name)
    with store_present(source):
        return _Copying(source, target, name, progress).copy()


class _SweptBeneath(Exception):
    """The source was swept during the copy."""


class _Copying:
    """One call. ``_whole``: whether the target is already a store, which may have readers."""

    def __init__(self, source: ObjectStore, target: ObjectStore, name: str, progress: Progress | None) -> None:
        self._source, self._target, self._name, self._progress = source, target, name, progress
        self._timeline = Timeline(source)
        self._transfer = Transfer(source, target, name, self._progressed)
        self._planned = self._done = 0

    def copy(self) -> Copied:
        started, first = time.perf_counter(), self._timeline.head()
        self._whole, self._begun = self._begin(first)
        self._before = Timeline(self._target).head() if self._whole else State()
        self._refuse_another(first)
        for _ in range(ROUNDS_MAX):
            try:
                state = self._copied_data()
                break
            except _SweptBeneath:
                continue
        else:
            raise TryAgain(
                f"{self._name}: the source was swept {ROUNDS_MAX} times while it was copied; run the same again, what came stays there"
            )
        last, value = frontiers.read(self._target, _COPIED)
        changed = copy_timeline(self._transfer, state, last, self._begun)
        copy_followers(self._transfer, state, changed)
        removed, followed = self._follow_sweeps(int((value or {}).get("followed", 0)), last)
        frontiers.advance(self._target, _COPIED, state.commit, {"followed": followed if last else self._begun})
        if not self._whole:
            with suppress(AlreadyExists):  # another copy of the same store was as far
                self._target.put_new(layout.STORE, [self._source.get(layout.STORE)])
        self._target.delete(layout.COPYING)
        done = self._transfer
        return Copied(state.commit, done.objects, done.bytes, done.already, removed, round(time.perf_counter() - started, 3))

    # ---- may the target be copied into? ----

    def _begin(self, state: State) -> tuple[bool, int]:
        """Whether the target is already a store; if it is not, also the source's commit when this copy was begun."""
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
            begun = self._read(layout.COPYING)
            same = begun["store"] == identity and (not begun["first"] or begun["first"] == mark["first"])
        except NotFound:
            raise WrongUsage(
                f"{self._name}: holds something that is neither a store nor a copy of one; name an empty or a new folder or prefix"
            ) from None
        except (TypeError, KeyError) as error:
            raise Damaged(f"{self._name}: {layout.COPYING} is damaged ({error}); empty it and copy again") from None
        if not same:
            raise WrongUsage(f"{self._name}: holds an unfinished copy of another store; empty it, or name a new folder or prefix")
        return False, int(begun["commit"])

    def _read(self, path: str) -> Any:
        raw = self._target.get(path)
        return documents.parsed(f"{self._name}: {path}", raw, dict[str, Any], "empty it and copy again, or bring it back")

    def _refuse_another(self, state: State) -> None:
        """Raises WrongUsage unless the target's commits are the first commits of the source."""
        newest = max(commits_of(self._target), default=0)
        if newest > state.commit:
            raise WrongUsage(
                f"{self._name}: is at commit {newest}, the source at {state.commit}: it has gone on by itself; name a new folder or prefix"
            )
        for number in {1, self._before.commit} if self._before.commit else ():
            path = layout.commit(number)
            if self._target.get(path) != self._source.get(path):
                raise self._transfer.differs(path)

    # ---- the data of a commit ----

    def _copied_data(self) -> State:
        """Copies everything that the newest commit refers to. Raises _SweptBeneath."""
        state = self._timeline.head()
        try:
            self._copy_data(state)
        except NotFound as error:
            if self._swept_since(state):
                raise _SweptBeneath from None
            raise Damaged(f"{error}; the source is not whole: run 'recon verify' on it, and restore what is gone") from None
        if self._swept_since(state):
            raise _SweptBeneath  # the listings may lack swept objects
        return state

    def _copy_data(self, state: State) -> None:
        source, transfer = self._source, self._transfer
        # Reductions and quarantine are listed before manifests, so that the manifest of each is listed, too.
        reductions, quarantined = finished_reductions(source), list(source.sizes(layout.QUARANTINE))
        rules = list(source.sizes(layout.RULES))
        events, received = dict(source.sizes(layout.EVENTS)), {**dict(source.sizes(layout.RECEIVED)), **dict(source.sizes(layout.LOADS))}
        referenced = needed(source, state)
        records = {path: size for path, size in source.sizes(layout.STATE) if path in referenced}
        if gone := sorted(referenced - records.keys()):
            raise NotFound(f"{gone[0]}: does not exist")
        listed = (events, received, records, *reductions.values())
        self._planned, self._done = sum(sum(sizes.values()) for sizes in listed), 0
        there = self._there(layout.RULES)
        transfer.all((Item(path, size) for path, size in rules if path not in there), {})
        there = {**self._there(layout.RECEIVED), **self._there(layout.LOADS)}
        transfer.all((Item(path, size) for path, size in received.items()), there)
        copy_manifests(transfer, events, self._before, self._there(layout.EVENTS))
        transfer.all((Item(path, size) for path, size in quarantined), self._there(layout.QUARANTINE))
        copy_reductions(transfer, reductions, self._there(layout.STATELESS))
        transfer.all((Item(path, size) for path, size in records.items()), self._there(layout.STATE))
        check_records(source, self._target, state, referenced - needed(self._target, self._before))
        self._refuse_gaps(state, records)

    def _there(self, prefix: str) -> dict[str, int]:
        return dict(self._target.sizes(prefix))

    def _refuse_gaps(self, state: State, records: Mapping[str, int]) -> None:
        """Checks that the target has all objects of the commit, before any entry is put."""
        there = {**self._there(layout.STATE), **self._there(layout.STATELESS), **self._there(layout.EVENTS)}
        short = [path for path, size in records.items() if there.get(path) != size]
        for name, window in state.windows.items():
            manifest = layout.manifest(parse_instant(name, "window"), window.revision)
            short += [path for path in (window.folder + reduced.FIGURES, manifest) if path not in there]
        if short and self._source.exists(short[0]):
            raise TryAgain(f"{self._name}: {short[0]} was copied and is gone again; does another process work there? Run the same again")
        if short:
            raise NotFound(f"{short[0]}: does not exist")

    def _swept_since(self, state: State) -> bool:
        entries = (self._timeline.entry(number) for number in range(state.commit + 1, self._timeline.head().commit + 1))
        return any(entry is not None and entry.swept for entry in entries)

    # ---- afterwards ----

    def _follow_sweeps(self, followed: int, last: int) -> tuple[int, int]:
        """Removes objects that sweeps up to the commit ``last``, the target's newest before this call, removed from the source. Stops at a
        sweep of objects that the target's own index table needs. Returns the number of objects, and the commit that it has reached."""
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

    def _progressed(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress("copy", "", min(1.0, self._done / max(self._planned, 1)))


def _refuse_itself(source: ObjectStore, target: ObjectStore, name: str) -> None:
    """Raises WrongUsage if one store is inside the other."""
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
