"""Counts of a relation's rows and errors, and sums of its numbers: one pass for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recon.transformations.engines.port import Engine
from recon.transformations.formulas.tree import TEXTS
from recon.transformations.operations.table import Column

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
    counts = [f"count({column.error})" for column in can_be_wrong]
    found = engine.totals(relation, ["count(*)", *counts, *(f"sum({column.value})" for column in numbers)])
    rows, wrong, sums = int(found[0]), found[1 : 1 + len(counts)], found[1 + len(counts) :]
    errors = {
        column.name: _kinds(engine.kinds(relation, str(column.error))) for column, count in zip(can_be_wrong, wrong, strict=True) if count
    }
    return Figures(rows, errors, {column.name: str(total) for column, total in zip(numbers, sums, strict=True)})


def _kinds(found: Sequence[tuple[Any, Any, Any]]) -> dict[str, dict[str, int]]:
    return {TEXTS[int(code)]: {"count": int(count), "first_row": int(first)} for code, count, first in found}
