"""Copies objects from one store to another: in parallel, in bounded memory, each compared after its arrival."""

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
from recon.storage import ranges
from recon.storage.port import AlreadyExists, ObjectStore
from recon.storage.scratch import object_digest

UNDER_WAY_BYTES = 256 << 20
_LONG_COST_BYTES = ranges.READ_AHEAD * ranges.PIECE_BYTES + (96 << 20)
"""Memory for one long object: its pieces, and the parts that an S3 store buffers while it sends them (more beyond 16 GB)."""

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Item:
    """An object to copy. ``digest``: the SHA-256 that another object records for it, else "".

    ``settled``: an object of the target with this path and length is certainly the same; else the bytes are compared."""

    path: str
    bytes: int
    digest: str = ""
    settled: bool = True


class Transfer:
    """Copies from ``source`` to ``target``, which errors call ``name``. ``progress`` gets the bytes of each object. Thread-safe."""

    def __init__(self, source: ObjectStore, target: ObjectStore, name: str, progress: Callable[[int], None]) -> None:
        self.source, self.target, self._name = source, target, name
        self.objects = self.bytes = self.already = 0
        self._progress, self._budget, self._turn = progress, _Budget(UNDER_WAY_BYTES), threading.Lock()
        self._at_once = max(source.cost.requests_at_once, target.cost.requests_at_once)

    def each(self, work: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        """The results of ``work`` on each item, in order; many items in parallel. Raises the first error once no work is running."""
        source = iter(items)
        with ThreadPoolExecutor(self._at_once) as pool:
            while block := list(islice(source, self._at_once * 8)):
                yield from pool.map(work, block)

    def all(self, items: Iterable[Item], there: Mapping[str, int]) -> None:
        """Copies each item that the target does not have. ``there``: path → bytes of the target's objects."""
        for _ in self.each(lambda item: self.one(item, there.get(item.path)), items):
            pass

    def one(self, item: Item, there: int | None) -> None:
        """Copies or compares one item. Raises NotFound if the source has lost it, WrongUsage if the target has another object of its name,
        Damaged if it is not what was written, ConnectionLost if it was changed on the way."""
        with self._budget.taken(2 * item.bytes if item.bytes <= ranges.PIECE_BYTES else _LONG_COST_BYTES):
            if there is not None:
                self._compare(item, there)
            else:
                self._copy(item)

    def put(self, path: str, body: bytes) -> None:
        """Puts bytes that are already read into the target."""
        try:
            self.target.put_new(path, [body])
        except AlreadyExists:
            if self.target.get(path) != body:
                raise self.differs(path) from None
            self._count(len(body), copied=False)
            return
        if self.target.get(path) != body:
            raise self._changed_on_the_way(path)
        self._count(len(body))

    def differs(self, path: str) -> WrongUsage:
        return WrongUsage(
            f"{self._name}: {path} is not the source's: this is another store, or a copy that has gone on by itself; "
            "name a new folder or prefix"
        )

    def skipped(self, size: int) -> None:
        """Counts an object that needs no comparison."""
        self._count(size, copied=False)

    def _compare(self, item: Item, there: int) -> None:
        if there != item.bytes:
            raise self.differs(item.path)
        if not item.settled and self.target.get(item.path) != self.source.get(item.path):
            raise self.differs(item.path)
        self._count(item.bytes, copied=False)

    def _copy(self, item: Item) -> None:
        if item.bytes <= ranges.PIECE_BYTES:
            body = self.source.get(item.path)
            if item.digest and hashlib.sha256(body).hexdigest() != item.digest:
                raise _not_what_was_written(item.path)
            self.put(item.path, body)
            return
        sent = hashlib.sha256()

        def chunks() -> Iterator[bytes]:
            for piece in ranges.pieces(self.source, item.path, item.bytes):
                sent.update(piece)
                yield piece
            if item.digest and sent.hexdigest() != item.digest:
                raise _not_what_was_written(item.path)  # before the target creates the object

        try:
            self.target.put_new(item.path, chunks())
        except AlreadyExists:
            self._compare(item, self.target.size(item.path))
            return
        if object_digest(self.target, item.path) != sent.hexdigest():
            raise self._changed_on_the_way(item.path)
        self._count(item.bytes)

    def _changed_on_the_way(self, path: str) -> ConnectionLost:
        """Removes the object that this call has put: nothing refers to it yet."""
        self.target.delete(path)
        return ConnectionLost(f"{path}: it arrived otherwise than it was sent and was removed again; run the same again")

    def _count(self, size: int, copied: bool = True) -> None:
        with self._turn:
            if copied:
                self.objects, self.bytes = self.objects + 1, self.bytes + size
            else:
                self.already += 1
            self._progress(size)


def _not_what_was_written(path: str) -> Damaged:
    return Damaged(f"{path}: its bytes are not what was written, or were changed on the way; run 'recon verify' on the source, then again")


class _Budget:
    """A limit of bytes in memory. An object that is larger than the limit is copied alone."""

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
