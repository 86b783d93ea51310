"""Leases: which process works on what, since when, and the time of its last heartbeat.

Correctness never depends on a lease: a suspended holder may go on working after another took over, and the timeline refuses its commit.
A lease only avoids that two processes do the same work, and shows which work a dead process left.
Protocol: docs/decisions/005-leases-and-landings.md.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from recon.errors import TryAgain, WrongUsage
from recon.storage import documents, layout
from recon.storage.port import AlreadyExists, NotFound, ObjectStore

SKEW_S = 5.0
"""How far the clocks of two machines may differ: a holder counts as dead after its time to live and these seconds."""
BEATS_PER_TTL = 4
_LOOKS_MAX = 100

_OBJECT = re.compile(r"leases/(.+)/(\d{8})/(taken|released|beats/\d{8})\Z")

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class LeaseHolder:
    """The holder of the lease ``name``, which has not released it. ``beat``: the time of its last heartbeat.

    ``expired``: the last heartbeat is older than its time to live, so that another process may take over."""

    name: str
    number: int
    holder: str
    since: datetime
    beat: datetime
    ttl_s: float
    expired: bool

    def __str__(self) -> str:
        heartbeat = f"last heartbeat {self.beat:%Y-%m-%dT%H:%M:%SZ}"
        return f"{self.name}: held by {self.holder} since {self.since:%Y-%m-%dT%H:%M:%SZ}, {heartbeat}" + (
            f", silent for longer than its {self.ttl_s:g} s" if self.expired else ""
        )


class Lease:
    """A lease that this process has taken. Call ``beat`` within ``ttl_s``, or use ``keeping``; release it when the work has ended."""

    def __init__(self, store: ObjectStore, name: str, number: int, holder: str, ttl_s: float, clock: Clock) -> None:
        self.name, self.number, self.holder, self.ttl_s = name, number, holder, ttl_s
        self.lost = False
        """Whether another process took over, or the lease was released; updated by ``beat``."""
        self._store, self._clock, self._beats = store, clock, 0
        self._turn = threading.Lock()

    def beat(self) -> bool:
        """Puts a heartbeat. False if another process took over. Raises TryAgain where the store is unreachable."""
        with self._turn:
            if not self.lost:
                self.lost = _newest(_numbers(self._store, self.name)) != self.number
            if self.lost:
                return False
            self._beats += 1
            body = {"time": self._clock().isoformat()}
            documents.put(self._store, layout.lease_beat(self.name, self.number, self._beats), body)
            if self._beats > 1:
                self._store.delete(layout.lease_beat(self.name, self.number, self._beats - 1))
            return True

    def release(self) -> None:
        """Releases the lease; does nothing if it is lost."""
        with self._turn:
            if self.lost:
                return
            body = {"time": self._clock().isoformat()}
            with suppress(AlreadyExists):  # an earlier try succeeded though its reply was lost
                documents.put(self._store, layout.lease_released(self.name, self.number), body)
            self.lost = True

    @contextmanager
    def keeping(self) -> Iterator[Lease]:
        """Puts heartbeats in the background until the block ends, and then releases the lease."""
        done = threading.Event()

        def beats() -> None:
            while not done.wait(self.ttl_s / BEATS_PER_TTL):
                try:
                    if not self.beat():
                        return
                except TryAgain:
                    continue  # the store is unreachable, so no other process can take over

        thread = threading.Thread(target=beats, name=f"lease {self.name}", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join()
            with suppress(TryAgain):  # the store is unreachable; the lease expires
                self.release()


def acquire(store: ObjectStore, name: str, holder: str, ttl_s: float, clock: Clock = _now) -> Lease | None:
    """Takes the lease ``name`` if it is free or its holder has expired; else returns None.

    ``name`` becomes part of a path and may hold slashes. ``holder``: a run's id, shown by ``current``. Of several processes that try at
    once, at most one gets it."""
    if not name or not holder or not (math.isfinite(ttl_s) and ttl_s > 0):
        raise WrongUsage(f"lease {name!r}: it needs a name, a holder and a time to live above 0 s (holder {holder!r}, {ttl_s} s)")
    numbers, holder_now = _current(store, name, clock)
    if holder_now is not None and not holder_now.expired:
        return None
    number = _newest(numbers) + 1
    body = {"holder": holder, "ttl_s": ttl_s, "time": clock().isoformat()}
    try:
        documents.put(store, layout.lease_taken(name, number), body)
    except AlreadyExists:
        return None
    # A slow process may put a number that was used and removed before: then a higher number exists.
    numbers = _numbers(store, name)
    if _newest(numbers) != number:
        store.delete(layout.lease_taken(name, number))
        return None
    for older in sorted(set(numbers) - {number}):
        for what in sorted(numbers[older]):
            store.delete(layout.lease_object(name, older, what))
    return Lease(store, name, number, holder, ttl_s, clock)


def current(store: ObjectStore, name: str, clock: Clock = _now) -> LeaseHolder | None:
    """The holder of a lease, also an expired one; None where the lease is free."""
    return _current(store, name, clock)[1]


def holders(store: ObjectStore, under: str = "", clock: Clock = _now) -> dict[str, LeaseHolder]:
    """Name → holder of every lease at or below the folder ``under`` that is not free, expired ones included."""
    found = {name: current(store, name, clock) for name in _names(store, under)}
    return {name: holding for name, holding in found.items() if holding is not None}


def revoke(store: ObjectStore, holding: LeaseHolder) -> None:
    """Releases the lease of a holder that is known to be dead, so that no process waits for it to expire."""
    with suppress(AlreadyExists):  # it has been released meanwhile
        documents.put(store, layout.lease_released(holding.name, holding.number), {"time": _now().isoformat()})


def sweep(store: ObjectStore, before: datetime, under: str = "") -> int:
    """Removes the objects of leases that were released before ``before``. Returns how many leases. ``before`` is a day ago or earlier: a
    process that was suspended while taking a lease could otherwise take it beside another."""
    swept = 0
    for name in _names(store, under):
        numbers = _numbers(store, name)
        newest = _newest(numbers)
        if "released" in numbers.get(newest, ()) and _time(store, layout.lease_released(name, newest)) < before:
            for number in sorted(numbers):
                for what in sorted(numbers[number]):
                    store.delete(layout.lease_object(name, number, what))
            swept += 1
    return swept


def _current(store: ObjectStore, name: str, clock: Clock) -> tuple[dict[int, set[str]], LeaseHolder | None]:
    """The objects of a lease, as ``_numbers`` returns them, and its holder."""
    for _ in range(_LOOKS_MAX):
        numbers = _numbers(store, name)
        number = _newest(numbers)
        if number == 0 or "released" in numbers[number]:
            return numbers, None
        try:
            taken = _read(store, layout.lease_taken(name, number))
            newest = max((what for what in numbers[number] if what.startswith("beats/")), default="taken")
            beat = _time(store, layout.lease_object(name, number, newest))
        except NotFound:
            continue  # a heartbeat or another holder has just replaced it
        ttl_s, since = float(taken["ttl_s"]), datetime.fromisoformat(taken["time"])
        expired = abs((clock() - beat).total_seconds()) > ttl_s + SKEW_S
        return numbers, LeaseHolder(name, number, str(taken["holder"]), since, beat, ttl_s, expired)
    raise TryAgain(f"{layout.lease(name)}: its listed objects cannot be read; check the store, then run the same again")


def _numbers(store: ObjectStore, name: str) -> dict[int, set[str]]:
    """Number → its objects. A number without ``taken`` was never given out: a heartbeat came too late."""
    numbers: dict[int, set[str]] = {}
    for path in store.list(layout.lease(name)):
        found = _OBJECT.match(path)
        if found is not None and found[1] == name:
            numbers.setdefault(int(found[2]), set()).add(found[3])
    return numbers


def _newest(numbers: dict[int, set[str]]) -> int:
    """The highest number that was given out, 0 if none was."""
    return max((number for number, objects in numbers.items() if "taken" in objects), default=0)


def _names(store: ObjectStore, under: str) -> list[str]:
    paths = store.list(layout.lease(under) if under else layout.LEASES)
    return sorted({found[1] for path in paths if (found := _OBJECT.match(path))})


def _read(store: ObjectStore, path: str) -> dict[str, Any]:
    return documents.read(store, path, dict[str, Any], "delete it, since nothing but this lease rests on it")


def _time(store: ObjectStore, path: str) -> datetime:
    return datetime.fromisoformat(_read(store, path)["time"])
