"""Opens inputs: the columns of their files, the columns' types, and their rows as batches of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recon.errors import ReconError, WrongInput, WrongUsage
from recon.intake.converters.layouts import Parquet
from recon.intake.converters.port import DELETED
from recon.storage.parquet import open_file
from recon.storage.scratch import file_digest
from recon.transformations.inputs.files import Found, Part, Scratch, found_files, parts_of
from recon.transformations.operations.table import Column
from recon.transformations.request.inputs import Input
from recon.vocabulary import parse_type
from recon.vocabulary.types import BOOLEAN, DATE, INTEGER, TEXT, TIMESTAMP, Type, decimal

Fetch = Callable[[Input, Path], Path]
"""Writes what an input names of a reconciliation to a Parquet file in an empty folder, and returns it."""
Find = Callable[[tuple[str, ...], Path, Scratch], list[Found]]
"""Paths of an input, the folder that they are relative to, and a folder for copies → the files."""
LINE, PROBLEM, TEXTS = 0, 2, 3
"""Places in a batch of a converter."""


@dataclass
class Opened:
    """An input. ``kinds``: its columns with their types; ``undeclared``: those whose type nothing says, so that they are text. ``deleted``:
    records that a file marks as deleted and that are left out, and ``last``, the last line of all files: complete once ``batches`` was read
    to its end."""

    name: str
    files: list[Found]
    parts: list[Part]
    kinds: dict[str, Type]
    undeclared: list[str] = field(default_factory=list)
    deleted: int = 0
    last: int = 0

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of its table; a typed one is #VALUE! where the text does not fit."""
        return tuple(
            Column(column, kind, f"i_{self.name}_{at}", None if kind == TEXT else f"j_{self.name}_{at}")
            for at, (column, kind) in enumerate(self.kinds.items())
        )

    @property
    def size(self) -> int:
        """Bytes of all files, unpacked."""
        return sum(part.path.stat().st_size for part in self.parts)

    def digests(self) -> list[str]:
        """SHA-256 of each of ``files``, in hex."""
        return [file_digest(file.path) for file in self.files]

    def batches(self) -> Iterator[Any]:
        """Record batches of line BIGINT and, for each column in order, t0, t1, … VARCHAR. Lines are those of the file; those of a further
        file go on behind the last line of the file before it. Raises WrongInput for a row that cannot be read."""
        self.deleted = self.last = 0
        for part in self.parts:
            before = self.last
            for batch in part.conversion.batches():
                if batch.num_rows:
                    self.last = before + int(batch.column(LINE)[-1].as_py())
                    yield self._batch(batch, part, before)

    def _batch(self, batch: Any, part: Part, before: int) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        problems = batch.column(PROBLEM)
        if problems.null_count < batch.num_rows:
            deleted = pc.equal(problems, DELETED).fill_null(False)
            self.deleted += int(pc.sum(deleted).as_py() or 0)
            batch = batch.filter(pc.invert(deleted))
            problems = batch.column(PROBLEM)
            if problems.null_count < batch.num_rows:
                row = problems.is_valid().to_pylist().index(True)
                place = part.conversion.place(batch.column(LINE)[row].as_py())
                raise WrongInput(f"input {self.name}: {part.shown}: {place}: {problems[row].as_py()}")
        lines = batch.column(LINE)
        places = {column: TEXTS + at for at, column in enumerate(part.conversion.names)}
        texts = [batch.column(places[column]) for column in self.kinds]
        names = ["line", *(f"t{at}" for at in range(len(texts)))]
        return pa.record_batch([pc.add(lines, before) if before else lines, *texts], names=names)


def open_inputs(
    inputs: Mapping[str, Input], folder: Path, scratch: Scratch, fetch: Fetch | None = None, find: Find = found_files
) -> dict[str, Opened]:
    """All inputs; only the heads of files are read, but archives, other encodings and objects in S3 as a whole. ``find``: finds files.
    Raises WrongUsage and WrongInput that begin with the input's name."""
    return {name: _opened(name, given, folder, scratch, fetch, find) for name, given in inputs.items()}


def _opened(name: str, given: Input, folder: Path, scratch: Scratch, fetch: Fetch | None, find: Find) -> Opened:
    with _naming(name):
        files = find(given.path, folder, scratch) if given.from_ is None else [_fetched(given, scratch, fetch)]
        parts = [part for file in files for part in parts_of(file, given.format, given.columns, scratch)]
        first, *others = parts
        names = list(first.conversion.names)
        _refuse_twice(first, names)
        for part in others:
            _refuse_other_columns(first, names, part, part.conversion.names)
        stored = _types_of(first)
        there = set(names)
        if unknown := [column for column in given.types if column not in there]:
            raise WrongUsage(f"types: {first.shown} has no column {unknown[0]!r}; it has {', '.join(names[:20])}")
        declared = {column: parse_type(text, f"types.{column}") for column, text in given.types.items()}
        kinds = {column: declared.get(column) or stored.get(column) or TEXT for column in names}
        return Opened(name, files, parts, kinds, [column for column in names if column not in declared and column not in stored])


def _fetched(given: Input, scratch: Scratch, fetch: Fetch | None) -> Found:
    if fetch is None:
        raise WrongUsage(f"{given.shown} needs a reconciliation; name its recon.yaml with --config")
    return Found(given.shown, fetch(given, scratch.new()))


@contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except ReconError as error:
        raise type(error)(f"input {name}: {error}") from None


def _refuse_twice(part: Part, names: Sequence[str]) -> None:
    seen = set[str]()
    for column in names:
        if column.casefold() in seen:
            raise WrongInput(f"{part.shown} has the column {column!r} twice; rename one in the file")
        seen.add(column.casefold())


def _refuse_other_columns(first: Part, names: Sequence[str], part: Part, others: Sequence[str]) -> None:
    """Raises WrongInput for a file whose columns are not those of the first, in any order."""
    _refuse_twice(part, others)
    here, there = set(others), set(names)
    for column in names:
        if column not in here:
            raise WrongInput(f"{part.shown} has no column {column!r}, which {first.shown} has; make it another input")
    for column in others:
        if column not in there:
            raise WrongInput(f"{part.shown} has a column {column!r}, which {first.shown} has not; make it another input")


def _types_of(part: Part) -> dict[str, Type]:
    """The types that the file itself gives its columns: Parquet does, but not for floats, which are not exact."""
    if not isinstance(part.layout, Parquet):
        return {}
    return {each.name: kind for each in open_file(part.path).schema_arrow if (kind := _type_of(each.type)) is not None}


def _type_of(kind: Any) -> Type | None:
    import pyarrow as pa

    types = pa.types
    if types.is_decimal(kind) and 0 <= kind.scale <= kind.precision <= 38:
        return decimal(kind.precision, kind.scale)
    if types.is_signed_integer(kind) or (types.is_integer(kind) and kind.bit_width < 64):
        return INTEGER
    if types.is_timestamp(kind) and kind.tz is not None:
        return TIMESTAMP
    if types.is_string(kind) or types.is_large_string(kind):
        return TEXT
    return DATE if types.is_date32(kind) else BOOLEAN if types.is_boolean(kind) else None
