"""A lock on a file, which ends with its process: by ``flock``, on Windows by ``msvcrt``."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        while True:
            try:
                msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)  # tries for ten seconds
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EDEADLK):
                    raise
            else:
                return

    def _unlock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """A block in which no other process or thread is in a block of the same file. Makes the file where there is none, and leaves it.

    Raises OSError where it can't be made."""
    with path.open("wb") as file:  # its first byte, which need not exist, is what Windows locks
        _lock(file.fileno())
        try:
            yield
        finally:
            _unlock(file.fileno())
