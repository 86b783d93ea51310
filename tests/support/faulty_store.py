"""Stores that kill, fail, wait and count: a real store behind a wrapper that is told of every call."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from recon.errors import TryAgain
from recon.storage.port import ObjectStore, ReadCost

CALLS = ("put_new", "get", "get_range", "size", "exists", "list", "delete", "copy_in", "copy_out")


@dataclass(frozen=True)
class Call:
    """One call of a store. ``number``: how many calls of this kind there were with it. ``bytes``: read or written."""

    kind: str
    path: str
    number: int
    bytes: int = 0


Hook = Callable[[Call], None]


def _nothing(call: Call) -> None:
    pass


class WatchedStore:
    """Passes each call on to ``inner``. ``before`` and ``after`` are told of it and may raise, wait or kill.

    ``mapped`` says of which paths ``local`` gives the file; reading the others has to go through the store.
    """

    def __init__(
        self,
        inner: ObjectStore,
        before: Hook = _nothing,
        after: Hook = _nothing,
        mapped: Callable[[str], bool] = lambda path: True,
    ) -> None:
        self.inner, self.before, self.after, self.mapped = inner, before, after, mapped
        self.calls: list[Call] = []
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def _pass(self, kind: str, path: str, work: Callable[[], Any]) -> Any:
        with self._lock:
            number = self._counts[kind] = self._counts.get(kind, 0) + 1
        self.before(Call(kind, path, number))
        result = work()
        size = len(result) if isinstance(result, bytes) else result if kind in ("put_new", "copy_in", "copy_out") else 0
        done = Call(kind, path, number, size)
        with self._lock:
            self.calls.append(done)
        self.after(done)
        return result

    def put_new(self, path: str, chunks: Iterable[bytes | memoryview]) -> int:
        return self._pass("put_new", path, lambda: self.inner.put_new(path, chunks))

    def get(self, path: str) -> bytes:
        return self._pass("get", path, lambda: self.inner.get(path))

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        return self._pass("get_range", path, lambda: self.inner.get_range(path, offset, length))

    def size(self, path: str) -> int:
        return self._pass("size", path, lambda: self.inner.size(path))

    def version(self, path: str) -> str:
        return self.inner.version(path)

    def modified(self, path: str) -> datetime:
        return self.inner.modified(path)

    def exists(self, path: str) -> bool:
        return self._pass("exists", path, lambda: self.inner.exists(path))

    def list(self, prefix: str) -> Iterator[str]:
        return self._pass("list", prefix, lambda: self.inner.list(prefix))

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        return self._pass("list", prefix, lambda: self.inner.sizes(prefix))

    def delete(self, path: str) -> None:
        self._pass("delete", path, lambda: self.inner.delete(path))

    def copy_in(self, path: str, local: Path) -> int:
        return self._pass("copy_in", path, lambda: self.inner.copy_in(path, local))

    def copy_out(self, path: str, local: Path) -> int:
        return self._pass("copy_out", path, lambda: self.inner.copy_out(path, local))

    @property
    def cost(self) -> ReadCost:
        return self.inner.cost

    def empty(self) -> bool:
        return self.inner.empty()

    def local(self, path: str) -> Path | None:
        return self.inner.local(path) if self.mapped(path) else None


def failing_once(kind: str, number: int) -> Hook:
    """Raises TryAgain at the ``number``-th call of a kind, as a store does that is full or away; the call does nothing. Calls for leases
    don't count: they only tell others who is at work."""
    seen = 0

    def hook(call: Call) -> None:
        nonlocal seen
        if call.kind == kind and not call.path.startswith("leases/"):
            seen += 1
            if seen == number:
                raise TryAgain(f"{call.path}: the storage is away; run the same again")

    return hook


def paused_at(prefix: str, kind: str = "put_new") -> tuple[Hook, threading.Event, threading.Event]:
    """A hook that stops at the first call below ``prefix``: sets the first event and waits for the second."""
    reached, go_on = threading.Event(), threading.Event()

    def hook(call: Call) -> None:
        if call.kind == kind and call.path.startswith(prefix) and not reached.is_set():
            reached.set()
            assert go_on.wait(60), "nobody let the paused writer go on"

    return hook, reached, go_on


def kill_myself() -> None:
    """As ``kill -9``: no handler, no finally, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)


def stop_myself() -> None:
    """As ``kill -STOP``: every thread stands still until the process is told to go on."""
    os.kill(os.getpid(), signal.SIGSTOP)


def killing_in_link(number: int, linked: bool) -> None:
    """From now on the ``number``-th object that a folder store creates in this process kills it."""
    in_link(number, linked, kill_myself)


def in_link(number: int, linked: bool, act: Callable[[], None]) -> None:
    """From now on ``act`` is called at the ``number``-th object that a folder store creates in this process.

    Not ``linked``: its temporary file is written and its name not there yet. ``linked``: the name is there, its folder
    not synced, the temporary name not removed, the writer never told."""
    link, seen = os.link, 0

    def counted(source: Any, target: Any, **options: Any) -> None:
        nonlocal seen
        seen += 1
        here = seen == number
        if here and not linked:
            act()
        link(source, target, **options)
        if here and linked:
            act()

    os.link = counted


def killing_before_delete(number: int) -> Hook:
    """Kills the process before its ``number``-th delete."""

    def hook(call: Call) -> None:
        if (call.kind, call.number) == ("delete", number):
            kill_myself()

    return hook
