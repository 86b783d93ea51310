"""Leases: who works on what, since when, and when that was last heard of.

Correctness never rests on a lease: a holder that was suspended may go on working after another took over, and the timeline fences it off.
A lease only keeps two from doing the same work, and tells which work was given up by a process that died.
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
"""What the clocks of two machines may differ beyond the time to live, before one takes the other for dead."""
BEATS_PER_TTL = 4
_LOOKS_MAX = 100

_OBJECT = re.compile(r"leases/(.+)/(\d{8})/(taken|released|beats/\d{8})\Z")

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class LeaseHolder:
    """Who holds, or held without giving it back, the lease ``name``. ``beat``: when the holder was last heard of.

    ``expired``: it has been silent for longer than its time to live, so that the next one may take over."""

    name: str
    number: int
    holder: str
    since: datetime
    beat: datetime
    ttl_s: float
    expired: bool

    def __str__(self) -> str:
        heard = f"last heard of {self.beat:%Y-%m-%dT%H:%M:%SZ}"
        return f"{self.name}: held by {self.holder} since {self.since:%Y-%m-%dT%H:%M:%SZ}, {heard}" + (
            f", silent for longer than its {self.ttl_s:g} s" if self.expired else ""
        )


class Lease:
    """A lease that was taken. Beat within ``ttl_s``, or let ``keeping`` do it; release it when the work is done or has failed."""

    def __init__(self, store: ObjectStore, name: str, number: int, holder: str, ttl_s: float, clock: Clock) -> None:
        self.name, self.number, self.holder, self.ttl_s = name, number, holder, ttl_s
        self.lost = False
        """Another took over, or the lease was given back. Known from the next beat on, not at once."""
        self._store, self._clock, self._beats = store, clock, 0
        self._turn = threading.Lock()

    def beat(self) -> bool:
        """Says that the holder lives. False if another took over meanwhile. Raises TryAgain where the store is away."""
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
        """Gives the lease back; nothing happens to one that is lost."""
        with self._turn:
            if self.lost:
                return
            body = {"time": self._clock().isoformat()}
            with suppress(AlreadyExists):  # an earlier try had succeeded though its reply was lost
                documents.put(self._store, layout.lease_released(self.name, self.number), body)
            self.lost = True

    @contextmanager
    def keeping(self) -> Iterator[Lease]:
        """Beats in the background until the block ends, however it does, and then gives the lease back."""
        done = threading.Event()

        def beats() -> None:
            while not done.wait(self.ttl_s / BEATS_PER_TTL):
                try:
                    if not self.beat():
                        return
                except TryAgain:
                    continue  # the store is away: as long as it is, nobody else can take over either

        thread = threading.Thread(target=beats, name=f"lease {self.name}", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join()
            with suppress(TryAgain):  # the store is away; the lease runs out by itself
                self.release()


def acquire(store: ObjectStore, name: str, holder: str, ttl_s: float, clock: Clock = _now) -> Lease | None:
    """Takes the lease ``name`` if nobody holds it, or its holder was silent for longer than its time to live; else None.

    ``name`` becomes part of a path and may hold slashes. ``holder`` is told to whoever asks (a run's id). Of several who try at once
    one gets it."""
    if not name or not holder or not (math.isfinite(ttl_s) and ttl_s > 0):
        raise WrongUsage(f"lease {name!r}: it needs a name, a holder and a time to live above 0 s (holder {holder!r}, {ttl_s} s)")
    numbers, standing = _standing(store, name, clock)
    if standing is not None and not standing.expired:
        return None
    number = _newest(numbers) + 1
    body = {"holder": holder, "ttl_s": ttl_s, "time": clock().isoformat()}
    try:
        documents.put(store, layout.lease_taken(name, number), body)
    except AlreadyExists:
        return None
    # One that was slow may have put a number that was given out and cleared away before: then there is a higher one.
    numbers = _numbers(store, name)
    if _newest(numbers) != number:
        store.delete(layout.lease_taken(name, number))
        return None
    for older in sorted(set(numbers) - {number}):
        for what in sorted(numbers[older]):
            store.delete(layout.lease_object(name, older, what))
    return Lease(store, name, number, holder, ttl_s, clock)


def current(store: ObjectStore, name: str, clock: Clock = _now) -> LeaseHolder | None:
    """Who holds the lease, also where its holder fell silent (``expired``); None where it is free."""
    return _standing(store, name, clock)[1]


def holders(store: ObjectStore, under: str = "", clock: Clock = _now) -> dict[str, LeaseHolder]:
    """Name → holding, of every lease at or below the folder ``under`` that is not free, expired ones too."""
    found = {name: current(store, name, clock) for name in _names(store, under)}
    return {name: holding for name, holding in found.items() if holding is not None}


def revoke(store: ObjectStore, holding: LeaseHolder) -> None:
    """Gives a lease back in the name of a holder that is known to be gone, so that nobody waits for it to fall silent."""
    with suppress(AlreadyExists):  # it was given back meanwhile
        documents.put(store, layout.lease_released(holding.name, holding.number), {"time": _now().isoformat()})


def sweep(store: ObjectStore, before: datetime, under: str = "") -> int:
    """Removes what is left of leases that were given back before ``before``. Returns how many. Wait a day at least: one that was
    suspended in taking a lease since then could take it beside another."""
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


def _standing(store: ObjectStore, name: str, clock: Clock) -> tuple[dict[int, set[str]], LeaseHolder | None]:
    """What lies in the store under a lease's name, and who holds it."""
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
            continue  # it beat, or was taken over, just now
        ttl_s, since = float(taken["ttl_s"]), datetime.fromisoformat(taken["time"])
        expired = abs((clock() - beat).total_seconds()) > ttl_s + SKEW_S
        return numbers, LeaseHolder(name, number, str(taken["holder"]), since, beat, ttl_s, expired)
    raise TryAgain(f"{layout.lease(name)}: what is listed there cannot be read; check that the store answers rightly, then run it again")


def _numbers(store: ObjectStore, name: str) -> dict[int, set[str]]:
    """Number given out → its objects. A number that nobody was given (a beat that came too late) has no ``taken``."""
    numbers: dict[int, set[str]] = {}
    for path in store.list(layout.lease(name)):
        found = _OBJECT.match(path)
        if found is not None and found[1] == name:
            numbers.setdefault(int(found[2]), set()).add(found[3])
    return numbers


def _newest(numbers: dict[int, set[str]]) -> int:
    """The highest number that was given out, 0 if there is none."""
    return max((number for number, objects in numbers.items() if "taken" in objects), default=0)


def _names(store: ObjectStore, under: str) -> list[str]:
    paths = store.list(layout.lease(under) if under else layout.LEASES)
    return sorted({found[1] for path in paths if (found := _OBJECT.match(path))})


def _read(store: ObjectStore, path: str) -> dict[str, Any]:
    return documents.read(store, path, dict[str, Any], "delete it, since nothing but this lease rests on it")


def _time(store: ObjectStore, path: str) -> datetime:
    return datetime.fromisoformat(_read(store, path)["time"])
