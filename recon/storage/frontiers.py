"""Frontiers: how far a process has come, so that it need not look at all windows again.

A frontier only saves work: without it, or with an old frontier, the process starts further back. Each value is an object under a number
that only grows; the writer of a higher number removes the lower ones.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from recon.errors import Damaged
from recon.storage import documents, layout, numbered
from recon.storage.port import AlreadyExists, NotFound, ObjectStore


def read(store: ObjectStore, name: str) -> tuple[int, Any]:
    """The newest number and its value; (0, None) where no value can be read."""
    for path in reversed(list(store.list(layout.frontier(name)))):
        with suppress(NotFound, Damaged):  # another process has just put a higher number, or the object is damaged
            return numbered.number_of(path), documents.read(store, path, Any, "delete it")
    return 0, None


def advance(store: ObjectStore, name: str, number: int, value: Any = None) -> None:
    """Puts a value under ``number`` if it is higher than all numbers there; else changes nothing."""
    earlier = list(store.list(layout.frontier(name)))
    path = layout.frontier_at(name, number)
    if earlier and earlier[-1] >= path:
        return
    with suppress(AlreadyExists):  # another process put the same number at the same moment
        documents.put(store, path, value, **documents.COMPACT)
    for older in earlier:
        store.delete(older)


def renew(store: ObjectStore, name: str, value: Any) -> None:
    """Puts a value under the next number."""
    advance(store, name, numbered.number_of(numbered.newest(store, layout.frontier(name))) + 1, value)
