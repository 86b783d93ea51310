"""Files whose rows are in groups with control totals, such as a bank's statements: what their converters share.

A group's total comes after its rows, and rows of a group that does not tie are rejected however many there are. So the rows are made once,
and wait in a file until the last total is known."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Context
from pathlib import Path
from typing import Any, NamedTuple

from recon.intake.converters.port import Control

EXACT = Context(prec=200)
"""Adds amounts of banks without rounding; the usual context has 28 digits, and an amount of camt.053 may have 35."""
_BATCH_ROWS = 16_384
_BATCHES_HELD = 4
"""Batches that wait in memory: most files have no more, and need no file."""


class Row(NamedTuple):
    """``values``: a text or None per name; empty for a row that can't be read. ``groups``: that it belongs to, such as its statement."""

    line: int
    span: int
    values: tuple[str | None, ...]
    problem: str | None = None
    groups: tuple[object, ...] = ()


@dataclass(frozen=True)
class Tie:
    """The control total of a group. ``subject``: its name in the reason, such as "statement 7". ``missing``: the reason where there is no
    figure to tie to."""

    group: object
    subject: str
    control: Control
    missing: str | None = None

    @property
    def reason(self) -> str | None:
        """Why the group's rows are rejected; None if it ties."""
        if self.missing is not None:
            return f"{self.subject}: {self.missing}"
        if self.control.ties:
            return None
        return f"{self.subject} does not tie: {self.control.what} declared {self.control.declared}, its rows give {self.control.computed}"


def tied_batches(events: Iterable[Row | Tie], width: int, controls: list[Control], scratch: Path | None) -> Iterator[Any]:
    """Batches of the rows, each of ``width`` values. Fills ``controls``. ``scratch``: a folder for the rows that wait, in the end at most
    about as large as the file; None for the system's temporary folder."""
    reasons: dict[object, str] = {}
    waiting = _Waiting(width)
    controls.clear()
    with tempfile.TemporaryFile(dir=scratch, prefix="recon-rows-") as file:
        rows: list[Row] = []
        for event in events:
            if type(event) is Row:
                rows.append(event)
                if len(rows) == _BATCH_ROWS:
                    waiting.add(rows, file)
                    rows = []
            elif isinstance(event, Tie):
                controls.append(event.control)
                if (reason := event.reason) is not None:
                    reasons.setdefault(event.group, reason)
        waiting.add(rows, file)
        yield from waiting.tied(reasons, file)


class _Waiting:
    """Batches in the order of their rows, the first in memory and the others in a file. Beside its columns a batch has the place of each
    row's groups in ``_groups``."""

    def __init__(self, width: int) -> None:
        import pyarrow as pa

        texts = [(f"t{position}", pa.string()) for position in range(width)]
        self._schema = pa.schema([("line", pa.int64()), ("span", pa.int32()), ("problem", pa.string()), *texts, ("groups", pa.int32())])
        self._nothing = (None,) * width
        self._groups: dict[tuple[object, ...], int] = {}
        self._held: list[Any] = []
        self._writer: Any = None

    def add(self, rows: list[Row], file: Any) -> None:
        import pyarrow as pa

        if not rows:
            return
        lines, spans, values, problems, groups = zip(*rows, strict=True)
        if not all(values):
            values = tuple(each or self._nothing for each in values)
        known = self._groups
        places = [known.setdefault(each, len(known)) for each in groups]
        columns = [lines, spans, problems, *zip(*values, strict=True), places]
        arrays = [pa.array(column, kind) for column, kind in zip(columns, self._schema.types, strict=True)]
        batch = pa.record_batch(arrays, schema=self._schema)
        if self._writer is None and len(self._held) < _BATCHES_HELD:
            self._held.append(batch)
            return
        if self._writer is None:
            self._writer = pa.ipc.new_stream(file, self._schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))
        self._writer.write_batch(batch)

    def tied(self, reasons: dict[object, str], file: Any) -> Iterator[Any]:
        """All batches, without the column of groups: the rows of groups with a reason have it as problem, unless they have one of their
        own."""
        import pyarrow as pa

        wrong = [next((reasons[group] for group in groups if group in reasons), None) for groups in self._groups] if reasons else []
        reason_of = pa.array(wrong, pa.string())
        while self._held:
            yield _with_reasons(self._held.pop(0), reason_of)
        if self._writer is not None:
            self._writer.close()
            file.seek(0)
            for batch in pa.ipc.open_stream(file):
                yield _with_reasons(batch, reason_of)


def _with_reasons(batch: Any, reason_of: Any) -> Any:
    import pyarrow.compute as pc

    groups, problem = batch.column("groups"), batch.column("problem")
    rows = batch.drop_columns(["groups"])
    if not len(reason_of):
        return rows
    return rows.set_column(2, "problem", pc.coalesce(problem, reason_of.take(groups)))
