"""Workbooks that are zip archives of parts: Excel's xlsx, xlsm and xlsb, and OpenDocument."""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

from recon.config.settings import Limits
from recon.errors import WrongInput
from recon.intake.converters.port import Received
from recon.intake.converters.unpacking import ZIP_ERRORS, of_the_machine, refuse_long_directory
from recon.intake.converters.xmlstream import elements
from recon.intake.files.formats import one_line, refuse_expansion


class Package:
    """The parts of a file, by name. No more than ``limits`` allow is read of them, at one reading of the whole file."""

    def __init__(self, received: Received, limits: Limits) -> None:
        self.name, self._received, self._limits = received.shown, received, limits
        self._stored = received.path.stat().st_size
        with _damage(self.name), received.path.open("rb") as file:
            refuse_long_directory(received, file)
            with zipfile.ZipFile(file) as archive:
                self.parts = frozenset(archive.namelist())

    @cached_property
    def main(self) -> str:
        """The part of an Excel workbook that lists its sheets."""
        return next((target for kind, target in self.related("").values() if kind == "officeDocument"), "xl/workbook.xml")

    def related(self, part: str) -> dict[str, tuple[str, str]]:
        """The relationships of a part: id → kind, target."""
        folder, name = posixpath.split(part)
        rels = posixpath.join(folder, "_rels", f"{name}.rels")
        found: dict[str, tuple[str, str]] = {}
        if rels in self.parts:
            with self.part(rels) as stream:
                for event, element in elements(self.name, stream, ("Relationship",)):
                    if event == "end":
                        target = element.get("Target", "")
                        whole = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
                        found[element.get("Id", "")] = (element.get("Type", "").rpartition("/")[2], whole)
        return found

    @contextmanager
    def part(self, name: str) -> Iterator[Any]:
        """A part as a stream of bytes. Raises WrongInput if there is no such part."""
        if name not in self.parts:
            raise WrongInput(f"{self.name}: the workbook has no part {name}; open it in a spreadsheet program and save it anew")
        with ExitStack() as stack:
            with _damage(self.name):
                archive = stack.enter_context(zipfile.ZipFile(self._received.path))
                stream = stack.enter_context(archive.open(name))
            yield io.BufferedReader(_Counted(self.name, stream, self._stored, self._limits), 1 << 18)


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """Turns the errors of a damaged or encrypted archive into WrongInput."""
    try:
        yield
    except ZIP_ERRORS as error:
        if of_the_machine(error):
            raise
        raise WrongInput(f"{name}: the workbook is damaged or encrypted ({one_line(error)}); send it again, without a password") from None


class _Counted(io.RawIOBase):
    """A part's bytes, as far as the limits allow."""

    def __init__(self, name: str, stream: Any, stored: int, limits: Limits) -> None:
        self._name, self._stream, self._stored, self._limits = name, stream, stored, limits
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        with _damage(self._name):
            found = self._stream.read(len(target))
        target[: len(found)] = found
        self._given += len(found)
        refuse_expansion(self._name, self._stored, self._given, self._limits)
        return len(found)
