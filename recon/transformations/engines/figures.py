"""Counts of a relation's rows and errors, and sums of its numbers: one pass for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.storage import parquet
from recon.transformations.engines.port import Engine
from recon.transformations.formulas.tree import TEXTS
from recon.transformations.operations.table import ROW, Column
from recon.vocabulary.duckdb import quoted

_ONE_KIND = ("count({})", "min({})", "max({})", f"min(CASE WHEN {{}} IS NOT NULL THEN {ROW} END)")
"""What says all of the errors in a column, if they are of one kind."""
Errors = dict[str, dict[str, dict[str, int]]]
"""Column → kind of error → ``count`` and ``first_row``."""


@dataclass(frozen=True)
class Figures:
    """``sums``: by column, as text; empty unless asked for."""

    rows: int
    errors: Errors
    sums: dict[str, str]


def figures_of(engine: Engine, relation: str, errors_of: Sequence[Column], sums_of: Sequence[Column] = ()) -> Figures:
    """The rows of a relation, the errors in some columns and the sums of some."""
    can_be_wrong = [column for column in errors_of if column.error is not None]
    numbers = [column for column in sums_of if column.type.is_number]
    asked = _ONE_KIND if engine.late else ("count({})",)
    counts = [what.format(column.error) for column in can_be_wrong for what in asked]
    found = engine.totals(relation, ["count(*)", *counts, *(f"sum({column.value})" for column in numbers)])
    rows, wrong, sums = int(found[0]), found[1 : 1 + len(counts)], found[1 + len(counts) :]
    errors = {}
    for at, column in enumerate(can_be_wrong):
        count, *ends = wrong[at * len(asked) : (at + 1) * len(asked)]
        if count:
            one_kind = ends and ends[0] == ends[1]
            errors[column.name] = _kinds([(ends[0], count, ends[2])] if one_kind else engine.kinds(relation, str(column.error)))
    return Figures(rows, errors, {column.name: str(total) for column, total in zip(numbers, sums, strict=True)})


def sums_in(engine: Engine, path: Path, columns: Sequence[Column]) -> dict[str, str]:
    """The sums of number columns as they stand in a Parquet file: no column is computed once more."""
    numbers = [column for column in columns if column.type.is_number]
    engine.make("written", f"SELECT * FROM {parquet.scan(path)}", stored=False)
    found = engine.totals("written", ["count(*)", *(f"sum({quoted(column.name)})" for column in numbers)])
    engine.drop("written")
    return {column.name: str(total) for column, total in zip(numbers, found[1:], strict=True)}


def _kinds(found: Sequence[tuple[Any, Any, Any]]) -> dict[str, dict[str, int]]:
    return {TEXTS[int(code)]: {"count": int(count), "first_row": int(first)} for code, count, first in found}
