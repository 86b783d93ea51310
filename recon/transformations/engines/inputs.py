"""The files of an input, opened: one, all that a pattern such as ``sales-*.csv`` names, or all of a folder, in order of their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from recon.config.settings import Limits
from recon.errors import WrongInput, WrongUsage
from recon.intake.converters import layouts
from recon.intake.converters.opening import open_conversion
from recon.intake.converters.port import Conversion, Received
from recon.storage.scratch import file_digest
from recon.transformations.operations.table import Column
from recon.transformations.request.model import Input
from recon.vocabulary import parse_type
from recon.vocabulary.types import TEXT, Type

_SUFFIXES: dict[str, layouts.AnyLayout] = {
    ".csv": layouts.Delimited(kind="delimited", header=True),
    ".tsv": layouts.Delimited(kind="delimited", header=True, delimiter="\t"),
    ".jsonl": layouts.JsonLines(kind="jsonl"),
    ".parquet": layouts.Parquet(kind="parquet"),
    ".xlsx": layouts.Sheet(kind="excel", header=True),
}


@dataclass(frozen=True)
class Part:
    """A file of an input, and how it is read."""

    path: Path
    layout: layouts.AnyLayout

    def conversion(self) -> Conversion:
        """Opens the file. Raises WrongInput."""
        return open_conversion(Received(self.path.name, self.path), self.layout, None, Limits())


@dataclass(frozen=True)
class Opened:
    """An input whose heads have been read. ``kinds``: column → type. All ``parts`` have the same columns."""

    name: str
    parts: tuple[Part, ...]
    kinds: dict[str, Type]

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of its table; a typed one is #VALUE! where the text does not fit."""
        return tuple(
            Column(name, kind, f"i_{self.name}_{at}", None if kind == TEXT else f"j_{self.name}_{at}")
            for at, (name, kind) in enumerate(self.kinds.items())
        )

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(part.path.stat().st_size for part in self.parts)

    def digests(self) -> list[str]:
        """SHA-256 of each file."""
        return [file_digest(part.path) for part in self.parts]


def opened(name: str, given: Input, folder: Path) -> Opened:
    """An input, and the types of its columns; only heads of files are read. Raises WrongUsage and WrongInput that begin with the input's
    name."""
    parts = tuple(Part(path, _layout(name, given, path)) for path in _paths(name, given, folder))
    try:
        names = [list(part.conversion().names) for part in parts]
    except WrongInput as error:
        raise WrongInput(f"input {name}: {error}") from None
    first = parts[0].path.name
    for part, found in zip(parts, names, strict=True):
        if found != names[0]:
            other = next((column for column in [*found, *names[0]] if column not in found or column not in names[0]), "their order")
            raise WrongInput(
                f"input {name}: {part.path.name} and {first} have other columns ({other}); all files need the same, in one order"
            )
    folded = [column.casefold() for column in names[0]]
    if twice := [column for at, column in enumerate(names[0]) if folded.index(column.casefold()) != at]:
        raise WrongInput(f"input {name}: {first} has the column {twice[0]!r} twice; rename one in the file")
    if unknown := [column for column in given.types if column not in names[0]]:
        raise WrongUsage(f"input {name}: types: {first} has no column {unknown[0]!r}; it has {', '.join(names[0][:20])}")
    kinds = {c: parse_type(given.types[c], f"input {name}: types.{c}") if c in given.types else TEXT for c in names[0]}
    return Opened(name, parts, kinds)


def _paths(name: str, given: Input, folder: Path) -> Sequence[Path]:
    """The files that an input's path names. Raises WrongUsage where there is none."""
    path = folder / given.path
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith((".", "_")))
        none = f"{path}: there are no files in this folder"
    elif has_magic(given.path):
        found = sorted(one for one in map(Path, glob(str(path), recursive=True)) if one.is_file())
        none = f"{path}: no file has such a name"
    else:
        found, none = [], f"{path}: there is no such file"
    if not found:
        raise WrongUsage(f"input {name}: {none}")
    return found


def _layout(name: str, given: Input, path: Path) -> layouts.AnyLayout:
    layout = given.format or _SUFFIXES.get(path.suffix.lower())
    if layout is None:
        raise WrongUsage(f"input {name}: {path.name}: its name does not say its format; write format: {{kind: …}}")
    return layout
