"""Folders in which workers keep what their requests need, each with a lock by which others see that the worker has died."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

PREFIX = "recon-work-"
YOUNG_S = 60.0
"""A folder without a name in its lock is left alone for so long: its worker may be about to lock it."""


class Scratch:
    """A folder for the requests of a worker, locked while the worker lives. ``name``: the worker's."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> Path:
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_root()))
        self._lock = _locked(self._folder)
        if self._lock is not None:
            self._lock.write(self._name.encode())
            self._lock.flush()
        return self._folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()


@contextmanager
def dead_workers() -> Iterator[list[str]]:
    """Names of workers of this machine and user that died. Their folders are removed at the end of the block, in which their requests are
    taken from them: a process that lives for a moment longer must not end its request with the rest of its files."""
    found = [(folder, lock) for folder in _root().glob(f"{PREFIX}*") if (lock := _lock_of_dead(folder)) is not None]
    with ExitStack() as stack:
        for _, lock in found:
            stack.enter_context(lock)
        names = {folder: _name(lock) for folder, lock in found}
        yield [name for name in names.values() if name]
        for folder, name in names.items():
            if name or _is_old(folder):
                remove(folder)


def remove(folder: Path) -> None:
    """Removes a folder in which a process that was just killed may still write for a moment."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.02)


def _root() -> Path:
    return Path(os.environ.get("RECON_SCRATCH") or tempfile.gettempdir())


def _lock_of_dead(folder: Path) -> IO[bytes] | None:
    """The lock on the folder of a worker that has died; None where the worker lives."""
    with suppress(OSError):
        if folder.stat().st_uid == os.getuid():
            return _locked(folder)
    return None


def _name(lock: IO[bytes]) -> str:
    """The worker's name; empty where it died before it wrote it."""
    lock.seek(0)
    return lock.read().decode(errors="replace")


def _is_old(folder: Path) -> bool:
    with suppress(OSError):
        return time.time() - folder.stat().st_mtime > YOUNG_S
    return False


def _locked(folder: Path) -> IO[bytes] | None:
    """The lock on a folder; None where another process has it."""
    try:
        file = (folder / "lock").open("a+b")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
