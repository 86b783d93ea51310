"""JSON: one object a line, or an array of objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from recon.config.settings import Limits
from recon.errors import WrongInput
from recon.intake.connections import connection
from recon.intake.converters.jsonarray import array_start, elements
from recon.intake.converters.layouts import Json
from recon.intake.converters.port import Received
from recon.intake.converters.text import TextFile
from recon.intake.files.formats import Format
from recon.intake.files.inspect import what_is_there
from recon.intake.files.jsonlines import ObjectLines, absent_from, absent_members, first_members, line_batches, members_sql
from recon.intake.files.raw import raw_table, shown
from recon.intake.files.spec import SourceFile


class _Texts:
    """Turns batches of JSON objects into batches of texts. A member that an object lacks, or that is null, has no value."""

    def __init__(self, names: Sequence[str]) -> None:
        self._connection = connection(threads=1)
        self._query = f"SELECT line, span, problem{''.join(f', t{n}' for n in range(len(names)))} FROM {members_sql('objects', names)}"

    def of(self, batch: Any) -> Any:
        """One record batch."""
        import pyarrow as pa

        self._connection.register("objects", pa.Table.from_batches([batch]))
        found: Any = self._connection.sql(self._query).to_arrow_table()
        self._connection.unregister("objects")
        return found.combine_chunks().to_batches()[0]


def _needed(name: str, absent: list[str], members: list[str]) -> None:
    if absent:
        raise WrongInput(f"{name}: no object has a member {absent[0]!r}; {what_is_there(absent[0], members)}")


class JsonLineRows(TextFile):
    """The names are the declared ones, or the members of the first hundred objects."""

    def __init__(self, received: Received, declared: Sequence[str] | None, limits: Limits) -> None:
        super().__init__(received, limits)
        self._file = SourceFile(self.name, received.path, declared=Format("json", None))
        start = self.head.lstrip()[:1]
        if start == "[":
            raise WrongInput(f"{self.name}: line 1 begins a JSON array; declare kind: json")
        if declared:
            _needed(self.name, *absent_members(self._file, declared, limits))
        self.names: Sequence[str] = tuple(declared or first_members(self.head.encode()))
        if not self.names:
            raise WrongInput(f'{self.name}: the first lines are no JSON objects; expected one object a line, such as {{"id": 1}}')

    def batches(self) -> Iterator[Any]:
        texts = _Texts(self.names)
        for batch in line_batches(self._file, self.names, self.limits):
            yield texts.of(batch)


class JsonRows(TextFile):
    """One row an element of the array. A line is the number of the element, as several may be on one line of the file."""

    def __init__(self, received: Received, layout: Json, declared: Sequence[str] | None, limits: Limits) -> None:
        super().__init__(received, limits)
        self._levels = len(layout.at.split(".")) if layout.at else 0
        self._start = array_start(self.name, self.head, layout.at)
        if declared:
            _needed(self.name, *absent_from((block for block, _ in self._elements()), declared))
        self.names: Sequence[str] = tuple(declared or first_members(next((block for block, _ in self._elements()), b"")))
        if not self.names:
            raise WrongInput(f'{self.name}: the array has no objects; expected objects such as {{"id": 1}}, or no file')

    def _elements(self) -> Iterator[tuple[bytes, int]]:
        """Blocks of elements, each ended by a line feed, and the number of elements before."""
        return elements(self.name, self.text(), self._start, self._levels, self.limits.line)

    def batches(self) -> Iterator[Any]:
        texts, reader = _Texts(self.names), ObjectLines(self.names, self.limits)
        for block, before in self._elements():
            batch = reader.batch(block, before + 1)
            if batch.num_rows:
                yield texts.of(batch)

    def raw(self, lines: Any, spans: Any) -> Iterator[Any]:
        import numpy as np

        for block, before in self._elements():
            parts = block.split(b"\n")[:-1]
            first, last = np.searchsorted(lines, [before + 1, before + len(parts) + 1])
            if first < last:
                wanted = lines[first:last]
                yield raw_table(wanted, [shown(parts[line - before - 1].strip()) for line in wanted.tolist()])

    def place(self, line: int) -> str:
        return f"element {line}"
