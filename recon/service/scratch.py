"""Folders in which workers keep what their requests need, each with a lock by which others see that the worker has died."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
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


def dead_workers() -> list[str]:
    """Names of workers of this machine and user that died since this was asked last. Removes their folders."""
    return [name for folder in _root().glob(f"{PREFIX}*") if (name := _dead(folder))]


def remove(folder: Path) -> None:
    """Removes a folder in which a process that was just killed may still write for a moment."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.02)


def _root() -> Path:
    return Path(os.environ.get("RECON_SCRATCH") or tempfile.gettempdir())


def _dead(folder: Path) -> str | None:
    """The name of the worker whose folder it was; None where the worker lives, or had no name yet."""
    try:
        found = folder.stat()
        if found.st_uid != os.getuid() or (lock := _locked(folder)) is None:
            return None
    except OSError:
        return None
    with lock:
        lock.seek(0)
        name = lock.read().decode(errors="replace")
        if name or time.time() - found.st_mtime > YOUNG_S:
            remove(folder)
    return name


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
