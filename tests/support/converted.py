"""Received files as they are converted: names, rows, raw texts and control totals, in plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from recon.config.settings import Limits
from recon.intake.converters import Control, Layout, Received
from recon.intake.converters.opening import open_conversion

LIMITS = Limits()
_LAYOUT: TypeAdapter[Any] = TypeAdapter(Layout)


@dataclass(frozen=True)
class Row:
    line: int
    span: int
    problem: str | None
    values: tuple[str | None, ...]


@dataclass(frozen=True)
class Converted:
    names: tuple[str, ...]
    rows: list[Row]
    raw: dict[int, str]
    controls: list[Control]

    @property
    def good(self) -> list[tuple[str | None, ...]]:
        return [row.values for row in self.rows if row.problem is None]

    @property
    def problems(self) -> dict[int, str]:
        return {row.line: row.problem for row in self.rows if row.problem is not None}

    @property
    def dicts(self) -> list[dict[str, str | None]]:
        return [dict(zip(self.names, values, strict=True)) for values in self.good]


def convert(
    folder: Path, content: bytes, layout: Any, declared: Sequence[str] | None = None, limits: Limits = LIMITS, name: str = "received"
) -> Converted:
    """Everything of a file with this content. Checks what holds for every conversion."""
    path = folder / f"content-of-{name.replace('/', '-')}"
    path.write_bytes(content)
    return convert_file(Received(name, path), layout, declared, limits)


def convert_file(received: Received, layout: Any, declared: Sequence[str] | None = None, limits: Limits = LIMITS) -> Converted:
    conversion = open_conversion(received, _LAYOUT.validate_python(layout), declared, limits)
    names = tuple(conversion.names)
    rows: list[Row] = []
    for batch in conversion.batches():
        assert batch.schema.names == ["line", "span", "problem", *(f"t{position}" for position in range(len(names)))]
        assert [str(kind) for kind in batch.schema.types] == ["int64", "int32"] + ["string"] * (1 + len(names))
        batch.validate(full=True)
        columns = [column.to_pylist() for column in batch.columns]
        rows += [Row(line, span, problem, tuple(values)) for line, span, problem, *values in zip(*columns, strict=True)]
    rows.sort(key=lambda row: row.line)
    assert len({row.line for row in rows}) == len(rows)
    lines, spans = np.array([row.line for row in rows], np.int64), np.array([row.span for row in rows], np.int64)
    raw = {line: text for table in conversion.raw(lines, spans) for line, text in zip(*table.to_pydict().values(), strict=True)}
    assert list(raw) == lines.tolist()
    assert all(conversion.place(line) for line in lines.tolist())
    return Converted(names, rows, raw, list(conversion.controls))
