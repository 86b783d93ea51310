"""Fixed width: fields at declared characters of each line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from recon.config.settings import Limits
from recon.errors import WrongInput
from recon.intake.converters.layouts import Fixed
from recon.intake.converters.lines import Lines, batch
from recon.intake.converters.port import Received
from recon.intake.converters.text import TextFile


class FixedRows(TextFile):
    """One row a line. Blank lines are left out; so are the characters that no field declares."""

    def __init__(self, received: Received, layout: Fixed, declared: Sequence[str] | None, limits: Limits) -> None:
        super().__init__(received, limits)
        self._layout = layout
        self.names: Sequence[str] = tuple(layout.fields)
        missing = [name for name in declared or () if name not in layout.fields]
        if missing:
            raise WrongInput(f"{self.name}: no field {missing[0]!r} is declared; add its characters to fields, such as {missing[0]}: 1-10")

    def batches(self) -> Iterator[Any]:
        for first, block in self.line_blocks():
            lines = Lines(block, first)
            keep = ~lines.blank & (lines.numbers > self._layout.skip)
            if not keep.any():
                continue
            texts = [lines.slices(start, last) for start, last in self._layout.fields.values()]
            found = batch(lines.numbers, 1, self._problems(lines), texts)
            yield found if keep.all() else found.filter(keep)

    def _problems(self, lines: Lines) -> Any:
        problems, length = lines.problems(), self._layout.length
        if length is not None:
            for row in (lines.lengths != length).nonzero()[0].tolist():
                problems[row] = problems[row] or f"{lines.lengths[row]:,} characters, declared are {length:,}"
        return problems
