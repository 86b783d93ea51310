"""Workbooks that are zip archives of parts: Excel's xlsx, xlsm and xlsb, and OpenDocument."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from recon.config.settings import Limits
from recon.errors import WrongInput
from recon.intake.converters.port import Received
from recon.intake.converters.unpacking import refuse_long_directory
from recon.intake.files.formats import one_line, refuse_expansion


class Package:
    """The parts of a file, by name. No more than ``limits`` allow is read of them, at one reading of the whole file."""

    def __init__(self, received: Received, limits: Limits) -> None:
        self.name, self._received, self._limits = received.shown, received, limits
        self._stored = received.path.stat().st_size
        with self._damage(), received.path.open("rb") as file:
            refuse_long_directory(received, file)
            with zipfile.ZipFile(file) as archive:
                self.parts = frozenset(archive.namelist())

    @contextmanager
    def part(self, name: str) -> Iterator[Any]:
        """A part as a stream of bytes. Raises WrongInput if there is no such part."""
        if name not in self.parts:
            raise WrongInput(f"{self.name}: the workbook has no part {name}; open it in a spreadsheet program and save it anew")
        with self._damage(), zipfile.ZipFile(self._received.path) as archive, archive.open(name) as stream:
            yield io.BufferedReader(_Counted(self.name, stream, self._stored, self._limits), 1 << 18)

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise WrongInput(
                f"{self.name}: the workbook is damaged or encrypted ({one_line(error)}); send it again, without a password"
            ) from None


class _Counted(io.RawIOBase):
    """A part's bytes, as far as the limits allow."""

    def __init__(self, name: str, stream: Any, stored: int, limits: Limits) -> None:
        self._name, self._stream, self._stored, self._limits = name, stream, stored, limits
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        found = self._stream.read(len(target))
        target[: len(found)] = found
        self._given += len(found)
        refuse_expansion(self._name, self._stored, self._given, self._limits)
        return len(found)
