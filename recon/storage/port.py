"""The object store's port: its methods, its errors, and which paths are allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NoReturn, Protocol

from recon.errors import ReconError, WrongUsage

PATH_LENGTH_MAX_BYTES = 1000
PART_LENGTH_MAX_BYTES = 240
COPY_CHUNK_BYTES = 1 << 20
TEMPORARY = "tmp"
"""The folder of unfinished writes."""
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")


class AlreadyExists(ReconError):
    """The conditional put was refused: an object of that path exists and stays as it is."""


class NotFound(ReconError):
    """No object of that path exists."""


@dataclass(frozen=True)
class ReadCost:
    """How reads of many small ranges are grouped. Two ranges with a gap of up to ``gap_max_bytes`` become one request of up to
    ``request_max_bytes``; ``requests_at_once`` run in parallel."""

    gap_max_bytes: int
    request_max_bytes: int
    requests_at_once: int


class ObjectStore(Protocol):
    """Objects by path: relative, parts joined by "/". An object is created once and never changed.

    All methods may be called from many threads and processes at once. They raise WrongUsage for a path that is not well
    formed, and TryAgain where the storage fails (full, unreachable, not permitted).
    """

    @property
    def cost(self) -> ReadCost:
        """How reads of ranges are best grouped."""
        ...

    def put_new(self, path: str, chunks: Iterable[bytes | memoryview]) -> int:
        """Creates the object, complete and durable, or raises AlreadyExists: the conditional put. Returns its size in bytes."""
        ...

    def get(self, path: str) -> bytes:
        """All bytes of the object. Raises NotFound."""
        ...

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``. Raises NotFound, and Damaged where the object is shorter."""
        ...

    def size(self, path: str) -> int:
        """The size in bytes. Raises NotFound."""
        ...

    def modified(self, path: str) -> datetime:
        """When the object was written, by the storage's own clock (UTC). Raises NotFound."""
        ...

    def version(self, path: str) -> str:
        """A text that is another one after other programs have replaced the object. Raises NotFound."""
        ...

    def exists(self, path: str) -> bool: ...

    def list(self, prefix: str) -> Iterator[str]:
        """All paths below the folder ``prefix`` (with or without a closing "/"; "" is the whole store), sorted."""
        ...

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """As ``list``, each path with its size in bytes, at the same cost."""
        ...

    def empty(self) -> bool:
        """Whether the location holds no files or objects at all, unfinished writes aside."""
        ...

    def delete(self, path: str) -> None:
        """Removes the object; a missing object is no error."""
        ...

    def copy_in(self, path: str, local: Path) -> int:
        """Creates an object from a local file; returns its size. Raises AlreadyExists, and WrongUsage where the file can't be read."""
        ...

    def copy_out(self, path: str, local: Path) -> int:
        """Copies the object into a new local file; returns its size. Raises NotFound, and TryAgain where the file can't be written."""
        ...

    def local(self, path: str) -> Path | None:
        """The object's file, for memory mapping, where the store is a folder; None elsewhere. The file need not exist."""
        ...


def check_path(path: str) -> str:
    """Returns the path. Raises WrongUsage for a path that could leave the store, be hidden in it, or be too long for some storage."""
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") for part in parts):
        _refuse(path, "it has empty, '.' or '..' parts; write parts joined by single slashes, not beginning with one")
    if _FORBIDDEN.search(path):
        _refuse(path, "backslashes and control characters are not allowed")
    try:
        lengths = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        _refuse(path, "it is not valid Unicode")
    if sum(lengths) + len(parts) - 1 > PATH_LENGTH_MAX_BYTES or max(lengths) > PART_LENGTH_MAX_BYTES:
        _refuse(path, f"at most {PATH_LENGTH_MAX_BYTES} bytes, {PART_LENGTH_MAX_BYTES} between slashes, are allowed")
    if parts[0] == TEMPORARY:
        _refuse(path, f"'{TEMPORARY}/' holds unfinished writes")
    return path


def _refuse(path: str, why: str) -> NoReturn:
    shown = path if len(path) <= 80 else path[:77] + "..."
    raise WrongUsage(f"store path {shown!r}: {why}")
