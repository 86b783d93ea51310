"""Objects under ascending numbers: the newest of them, and the next, which belongs to the writer that puts it first.

A number is never used twice, so that an object never changes and a writer that was too slow notices it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from recon.storage.port import AlreadyExists, ObjectStore

T = TypeVar("T")


def number_of(path: str) -> int:
    """``manifests/000012.json`` → 12; 0 for "", which ``newest`` returns where there is none."""
    return int(path.rpartition("/")[2].removesuffix(".json") or 0)


def newest(store: ObjectStore, folder: str) -> str:
    """The path of the object with the highest number in ``folder``, "" where it holds none."""
    return max(store.list(folder), default="")


def put_next(attempt: Callable[[], T]) -> T:
    """Calls ``attempt``, which reads the newest number and puts the next, again until no other writer was first."""
    while True:
        with suppress(AlreadyExists):
            return attempt()
