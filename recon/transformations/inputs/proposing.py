"""Proposes types for columns that have none, by their values; for people to confirm, never applied by itself.

A number is proposed only where every value is one, exactly, or an error such as #N/A. Numbers with zeros in front and integers of more than
15 digits are rather names of things, such as accounts, and stay text; so do dates that are not written as 2026-11-30."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recon.intake.connections import connection
from recon.transformations.formulas.tree import ERRORS
from recon.transformations.inputs.opening import Opened
from recon.vocabulary.duckdb import literal, quoted
from recon.vocabulary.sql import text_form
from recon.vocabulary.types import BOOLEAN, DATE, DIGITS_MAX, INTEGER, TEXT, Type, decimal

if TYPE_CHECKING:
    import duckdb

ROWS_MAX = 200_000
"""Rows of an input that are looked at."""
_ID_DIGITS = 15
"""A sheet has no more digits of a number, so an integer with more was never meant as one."""
_MONEY_DIGITS = 18
_INTEGER, _FRACTION = r"\A[+-]?[0-9]+\z", r"\A[+-]?[0-9]+\.[0-9]+\z"
FORMS = {
    "2026-11-30": text_form(DATE),
    "30.11.2026": r"\A[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{4}\z",
    "11/30/2026": r"\A[0-9]{1,2}/[0-9]{1,2}/[0-9]{2,4}\z",
    "30-Nov-2026": r"\A[0-9]{1,2}-[A-Za-z]{3}-[0-9]{2,4}\z",
    "20261130": r"\A(19|20)[0-9]{2}(0[1-9]|1[0-2])([0-2][0-9]|3[01])\z",
}
"""Ways in which dates are written."""
_ISO, _COMPACT, _POINTS = "2026-11-30", "20261130", "30.11.2026"
_THOUSANDS = r"\A[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?\z"


@dataclass(frozen=True)
class Proposal:
    """``type``: text where ``why`` says why it stays so; "" where nothing is to be said."""

    column: str
    type: Type
    why: str = ""


@dataclass(frozen=True)
class Proposals:
    """``rows``: how many were looked at; ``all``: whether these are all."""

    rows: int
    all: bool
    columns: list[Proposal]


def propose(opened: Opened) -> Proposals:
    """Proposes the types of an input's undeclared columns. Reads up to ``ROWS_MAX`` rows. Raises WrongInput for a row that
    cannot be read."""
    at = {column: number for number, column in enumerate(opened.kinds)}
    places = {column: f"t{at[column]}" for column in opened.undeclared}
    counts: dict[str, dict[str, Any]] = {column: {} for column in places}
    rows, whole = 0, True
    if places:
        with connection(os.cpu_count() or 1) as connected:
            for batch in opened.batches():
                if rows >= ROWS_MAX:
                    whole = False
                    break
                rows += batch.num_rows
                for column, place in places.items():
                    _add(counts[column], _counted(connected, batch, place))
    return Proposals(rows, whole, [Proposal(column, *_judged(found)) for column, found in counts.items()])


def _counted(connected: duckdb.DuckDBPyConnection, batch: Any, text: str) -> dict[str, Any]:
    """Figures of a column in a batch: those named least_… are minima, most_… maxima, all others counts."""

    def matches(form: str) -> str:
        return f"regexp_matches({text}, {literal(form)})"

    error = f"{text} IN ({', '.join(map(literal, ERRORS))})"
    number = f"({matches(_INTEGER)} OR {matches(_FRACTION)})"
    day = f"TRY_CAST(regexp_extract({text}, {literal(FORMS[_ISO])}) AS DATE) IS NOT NULL"
    parts = {
        "values": f"count_if(NOT {error})",
        "errors": f"count_if({error})",
        "integers": f"count_if({matches(_INTEGER)})",
        "fractions": f"count_if({matches(_FRACTION)})",
        "zeros": f"count_if({matches('^[+-]?0[0-9]')})",
        "least_zero": f"min({text}) FILTER (WHERE {matches('^[+-]?0[0-9]')})",
        "most_before": f"max(length(regexp_extract({text}, '^[+-]?([0-9]+)', 1))) FILTER (WHERE {number})",
        "most_after": f"max(length(regexp_extract({text}, '[.]([0-9]+)$', 1))) FILTER (WHERE {number})",
        "truths": f"count_if(lower({text}) IN ('true', 'false'))",
        "thousands": f"count_if({matches(_THOUSANDS)})",
        "least_other": f"min({{line: line, text: {text}}}) FILTER (WHERE NOT {number} AND NOT {error})",
        **{name: f"count_if({day if name == _ISO else matches(form)})" for name, form in FORMS.items()},
    }
    connected.register("arriving", batch)
    listed = ", ".join(f"{sql} AS {quoted(name)}" for name, sql in parts.items())
    (found,) = connected.execute(f"SELECT {listed} FROM arriving WHERE {text} <> ''").fetchall()
    connected.unregister("arriving")
    return dict(zip(parts, found, strict=True))


def _add(to: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        before = to.get(name)
        if before is None or value is None:
            to[name] = value if before is None else before
        elif name.startswith("least_"):
            to[name] = min(before, value, key=lambda one: (one["line"], one["text"]) if isinstance(one, dict) else one)
        else:
            to[name] = max(before, value) if name.startswith("most_") else before + value


def _judged(found: dict[str, Any]) -> tuple[Type, str]:
    """The type, and why it is none but text."""
    values = found.get("values", 0)
    if not values:
        return TEXT, "every value is an error" if found.get("errors") else "every value is blank"
    if found["integers"] + found["fractions"] == values:
        return _with_errors(found, *_number(found))
    if found[_ISO] == values:
        return _with_errors(found, DATE)
    if found["truths"] == values:
        return _with_errors(found, BOOLEAN)
    return TEXT, _why_text(found, values)


def _with_errors(found: dict[str, Any], kind: Type, why: str = "") -> tuple[Type, str]:
    errors = f"{found['errors']:,} values are errors" if found["errors"] and kind != TEXT else ""
    return kind, "; ".join(filter(None, (why, errors)))


def _number(found: dict[str, Any]) -> tuple[Type, str]:
    before, after = int(found["most_before"]), int(found["most_after"] or 0)
    if found["zeros"]:
        return TEXT, f"{found['zeros']:,} values begin with a zero, such as {found['least_zero']}"
    if not found["fractions"]:
        if before > _ID_DIGITS:
            return (
                TEXT,
                f"it has numbers of {before} digits, more than a sheet keeps; write integer or decimal({before},0) if they are amounts",
            )
        if found[_COMPACT] == found["values"]:
            return INTEGER, f"every value could be a date such as {_COMPACT}"
        return INTEGER, ""
    if before + after > DIGITS_MAX:
        return TEXT, f"its values need {before + after} digits, and a decimal has at most {DIGITS_MAX}"
    return decimal(_MONEY_DIGITS if before + after <= _MONEY_DIGITS else DIGITS_MAX, after), ""


def _why_text(found: dict[str, Any], values: int) -> str:
    """What stands in the way of another type, where most values have one."""
    forms = {name: found[name] for name in FORMS if found[name] and name != _COMPACT}
    if sum(forms.values()) == values:
        if len(forms) > 1:
            listed = " and ".join(f"{count:,} as {name}" for name, count in forms.items())
            return f"its dates are written in {len(forms)} ways: {listed}; bring them into one"
        (form,) = forms
        means = "DATE, LEFT, MID and RIGHT make dates of them" if form == _POINTS else "DATEVALUE reads them, the month first"
        return f"its dates are written as {form}; {means}"
    numbers = found["integers"] + found["fractions"]
    if numbers + found["thousands"] == values:
        return f"{found['thousands']:,} numbers have commas; VALUE reads them"
    if numbers * 10 >= values * 9:
        other = found["least_other"]
        return f"{values - numbers:,} of {values:,} values are no numbers, first {other['text'][:40]!r} in row {other['line']}"
    return ""
