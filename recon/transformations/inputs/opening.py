"""Opens inputs: the columns of their files, the columns' types, and their rows as batches of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recon.errors import ReconError, WrongInput, WrongUsage
from recon.intake.converters.layouts import Parquet
from recon.intake.converters.port import DELETED
from recon.storage.parquet import open_file
from recon.transformations.inputs.files import Found, Part, Scratch, found_files, parts_of
from recon.transformations.operations.table import Column
from recon.transformations.request.files import AS_USUAL, Objects
from recon.transformations.request.inputs import Input
from recon.vocabulary import parse_type
from recon.vocabulary.types import BOOLEAN, DATE, INTEGER, TEXT, TIMESTAMP, Type, decimal

Fetch = Callable[[Input, Path], Path | str]
"""Writes what an input names of a reconciliation to a Parquet file in an empty folder, and returns it; or the place in S3 where it is."""
Find = Callable[[tuple[str, ...], Path, Scratch], list[Found]]
"""Paths of an input, the folder that they are relative to, and a folder for copies → the files."""
LINE, PROBLEM, TEXTS = 0, 2, 3
"""Places in a batch of a converter."""


@dataclass
class Opened:
    """An input. ``parts``: of all files, or of the first one alone where it is read ``apart``: other machines then open the files, by
    ``given``. ``kinds``: its columns with their types; ``undeclared``: those whose type nothing says, so that they are text. ``deleted``:
    records that a file marks as deleted and that are left out, and ``last``, the last line of all files: complete once ``batches`` was read
    to its end. ``read_as``: SHA-256 of the files as other machines have read them."""

    name: str
    files: list[Found]
    parts: list[Part]
    kinds: dict[str, Type]
    undeclared: list[str] = field(default_factory=list)
    given: Input | None = None
    apart: bool = False
    deleted: int = 0
    last: int = 0
    read_as: list[str] = field(default_factory=list)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of its table; a typed one is #VALUE! where the text does not fit."""
        return tuple(
            Column(column, kind, f"i_{self.name}_{at}", None if kind == TEXT else f"j_{self.name}_{at}")
            for at, (column, kind) in enumerate(self.kinds.items())
        )

    @property
    def size(self) -> int:
        """Bytes of all files: unpacked, but as they are where other machines open them."""
        return sum(file.size for file in self.files) if self.apart else sum(part.path.stat().st_size for part in self.parts)

    def digests(self) -> list[str]:
        """SHA-256 of each of ``files``, in hex. Where other machines open them, it is known once they have read them."""
        return self.read_as if self.apart else [file.digest() for file in self.files]

    def only(self, place: int, scratch: Scratch) -> Opened:
        """One of ``files``, opened on this machine. Raises as ``open_inputs``."""
        file = self.files[place].on(scratch)
        with _naming(self.name):
            assert self.given is not None
            parts = parts_of(file, self.given.format, self.given.columns, scratch)
            for part in parts:
                _refuse_other_columns(self.files[0].shown, list(self.kinds), part, part.conversion.names)
        return Opened(self.name, [file], parts, self.kinds)

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


@dataclass(frozen=True)
class Places:
    """Where inputs are. ``folder``: paths start there. ``scratch``: for what is copied and unpacked. ``fetch``: reads what a reconciliation
    has. ``find``: finds files by their paths, in place of ``found_files``."""

    folder: Path
    scratch: Scratch
    objects: Objects = AS_USUAL
    fetch: Fetch | None = None
    find: Find | None = None


def find_inputs(inputs: Mapping[str, Input], places: Places) -> dict[str, list[Found]]:
    """The files of all inputs; none is read, but what a reconciliation has is written. Raises WrongUsage that begins with the input's
    name."""
    found = {}
    for name, given in inputs.items():
        with _naming(name):
            if given.from_ is not None:
                found[name] = [_fetched(given, places)]
            elif places.find is not None:
                found[name] = places.find(given.path, places.folder, places.scratch)
            else:
                found[name] = found_files(given.path, places.folder, places.scratch, places.objects)
    return found


def opened_at(inputs: Mapping[str, Input], places: Places) -> dict[str, Opened]:
    """All inputs, found and opened. Raises as ``open_inputs``."""
    return open_inputs(inputs, find_inputs(inputs, places), places.scratch)


def open_inputs(inputs: Mapping[str, Input], found: Mapping[str, list[Found]], scratch: Scratch, apart: bool = False) -> dict[str, Opened]:
    """All inputs; only the heads of files are read, but archives, other encodings and objects in S3 as a whole. ``apart``: other machines
    open objects in S3, so that here only the first of each input is opened. Raises WrongUsage and WrongInput that begin with the input's
    name."""
    return {name: _opened(name, given, found[name], scratch, apart) for name, given in inputs.items()}


def _opened(name: str, given: Input, files: list[Found], scratch: Scratch, apart: bool) -> Opened:
    with _naming(name):
        apart = apart and all(file.in_s3 for file in files)
        parts = [part for file in (files[:1] if apart else files) for part in parts_of(file, given.format, given.columns, scratch)]
        first, *others = parts
        names = list(first.conversion.names)
        _refuse_twice(first, names)
        for part in others:
            _refuse_other_columns(first.shown, names, part, part.conversion.names)
        stored = _types_of(first)
        there = set(names)
        if unknown := [column for column in given.types if column not in there]:
            raise WrongUsage(f"types: {first.shown} has no column {unknown[0]!r}; it has {', '.join(names[:20])}")
        declared = {column: parse_type(text, f"types.{column}") for column, text in given.types.items()}
        kinds = {column: declared.get(column) or stored.get(column) or TEXT for column in names}
        undeclared = [column for column in names if column not in declared and column not in stored]
        return Opened(name, files, parts, kinds, undeclared, given, apart)


def _fetched(given: Input, places: Places) -> Found:
    if places.fetch is None:
        raise WrongUsage(f"{given.shown} needs a reconciliation; name its recon.yaml with --config")
    there = places.fetch(given, places.scratch.new())
    if isinstance(there, Path):
        return Found(given.shown, there)
    (found,) = found_files((there,), places.folder, places.scratch, places.objects)
    return replace(found, shown=given.shown)


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


def _refuse_other_columns(first: str, names: Sequence[str], part: Part, others: Sequence[str]) -> None:
    """Raises WrongInput for a file whose columns are not those of the first, in any order. ``first``: as it is shown."""
    _refuse_twice(part, others)
    here, there = set(others), set(names)
    for column in names:
        if column not in here:
            raise WrongInput(f"{part.shown} has no column {column!r}, which {first} has; make it another input")
    for column in others:
        if column not in there:
            raise WrongInput(f"{part.shown} has a column {column!r}, which {first} has not; make it another input")


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
