"""Criteria that each row has of its own, such as ``[@region]`` or ``">="&[@from]``: as those of ``criteria``, with the row's value.

A blank of the row is 0, as in Excel, and after a sign nothing, so that only ``<>`` finds something: what is not blank. A text may have
wildcards. A text that begins with a sign is refused by its row, since it would hide what is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from recon.errors import WrongInput, WrongUsage
from recon.transformations.formulas.compile import NUMBER_IN_TEXT, number_in_text
from recon.transformations.operations.matching import is_pattern, like_pattern
from recon.transformations.operations.port import Plan
from recon.transformations.operations.table import ROW, Column, Table
from recon.vocabulary.types import TEXT, Type, as_decimal, common

Sign = Literal["=", "<>", "<", "<=", ">", ">="]


@dataclass(frozen=True)
class PerRow:
    """``theirs`` ``sign`` ``mine``: a column of the other table beside one of the row's."""

    theirs: Column
    sign: Sign
    mine: Column


@dataclass(frozen=True)
class Test:
    """A criterion in SQL. ``mine``: what is compared, of a row t. ``fits``: the names of these → whether a row of the other table fits.
    ``key``: that row's key, if fitting is to have the key ``mine``, which is one then; None if there is more to it."""

    mine: Sequence[str]
    fits: Callable[[Sequence[str]], str]
    key: str | None = None


def test_of(plan: Plan, table: Table, row: PerRow) -> Test:
    """Raises WrongUsage for types that do not compare, WrongInput for a text that begins with a sign."""
    if row.sign not in ("=", "<>"):
        return _ordered(row)
    mine, theirs = _keys(row)
    value = row.theirs.value
    code = "" if row.theirs.error is None else f" AND {row.theirs.error} IS NULL"
    both_texts = row.mine.type == row.theirs.type == TEXT
    pattern = f"CASE WHEN {is_pattern(f't.{row.mine.value}')} THEN {like_pattern(f'lower(t.{row.mine.value})')} END"

    def same(names: Sequence[str]) -> str:
        equal = f"{theirs} = {names[0]}"
        if both_texts:
            equal = f"CASE WHEN {names[1]} IS NULL THEN {equal} ELSE lower({value}) LIKE {names[1]} ESCAPE '!' END"
        return f"coalesce(({equal}){code}, false)"

    def differs(names: Sequence[str]) -> str:
        there = f"({value} IS NOT NULL OR {row.theirs.code} IS NOT NULL)"
        return f"CASE WHEN {names[-1]} THEN {there} ELSE NOT {same(names)} END"

    compared = [mine, pattern] if both_texts else [mine]
    if row.sign == "<>":
        return Test([*compared, f"t.{row.mine.value} IS NULL"], differs)
    if _has_patterns(plan, table, row.mine) and both_texts:
        return Test(compared, same)
    return Test([mine], lambda names: f"coalesce(({theirs} = {names[0]}){code}, false)", theirs)


def _has_patterns(plan: Plan, table: Table, mine: Column) -> bool:
    """Whether a criterion has wildcards. Raises WrongInput for one that begins with a sign."""
    if plan.query is None or mine.type != TEXT:
        return False
    signs = " OR ".join(f"{mine.value} LIKE '{sign}%'" for sign in "<>=")
    signed = f"min(CASE WHEN {signs} THEN {ROW} END)"
    wild = f"count(CASE WHEN {is_pattern(mine.value)} THEN 1 END)"
    ((first, count),) = plan.query(f"SELECT {signed}, {wild} FROM {table.relation}")
    if first is not None:
        raise WrongInput(f"row {first}: the criterion in {mine.name!r} begins with a sign; name the sign in the request, and put only what")
    return bool(count)


def _ordered(row: PerRow) -> Test:
    mine, theirs, value = row.mine, row.theirs, row.theirs.value
    together = common(mine.type, theirs.type)
    if together is None or together.kind == "boolean":
        raise _unlike(row)
    if together == TEXT:
        return Test([f"lower(t.{mine.value})"], lambda names: f"lower({value}) {row.sign} {names[0]}")
    for kind in (as_decimal(column.type) for column in (mine, theirs) if together.kind == "decimal"):
        if kind.precision - kind.scale > together.precision - together.scale:
            raise WrongUsage(f"{mine.name!r} and {theirs.name!r} have more than 38 digits together; round one of them first")
    cast = f"CAST(t.{mine.value} AS {together.duckdb})"
    return Test([cast], lambda names: f"CAST({value} AS {together.duckdb}) {row.sign} {names[0]}")


def _unlike(row: PerRow) -> WrongUsage:
    mine, theirs = row.mine, row.theirs
    return WrongUsage(f"{mine.name!r} is {mine.type} and {theirs.name!r} is {theirs.type}, which do not compare; declare one as the other")


def _keys(row: PerRow) -> tuple[str, str]:
    """SQL of the row's key, of a row t, and of the other's, equal where the values are. Raises WrongUsage for types that never are."""
    mine, theirs = row.mine, row.theirs
    kinds = {mine.type.kind, theirs.type.kind}
    if TEXT in (mine.type, theirs.type) and kinds <= {"text", "integer", "decimal"}:
        numbers = [column.type for column in (mine, theirs) if column.type != TEXT]
        together = common(numbers[0], NUMBER_IN_TEXT) if numbers else NUMBER_IN_TEXT
        assert together is not None, "numbers have a common type"
        zero = f"CAST(CAST(0 AS {together.duckdb}) AS VARCHAR)"
        return _text_key(f"t.{mine.value}", mine.type, together, zero), _text_key(theirs.value, theirs.type, together, "''")
    together = common(mine.type, theirs.type)
    if together is None:
        raise _unlike(row)
    if not together.is_number:
        return f"t.{mine.value}", theirs.value
    return f"TRY_CAST(CASE WHEN t.{mine.value} IS NULL THEN 0 ELSE t.{mine.value} END AS {together.duckdb})", (
        f"TRY_CAST({theirs.value} AS {together.duckdb})"
    )


def _text_key(value: str, kind: Type, together: Type, blank: str) -> str:
    """SQL of a key as a text, where texts and numbers are compared: a text that is a number is that number."""
    number = number_in_text(value) if kind == TEXT else value
    other = f"lower({value})" if kind == TEXT else "NULL"
    return f"CASE WHEN {value} IS NULL THEN {blank} ELSE coalesce(CAST(TRY_CAST({number} AS {together.duckdb}) AS VARCHAR), {other}) END"
