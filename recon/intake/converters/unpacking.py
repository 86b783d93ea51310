"""Unpacks received files: each member of a zip archive, and what is in a gzip or zstd file, is a file of its own with its parent's name."""

from __future__ import annotations

import errno
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from recon.config.settings import Limits
from recon.errors import TryAgain, WrongInput
from recon.intake.converters.port import Received
from recon.intake.files.formats import BLOCK_BYTES, blocks, one_line, refuse_expansion

DEPTH_MAX = 2
"""Archives inside each other."""
MEMBERS_MAX = 10_000
DIRECTORY_BYTES_MAX = 8 << 20
"""Of a zip archive's list of members, which is read into memory."""
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, struct.error, ValueError, RuntimeError)
"""What zipfile raises for a damaged or encrypted archive."""
_CODECS = {".gz": "gzip", ".zst": "zstd"}
ARCHIVES = frozenset({".zip", *_CODECS})
"""The suffixes of files that are unpacked."""
_OUTSIDE = re.compile(r"[/\\]|[A-Za-z]:|(.*[/\\])?\.\.([/\\]|\Z)", re.DOTALL)
"""A member's path that is absolute, or leads out of the folder that it is unpacked into."""


def of_the_machine(error: Exception) -> bool:
    """Whether one of ``ZIP_ERRORS`` is no fault of the archive, such as a full disk."""
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


@contextmanager
def unchanged(name: str, path: Path) -> Iterator[None]:
    """Raises TryAgain if the file changes meanwhile, since it is then still being written."""
    before = _state(name, path)
    yield
    if _state(name, path) != before:
        raise TryAgain(f"{name}: the file is still being written; it is taken once it stays as it is")


def _state(name: str, path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        raise TryAgain(f"{name}: the file is gone from {path}; it is taken once it is there again") from None
    return found.st_size, found.st_mtime_ns, found.st_ino


def unpack(name: str, path: Path, limits: Limits, folder: Path) -> list[Received]:
    """The files in a received file, by its suffix: .zip, .gz and .zst are unpacked into new files in ``folder``, archives in them too; any
    other file is itself. In the order of the archive, without folders.

    Raises WrongInput, and takes nothing, for an archive that is damaged, encrypted, larger than ``limits``, nested deeper than
    ``DEPTH_MAX``, or that has a link, two members of one name, or a member whose path leads out of the archive; TryAgain for a file that
    is still being written."""
    with unchanged(name, path):
        return list(_Unpacking(path.stat().st_size, limits, folder).files(Received(name, path), 0))


class _Unpacking:
    """One received file. ``stored``: its bytes, to which all that it expands to is compared, archives within archives too."""

    def __init__(self, stored: int, limits: Limits, folder: Path) -> None:
        self._stored, self._limits, self._folder = stored, limits, folder
        self._expanded = 0
        self._files = 0

    def files(self, received: Received, depth: int) -> Iterator[Received]:
        suffix = Path(received.name).suffix.lower()
        if suffix != ".zip" and suffix not in _CODECS:
            yield received
            return
        if depth == DEPTH_MAX:
            raise WrongInput(f"{received.shown}: archives are nested deeper than {DEPTH_MAX}; unpack it, and send its files")
        members = self._zip(received) if suffix == ".zip" else self._alone(received, _CODECS[suffix])
        for member in members:
            yield from self.files(member, depth + 1)
        if depth:
            received.path.unlink()

    def _alone(self, received: Received, codec: str) -> Iterator[Received]:
        inner = Received(Path(received.name).stem, self._new(received), received.shown)
        with inner.path.open("wb") as target:
            for block in blocks(received.shown, received.path, codec, BLOCK_BYTES):
                target.write(self._counted(received, block))
        yield inner

    def _zip(self, received: Received) -> Iterator[Received]:
        try:
            with received.path.open("rb") as file:
                refuse_long_directory(received, file)
                with zipfile.ZipFile(file) as archive:
                    members = [member for member in archive.infolist() if not member.is_dir()]
                    _refuse_members(received, members)
                    for member in members:
                        yield self._member(received, archive, member)
        except ZIP_ERRORS as error:
            if of_the_machine(error):
                raise
            reason = f"its zip archive can't be read ({one_line(error)}); transfer it again, or write it with the usual compression"
            raise WrongInput(f"{received.shown}: {reason}") from None

    def _member(self, received: Received, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Received:
        inner = Received(member.filename, self._new(received), received.shown)
        with inner.path.open("wb") as target, archive.open(member) as source:
            while block := source.read(BLOCK_BYTES):
                target.write(self._counted(received, block))
        return inner

    def _new(self, received: Received) -> Path:
        """A path by number, never by what an archive says."""
        self._files += 1
        if self._files > MEMBERS_MAX:
            raise WrongInput(f"{received.shown}: it has more than {MEMBERS_MAX:,} files; send them in several archives")
        return self._folder / f"{self._files:05}"

    def _counted(self, received: Received, block: bytes) -> bytes:
        self._expanded += len(block)
        refuse_expansion(received.shown, self._stored, self._expanded, self._limits)
        return block


def _refuse_members(received: Received, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MEMBERS_MAX:
        raise WrongInput(f"{received.shown}: it has more than {MEMBERS_MAX:,} files; send them in several archives")
    seen = set[str]()
    for member in members:
        shown = f"{received.shown}: its member {member.filename!r}"
        kind = stat.S_IFMT(member.external_attr >> 16)
        if member.flag_bits & 0x41:
            raise WrongInput(f"{shown} is encrypted; send it without a password")
        if kind not in (0, stat.S_IFREG):
            raise WrongInput(f"{shown} is a link or a device, not a file; send the file itself")
        if not member.filename or _OUTSIDE.match(member.filename):
            raise WrongInput(f"{shown} has a path that leads out of the archive; write it with plain names")
        if member.filename in seen:
            raise WrongInput(f"{shown} is there twice; send each file once")
        seen.add(member.filename)


def refuse_long_directory(received: Received, file: IO[bytes]) -> None:
    """Raises WrongInput for a list of members that would take too much memory: by the archive's last record, as zipfile reads it."""
    size = file.seek(0, 2)
    file.seek(max(0, size - (1 << 16) - 22 - 76))
    tail: Any = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        return  # zipfile refuses it
    length = struct.unpack_from("<L", tail, end + 12)[0]
    large = tail.rfind(b"PK\x06\x06", 0, end)
    if large >= 0 and len(tail) >= large + 56:
        length = max(length if length < 0xFFFFFFFF else 0, struct.unpack_from("<Q", tail, large + 40)[0])
    if length > DIRECTORY_BYTES_MAX and length < size:
        raise WrongInput(f"{received.shown}: its list of members takes {length:,} bytes; send them in several archives")
