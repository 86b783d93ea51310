"""Bringing objects from one store to another: side by side, in bounded memory, each compared once it has arrived."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from recon.errors import ConnectionLost, Damaged, WrongUsage
from recon.storage.port import AlreadyExists, ObjectStore
from recon.storage.ranges import PIECE_BYTES, READ_AHEAD, pieces
from recon.storage.scratch import object_digest

UNDER_WAY_BYTES = 256 << 20
_LONG_COST_BYTES = READ_AHEAD * PIECE_BYTES + (96 << 20)
"""What a long object takes at a time: its pieces, and the parts that a store in S3 holds while it sends them (more beyond 16 GB)."""

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Thing:
    """An object to bring. ``digest``: the SHA-256 that its bytes must have, as another object says; "" where none does.

    ``settled``: what lies in the target under this name can be no other object than this, if it has this length."""

    path: str
    bytes: int
    digest: str = ""
    settled: bool = True


class Bringing:
    """From ``source`` to ``target``, which errors call ``name``. ``told`` hears of bytes that are there. For many threads at once."""

    def __init__(self, source: ObjectStore, target: ObjectStore, name: str, told: Callable[[int], None]) -> None:
        self.source, self.target, self._name = source, target, name
        self.objects = self.bytes = self.already = 0
        self._told, self._budget, self._turn = told, _Budget(UNDER_WAY_BYTES), threading.Lock()
        self._at_once = max(source.cost.requests_at_once, target.cost.requests_at_once)

    def each(self, work: Callable[[T], U], asked: Iterable[T]) -> Iterator[U]:
        """``work`` on each, many at once, in order. The first error is raised once none is at work."""
        source = iter(asked)
        with ThreadPoolExecutor(self._at_once) as pool:
            while block := list(islice(source, self._at_once * 8)):
                yield from pool.map(work, block)

    def all(self, things: Iterable[Thing], there: Mapping[str, int]) -> None:
        """Brings each that is not there. ``there``: path → bytes of what lies in the target."""
        for _ in self.each(lambda thing: self.one(thing, there.get(thing.path)), things):
            pass

    def one(self, thing: Thing, there: int | None) -> None:
        """Raises NotFound where it is gone from the source, WrongUsage where another object has its name, Damaged where it is not what was
        written, ConnectionLost where it arrived otherwise."""
        with self._budget.taken(2 * thing.bytes if thing.bytes <= PIECE_BYTES else _LONG_COST_BYTES):
            if there is not None:
                self._compare(thing, there)
            else:
                self._bring(thing)

    def put(self, path: str, body: bytes) -> None:
        """Bytes that were read before, as an object of the target."""
        try:
            self.target.put_new(path, [body])
        except AlreadyExists:
            if self.target.get(path) != body:
                raise self.another(path) from None
            self._count(len(body), brought=False)
            return
        if self.target.get(path) != body:
            raise self._otherwise(path)
        self._count(len(body))

    def another(self, path: str) -> WrongUsage:
        return WrongUsage(
            f"{self._name}: {path} is not the source's: this is another store, or a copy that has gone on by itself; "
            "name a new folder or prefix"
        )

    def passed(self, size: int) -> None:
        """An object that need not be looked at."""
        self._count(size, brought=False)

    def _compare(self, thing: Thing, there: int) -> None:
        if there != thing.bytes:
            raise self.another(thing.path)
        if not thing.settled and self.target.get(thing.path) != self.source.get(thing.path):
            raise self.another(thing.path)
        self._count(thing.bytes, brought=False)

    def _bring(self, thing: Thing) -> None:
        if thing.bytes <= PIECE_BYTES:
            body = self.source.get(thing.path)
            if thing.digest and hashlib.sha256(body).hexdigest() != thing.digest:
                raise _not_what_was_written(thing.path)
            self.put(thing.path, body)
            return
        sent = hashlib.sha256()

        def chunks() -> Iterator[bytes]:
            for piece in pieces(self.source, thing.path, thing.bytes):
                sent.update(piece)
                yield piece
            if thing.digest and sent.hexdigest() != thing.digest:
                raise _not_what_was_written(thing.path)  # before the target has made an object of it

        try:
            self.target.put_new(thing.path, chunks())
        except AlreadyExists:
            self._compare(thing, self.target.size(thing.path))
            return
        if object_digest(self.target, thing.path) != sent.hexdigest():
            raise self._otherwise(thing.path)
        self._count(thing.bytes)

    def _otherwise(self, path: str) -> ConnectionLost:
        """What this very call has put is removed: nothing refers to it yet."""
        self.target.delete(path)
        return ConnectionLost(f"{path}: it arrived otherwise than it was sent and was removed again; run the same again")

    def _count(self, size: int, brought: bool = True) -> None:
        with self._turn:
            if brought:
                self.objects, self.bytes = self.objects + 1, self.bytes + size
            else:
                self.already += 1
            self._told(size)


def _not_what_was_written(path: str) -> Damaged:
    return Damaged(f"{path}: its bytes are not what was written, or were changed on the way; run 'recon verify' on the source, then again")


class _Budget:
    """Bytes that may be under way at a time. What is larger than all of it goes alone."""

    def __init__(self, bytes_max: int) -> None:
        self._max, self._used, self._changed = bytes_max, 0, threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + size <= self._max)
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()
