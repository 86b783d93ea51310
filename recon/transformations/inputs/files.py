"""Which files an input is: names, patterns, objects in S3, members of archives; each as a local file that its converter reads."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from recon.config.settings import Limits
from recon.errors import Damaged, TryAgain, WrongInput, WrongUsage
from recon.intake.converters import layouts
from recon.intake.converters.decoding import decode
from recon.intake.converters.opening import open_conversion
from recon.intake.converters.port import Conversion, Received
from recon.intake.converters.unpacking import ARCHIVES, unpack
from recon.storage.port import NotFound
from recon.storage.scratch import file_digest
from recon.transformations.request.files import AS_USUAL, S3, Objects

if TYPE_CHECKING:
    from recon.storage.s3 import ForeignObjects

_PATTERN = re.compile(r"[*?\[]")
FILES_MAX = 10_000
LIMITS = Limits()


@dataclass
class Scratch:
    """A folder for what is fetched and unpacked, made when it is first needed; it is removed with this object, at the latest at the end of
    the process. ``within``: the folder that it is made in, by default that of temporary files."""

    within: str | None = None
    _count: int = field(default=0, init=False)

    @cached_property
    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="recon-transform-", dir=self.within)

    def new(self) -> Path:
        """A new, empty folder."""
        self._count += 1
        made = Path(self._folder.name) / str(self._count)
        made.mkdir()
        return made


@dataclass
class Found:
    """A file of an input. ``shown``: its path as in the request. ``there``: its local path; of an object in S3 None. ``bytes``, ``url``: of
    an object in S3."""

    shown: str
    there: Path | None
    bytes: int = 0
    objects: Objects = AS_USUAL
    scratch: Scratch = field(default_factory=Scratch)
    url: str = ""

    @property
    def in_s3(self) -> bool:
        return self.there is None

    @property
    def size(self) -> int:
        """Bytes, as it is there."""
        return self.bytes if self.there is None else self.there.stat().st_size

    @cached_property
    def path(self) -> Path:
        """Its local path. An object in S3 is copied the first time. Raises WrongUsage where it is gone, TryAgain where it changes."""
        if self.there is not None:
            return self.there
        store, key = self.objects.of_others(self.url)
        local = self.scratch.new() / PurePosixPath(key).name
        try:
            before = (store.size(key), store.modified(key))
            store.copy_out(key, local)
            if (store.size(key), store.modified(key)) != before:
                raise TryAgain(f"{self.shown} changed while it was read; run the same again")
        except Damaged:  # the new version is shorter
            raise TryAgain(f"{self.shown} changed while it was read; run the same again") from None
        except NotFound:
            raise WrongUsage(f"{self.shown}: there is no such object; put it there, or correct the path") from None
        return local

    def digest(self) -> str:
        """SHA-256, in hex."""
        return file_digest(self.path)

    def on(self, scratch: Scratch) -> Found:
        """The same on another machine, which copies objects to ``scratch``."""
        return Found(self.shown, self.there, self.bytes, self.objects, scratch, self.url)

    def __getstate__(self) -> dict[str, Any]:
        """Without its copy and its scratch, which are of this machine."""
        return {name: value for name, value in vars(self).items() if name not in ("path", "scratch")}


def found_files(paths: tuple[str, ...], folder: Path, scratch: Scratch, objects: Objects = AS_USUAL) -> list[Found]:
    """The files of an input: in the order of the list, those of a pattern by their names. Raises WrongUsage where a file is not
    there or a pattern finds none."""
    found: list[Found] = []
    for path in paths:
        here = (
            [Found(url, None, size, objects, scratch, url) for url, size in _in_s3(path, objects)]
            if path.startswith(S3)
            else list(_in_folder(path, folder))
        )
        found += here
        if len(found) > FILES_MAX:
            raise WrongUsage(f"more than {FILES_MAX:,} files; put some of them together first")
    seen = set[str]()
    for file in found:
        if file.shown in seen:
            raise WrongUsage(f"{file.shown} is there twice; name each file once")
        seen.add(file.shown)
    return found


def _in_folder(path: str, folder: Path) -> Iterator[Found]:
    if _PATTERN.search(path) and not (folder / path).is_file():
        matches = sorted(match for match in glob.glob(path, root_dir=folder, recursive=True) if (folder / match).is_file())
        if not matches:
            raise WrongUsage(f"{path}: no file in {folder} has such a name")
        yield from (Found(match, folder / match) for match in matches)
        return
    if (folder / path).is_dir():
        inside = sorted(each.name for each in (folder / path).iterdir() if each.is_file() and not each.name.startswith((".", "_")))
        if not inside:
            raise WrongUsage(f"{folder / path}: there are no files in this folder")
        yield from (Found(str(Path(path) / each), folder / path / each) for each in inside)
        return
    if not (folder / path).is_file():
        raise WrongUsage(f"{os.path.normpath(folder / path)}: there is no such file; put it there, or correct the path")
    yield Found(path, folder / path)


def _in_s3(path: str, objects: Objects) -> Iterator[tuple[str, int]]:
    """Place and size of each object."""
    store, key = objects.of_others(path)
    bucket = path.removesuffix(key)
    if not _PATTERN.search(key):
        yield path, _size(store, path, key)
        return
    before = _PATTERN.split(key)[0].rpartition("/")[0]
    sizes = sorted((other.path, other.size) for other in store.listed(before))
    found = [(other, size) for other, size in sizes if fnmatch.fnmatchcase(other, key) and other.count("/") == key.count("/")]
    if not found:
        raise WrongUsage(f"{path}: no object has such a name")
    yield from ((f"{bucket}{other}", size) for other, size in found)


def _size(store: ForeignObjects, path: str, key: str) -> int:
    try:
        return store.size(key)
    except NotFound:
        raise WrongUsage(f"{path}: there is no such object; put it there, or correct the path") from None


@dataclass
class Part:
    """What a converter reads: a file, or a member of an archive. ``shown``: its name, with its archive. ``columns``: those that the request
    gives a file without a header."""

    received: Received
    layout: layouts.AnyLayout
    columns: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        return self.received.shown

    @property
    def path(self) -> Path:
        return self.received.path

    @cached_property
    def conversion(self) -> Conversion:
        """Opens the file. Raises WrongInput and WrongUsage."""
        return open_conversion(self.received, self.layout, self.columns or None, LIMITS, errors=True)


_DELIMITED = layouts.Delimited(kind="delimited", header=True)
_EXCEL = layouts.Sheet(kind="excel", header=True)
SUFFIXES: dict[str, layouts.AnyLayout] = {
    ".csv": _DELIMITED,
    ".tsv": layouts.Delimited(kind="delimited", header=True, delimiter="\t"),
    **dict.fromkeys((".jsonl", ".ndjson"), layouts.JsonLines(kind="jsonl")),
    ".json": layouts.Json(kind="json"),
    ".parquet": layouts.Parquet(kind="parquet"),
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb", ".xls"), _EXCEL),
    ".ods": layouts.Sheet(kind="ods", header=True),
    ".dbf": layouts.DBase(kind="dbase"),
}
"""The formats that a name says; all others need ``format``."""


def parts_of(file: Found, layout: layouts.AnyLayout | None, columns: tuple[str, ...], scratch: Scratch) -> list[Part]:
    """A file, or the members of an archive, unpacked and decoded. Raises WrongUsage and WrongInput."""
    inside = [Received(file.path.name, file.path)]
    if file.path.suffix.lower() in ARCHIVES:
        inside = unpack(file.path.name, file.path, LIMITS, scratch.new())
        if not inside:
            raise WrongInput(f"{file.shown}: the archive has no files")
    parts = []
    for received in inside:
        found = layout or SUFFIXES.get(PurePosixPath(received.name).suffix.lower())
        if found is None:
            raise WrongUsage(f"{received.shown}: its name does not say its format; write format: {{kind: …}}")
        encoding = getattr(found, "encoding", None)
        if encoding is not None and not isinstance(found, layouts.DBase) and encoding != "utf-8":
            received = decode(received, encoding, scratch.new(), LIMITS)
        parts.append(Part(received, found, columns))
    return parts
