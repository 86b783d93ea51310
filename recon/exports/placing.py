"""Puts new files in place: all or none, each whole and synced; what was there before stays where anything fails."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from recon.errors import TryAgain, WrongUsage
from recon.storage.local import sync

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def refuse_place(file: Path) -> None:
    """Raises WrongUsage for a path where no file can be written."""
    if not os.path.isdir(file.parent):
        raise WrongUsage(f"{file}: the folder {file.parent} does not exist; make it first")
    if os.path.isdir(file):
        raise WrongUsage(f"{file}: this is a folder; name a file")
    if os.path.exists(file) and not os.access(file, os.W_OK):
        raise WrongUsage(f"{file}: is write-protected and stays as it is; name another file")


@contextmanager
def put_in_place(files: Sequence[Path]) -> Iterator[list[Path]]:
    """A temporary path for each file, on the same disk. At the end, the files written there are synced and replace ``files``. On any
    failure, including Ctrl-C, all of ``files`` are unchanged and the temporary files are removed.

    A power cut between two replacements can leave some of them replaced, each whole. Raises WrongUsage and TryAgain."""
    import duckdb

    placing = _Placing(files)
    try:
        yield placing.begin()
        placing.place()
    except OSError as error:
        _cannot_write(placing.at, error.errno, error)
    except duckdb.IOException as error:
        number = re.search(r'"errno":"(\d+)"', str(error))
        about = placing.file_named(str(error))
        if about is None or number is None:
            raise  # about another file, such as one that the query spilled to
        _cannot_write(about, int(number[1]), error)
    finally:
        placing.end()


class _Placing:
    """``at``: the file that an error of the system is about."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(files)
        self._targets: list[Path] = []
        self._folders: list[Path] = []
        self.at = self._files[0] if self._files else Path()

    def begin(self) -> list[Path]:
        for file in self._files:
            self.at = file
            target = Path(os.path.realpath(file))  # a link stays a link, to the new content
            self._targets.append(target)
            self._folders.append(Path(tempfile.mkdtemp(prefix=".recon-", dir=target.parent)))
        if self._files:
            self.at = self._files[0]
        return [self._new(number) for number in range(len(self._files))]

    def _new(self, number: int) -> Path:
        return self._folders[number] / f"new{self._targets[number].suffix}"

    def place(self) -> None:
        for number, target in enumerate(self._targets):
            self.at = self._files[number]
            if target.exists():
                shutil.copymode(target, self._new(number))
                if len(self._files) > 1:
                    with suppress(OSError):  # a disk without links: what was there cannot be brought back
                        os.link(target, self._old(number))
            sync(self._new(number))
        done = 0
        try:
            for number, target in enumerate(self._targets):
                self.at = self._files[number]
                os.replace(self._new(number), target)
                done += 1
                sync(target.parent)
        except BaseException:
            for number in range(done):
                self._bring_back(number)
            raise

    def _old(self, number: int) -> Path:
        return self._folders[number] / "old"

    def _bring_back(self, number: int) -> None:
        with suppress(OSError):
            if self._old(number).exists():
                os.replace(self._old(number), self._targets[number])
            else:
                self._targets[number].unlink()

    def file_named(self, message: str) -> Path | None:
        return next((file for file, folder in zip(self._files, self._folders, strict=False) if str(folder) in message), None)

    def end(self) -> None:
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)


def _cannot_write(file: Path, number: int | None, error: Exception) -> NoReturn:
    if number in _FULL:
        raise TryAgain(f"{file}: the disk is full ({os.strerror(number)}); free some room and export again, nothing was changed") from error
    why = os.strerror(number) if number is not None else str(error)
    raise WrongUsage(f"{file}: cannot be written ({why}); name a file in a folder of your own") from error
