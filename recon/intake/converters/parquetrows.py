"""Parquet: its columns as exact text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from recon.config.settings import Limits
from recon.errors import WrongInput
from recon.intake.converters.lines import batch as made
from recon.intake.converters.port import Control, Received
from recon.intake.converters.text import not_empty
from recon.intake.files.formats import BROKEN_UTF8, Format, refuse_expansion
from recon.intake.files.inspect import check_magic, require_names
from recon.intake.files.parquet import arrow_batches, as_text, open_parquet, refuse_nested, whole_numbers
from recon.intake.files.raw import raw_rows
from recon.intake.files.spec import SourceFile


class ParquetRows:
    """A line is a row's number. Floats that are whole numbers are their digits, others the shortest text that reads back as the same."""

    def __init__(self, received: Received, declared: Sequence[str] | None, limits: Limits) -> None:
        self.name = received.shown
        self.controls: list[Control] = []
        self._file = SourceFile(self.name, received.path, declared=Format("parquet", None))
        check_magic(self.name, not_empty(received), "Parquet")
        opened = open_parquet(self._file)
        self.names: Sequence[str] = tuple(opened.schema_arrow.names)
        require_names(self.name, "the schema", self.names, declared or ())
        for name in declared or ():
            refuse_nested(opened.schema_arrow.field(name).type, f"{self.name}: column {name!r}")
        rows, groups = opened.metadata.num_rows, range(opened.metadata.num_row_groups)
        if rows > limits.rows:
            raise WrongInput(
                f"{self.name}: it has {rows:,} rows, at most {limits.rows:,}; split it, or raise limits.rows in the configuration"
            )
        stated = sum(opened.metadata.row_group(group).total_byte_size for group in groups)
        refuse_expansion(self.name, received.path.stat().st_size, max(stated, rows * len(self.names) * 8), limits)

    def batches(self) -> Iterator[Any]:
        import numpy as np

        row = 1
        for found in arrow_batches(self._file, None):
            problems = np.full(found.num_rows, None, object)
            texts = []
            for name, column in zip(self.names, found.columns, strict=True):
                text, broken = _text(column, f"{self.name}: column {name!r}")
                if broken is not None:
                    problems[broken] = BROKEN_UTF8
                texts.append(text)
            yield made(np.arange(row, row + found.num_rows), 1, problems, texts)
            row += found.num_rows

    def raw(self, lines: Any, spans: Any) -> Iterator[Any]:
        return raw_rows(self._file, lines, spans)

    def place(self, line: int) -> str:
        return f"row {line}"


def _text(column: Any, what: str) -> tuple[Any, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_nested(column.type):  # no column that the source uses
        values = (None if value is None else json.dumps(value, default=str, ensure_ascii=False) for value in column.to_pylist())
        return pa.array(values, pa.string()), None
    if not pa.types.is_floating(column.type):
        return as_text(column, what)
    whole = pc.fill_null(whole_numbers(column), False)
    digits = pc.if_else(whole, column, pa.scalar(None, column.type)).cast(pa.int64()).cast(pa.string())
    return pc.if_else(whole, digits, column.cast(pa.string())), None
