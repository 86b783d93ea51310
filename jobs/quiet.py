"""One store for all sensors of a reconciliation, which remembers its answers for as long as nothing happens there.

Most rounds of ticks find nothing to do, and each would ask S3 for some fifty objects to see that. So once a round the sensors look for
signs: is ``store.json`` there as before, has the timeline a new entry, has a window been noted as landed, has a lease changed, has a run of
Dagster begun or ended? While all signs are as they were, every other answer of the store is too, and is given from memory. What depends on
the time alone, such as a deadline or an overdue heartbeat, is computed from these answers at each tick.

A change without such a sign, such as that of a person who removes objects by hand, is seen after ``KEEP_S``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from jobs.in_flight import UNFINISHED
from recon.intake import landing_log
from recon.state.timeline import Timeline
from recon.storage import layout
from recon.storage.port import NotFound, ObjectStore, ReadCost
from recon_assets.stage_lease import lease_of

ROUND_S = 5.0
"""Within these seconds after the signs were read, ticks belong to one round."""
KEEP_S = 300.0
"""How long answers are remembered at most, and how long a store stays open."""
_ANSWERS_MAX, _BYTES_MAX = 5_000, 1_000_000
_LEASES = f"{layout.LEASES}{lease_of('')}"

Signs = tuple[Any, ...]


class Remembering:
    """A store that remembers what it answered until ``forget``. Objects above a megabyte and ranges of objects are read each time. What
    this process writes itself makes it forget."""

    def __init__(self, store: ObjectStore) -> None:
        self.now = store
        self._answers: dict[tuple[str, str], Any] = {}
        self.remembers = False

    def forget(self, store: ObjectStore, remember: bool) -> None:
        """From now on answers are those of ``store``; they are remembered if ``remember``."""
        self.now, self._answers, self.remembers = store, {}, remember

    @property
    def cost(self) -> ReadCost:
        return self.now.cost

    def get(self, path: str) -> bytes:
        return self._answer("get", path, lambda: self.now.get(path))  # type: ignore[no-any-return]

    def size(self, path: str) -> int:
        return self._answer("size", path, lambda: self.now.size(path))  # type: ignore[no-any-return]

    def modified(self, path: str) -> datetime:
        return self._answer("modified", path, lambda: self.now.modified(path))  # type: ignore[no-any-return]

    def exists(self, path: str) -> bool:
        return self._answer("exists", path, lambda: self.now.exists(path))  # type: ignore[no-any-return]

    def list(self, prefix: str) -> Iterator[str]:
        return iter(self._answer("list", prefix, lambda: tuple(self.now.list(prefix))))

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        return iter(self._answer("sizes", prefix, lambda: tuple(self.now.sizes(prefix))))

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        return self.now.get_range(path, offset, length)

    def version(self, path: str) -> str:
        return self.now.version(path)

    def empty(self) -> bool:
        return self.now.empty()

    def copy_out(self, path: str, local: Path) -> int:
        return self.now.copy_out(path, local)

    def local(self, path: str) -> Path | None:
        return self.now.local(path)

    def put_new(self, path: str, chunks: Any) -> int:
        with self._changing():
            return self.now.put_new(path, chunks)

    def copy_in(self, path: str, local: Path) -> int:
        with self._changing():
            return self.now.copy_in(path, local)

    def delete(self, path: str) -> None:
        with self._changing():
            self.now.delete(path)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Forgets after a change, also what another sensor asked while it was made."""
        try:
            yield
        finally:
            self._answers = {}

    def __getattr__(self, name: str) -> Any:
        """What stores have beyond the port, such as their location and their meter."""
        return getattr(self.now, name)

    def _answer(self, method: str, path: str, ask: Callable[[], Any]) -> Any:
        if not self.remembers:
            return ask()
        answers = self._answers
        if (method, path) not in answers:
            try:
                found = ask()
            except NotFound as missing:
                found = missing
            if len(answers) >= _ANSWERS_MAX or (isinstance(found, bytes | tuple) and len(found) > _BYTES_MAX):
                if isinstance(found, NotFound):
                    raise found
                return found
            answers[method, path] = found
        found = answers[method, path]
        if isinstance(found, NotFound):
            raise NotFound(*found.args)
        return found


class Watch:
    """The store and the timeline that the sensors of a reconciliation share. ``name``: of the reconciliation."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock = name, clock
        self._lock = threading.Lock()
        self._store: Remembering | None = None
        self._timeline: Timeline | None = None
        self._signs: Signs | None = None
        self._read_at = self._opened_at = 0.0

    def at(self, open_store: Callable[[], ObjectStore], instance: dg.DagsterInstance) -> tuple[ObjectStore, Timeline]:
        """The store and its timeline for a tick. Raises like ``open_store``."""
        with self._lock:
            now = self._clock()
            if self._store is None or self._timeline is None:
                self._begin(open_store())
            elif now - self._read_at >= ROUND_S:
                self._look(open_store, instance, now)
            elif not self._store.remembers:
                self._reopen(open_store(), remember=False)
            assert self._store is not None
            assert self._timeline is not None
            return self._store, self._timeline

    def _begin(self, store: ObjectStore) -> None:
        self._store = Remembering(store)
        self._reopen(store, remember=False)

    def _look(self, open_store: Callable[[], ObjectStore], instance: dg.DagsterInstance, now: float) -> None:
        assert self._store is not None
        signs = self._signs_of(self._store.now, instance)
        self._read_at = now
        if signs is None or signs != self._signs or now - self._opened_at >= KEEP_S:
            self._signs, self._opened_at = signs, now
            # Where the store cannot be opened, every sensor says so, instead of answering from memory.
            self._store.forget(self._store.now, remember=False)
            self._reopen(open_store(), remember=signs is not None)

    def _reopen(self, store: ObjectStore, remember: bool) -> None:
        """Forgets what the store answered. Keeps the timeline, since reading 100,000 windows takes longer than a tick, unless its newest
        commit is not in the store, as in another store or an earlier copy of it."""
        assert self._store is not None
        self._store.forget(store, remember)
        seen = None if self._timeline is None else self._timeline.seen
        if seen is not None and seen.commit:
            entry = Timeline(self._store).entry(seen.commit)
            seen = None if entry is None or entry.time != seen.time else seen
        if seen is None:
            self._timeline = Timeline(self._store)

    def _signs_of(self, store: ObjectStore, instance: dg.DagsterInstance) -> Signs | None:
        """The signs; None while something happens: a run is not finished, or a window was noted a short time ago, whose manifest may come
        later than its note."""
        mine = {"recon/reconciliation": self._name}
        if instance.get_runs_count(dg.RunsFilter(tags=mine, statuses=UNFINISHED)):
            return None
        newest = [(run.run_id, run.status) for run in instance.get_runs(dg.RunsFilter(tags=mine), limit=1)]
        noted, _ = landing_log.since(store, datetime.now(UTC).isoformat())
        if noted:
            return None
        assert self._timeline is not None
        following = layout.commit(self._timeline.seen.commit + 1)
        try:
            return (store.get(layout.STORE), following, store.exists(following), *store.list(_LEASES), *newest)
        except NotFound:  # opening the store says why
            return None
