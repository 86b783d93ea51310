"""Frontiers: how far something has come, so that it need not look at all windows again.

A frontier only spares work: without it, or with
an old one, everything is looked at from further back.

A value is an object of its own under a number that only grows; whoever puts a higher one removes those below.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from recon.errors import Damaged
from recon.storage import documents, layout, numbered
from recon.storage.port import AlreadyExists, NotFound, ObjectStore


def read(store: ObjectStore, name: str) -> tuple[int, Any]:
    """The newest number and its value; (0, None) where there is none that can be read."""
    for path in reversed(list(store.list(layout.frontier(name)))):
        with suppress(NotFound, Damaged):  # another process has just put a higher number, or the object is damaged
            return numbered.number_of(path), documents.read(store, path, Any, "delete it")
    return 0, None


def advance(store: ObjectStore, name: str, number: int, value: Any = None) -> None:
    """Puts a value under a higher number than stands; a lower one changes nothing."""
    standing = list(store.list(layout.frontier(name)))
    path = layout.frontier_at(name, number)
    if standing and standing[-1] >= path:
        return
    with suppress(AlreadyExists):  # another came as far at the same moment
        documents.put(store, path, value, **documents.COMPACT)
    for older in standing:
        store.delete(older)


def renew(store: ObjectStore, name: str, value: Any) -> None:
    """Puts a value that is the newest because it was found now: under the next number, not by a clock."""
    advance(store, name, numbered.number_of(numbered.newest(store, layout.frontier(name))) + 1, value)
