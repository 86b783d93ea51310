"""Cleaning steps: each a DuckDB expression over a text column, in one place with its name and argument.

A step that cannot read a text leaves it unchanged, so that the check of the column's type rejects it with the text as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from recon.config.fields import mistake
from recon.model.cleaning import cleaned_sql
from recon.vocabulary.duckdb import computed, literal

Sql = Callable[[str, str], str]
"""(SQL of the text, argument) → SQL of the cleaned text."""
_DIGITS = r"[0-9][0-9.,'’ \x{A0}\x{202F}]*"


@dataclass(frozen=True)
class Step:
    """``name`` with its ``argument``, "" for none."""

    name: str
    argument: str = ""

    @property
    def shown(self) -> str:
        return f"{self.name}: {self.argument}" if self.argument else self.name

    def sql(self, text: str) -> str:
        """The cleaned text of the SQL ``text``."""
        return STEPS[self.name].sql(text, self.argument)


@dataclass(frozen=True)
class _Kind:
    """``argument``: an example, "" where the step takes none. ``check`` raises ValueError for a wrong argument."""

    sql: Sql
    argument: str = ""
    check: Callable[[str], object] = str


def _collapse(text: str, _: str) -> str:
    return f"regexp_replace({text}, '[\\s\\x{{A0}}\\x{{2000}}-\\x{{200A}}\\x{{202F}}\\x{{205F}}\\x{{3000}}]+', ' ', 'g')"


def _control(text: str, _: str) -> str:
    return f"regexp_replace({text}, '[\\x{{0}}-\\x{{1F}}\\x{{7F}}-\\x{{9F}}]', '', 'g')"


def _strip(text: str, characters: str) -> str:
    return f"translate({text}, {literal(characters)}, '')"


def _only_numbers(pattern: str, text: str, changed: str) -> str:
    return f"CASE WHEN regexp_full_match({text}, '{pattern}') THEN {changed} ELSE {text} END"


def _thousands(text: str, mark: str) -> str:
    """Removes the marks of a number whose groups have three digits (the first one to three); ``12,34`` stays."""
    quoted = re.escape(mark) if mark != "'" else "''"
    fraction = "[.,]?" if mark not in ".," else re.escape("," if mark == "." else ".")
    return _only_numbers(rf"[+-]?[0-9]{{1,3}}({quoted}[0-9]{{3}})+({fraction}[0-9]+)?", text, f"replace({text}, {literal(mark)}, '')")


def _decimal(text: str, mark: str) -> str:
    return _only_numbers(rf"[+-]?[0-9]*{re.escape(mark)}[0-9]+", text, f"replace({text}, {literal(mark)}, '.')")


def _parentheses(text: str, _: str) -> str:
    return _only_numbers(rf"\({_DIGITS}\)".replace("'", "''"), text, f"'-' || {text}[2:-2]")


def _trailing_minus(text: str, _: str) -> str:
    return _only_numbers(rf"{_DIGITS}-".replace("'", "''"), text, f"'-' || rtrim({text}[:-2])")


def _date(text: str, form: str) -> str:
    """A day, or a time where the format has a clock; in ISO form. strptime takes what the format says and nothing else."""
    clock = any(part in form for part in ("%H", "%I", "%M", "%S", "%T", "%c", "%X"))
    return f"coalesce(strftime(try_strptime({text}, {literal(form)}), '{'%Y-%m-%dT%H:%M:%S' if clock else '%Y-%m-%d'}'), {text})"


_EPOCHS = {"s": 1_000_000, "ms": 1_000, "us": 1}


def _epoch(text: str, unit: str) -> str:
    micros = f"try_cast(try_cast({text} AS DECIMAL(38,6)) * {_EPOCHS[unit]} AS BIGINT)"
    return f"coalesce(strftime(make_timestamp({micros}), '%Y-%m-%dT%H:%M:%S.%f') || 'Z', {text})"


def _default(text: str, value: str) -> str:
    return f"coalesce(nullif({text}, ''), {literal(value)})"


def _blank(text: str, value: str) -> str:
    return f"CASE WHEN {text} = {literal(value)} THEN '' ELSE {text} END"


def _one_character(argument: str) -> None:
    if len(argument) != 1 or argument.isalnum():
        raise ValueError("one character such as ',' is expected")


def _date_format(form: str) -> None:
    import duckdb

    try:
        computed("try_strptime('', ?)", form)
    except duckdb.Error as error:
        raise ValueError(str(error).splitlines()[0]) from None


def _unit(argument: str) -> None:
    if argument not in _EPOCHS:
        raise ValueError("s, ms or us is expected")


STEPS: dict[str, _Kind] = {
    "trim": _Kind(lambda text, _: cleaned_sql(text, ["trim"])),
    "strip_format": _Kind(lambda text, _: cleaned_sql(text, ["strip_format"])),
    "nfc": _Kind(lambda text, _: cleaned_sql(text, ["nfc"])),
    "collapse": _Kind(_collapse),
    "control": _Kind(_control),
    "upper": _Kind(lambda text, _: f"upper({text})"),
    "lower": _Kind(lambda text, _: f"lower({text})"),
    "strip": _Kind(_strip, "'€ '"),
    "thousands": _Kind(_thousands, "','", _one_character),
    "decimal": _Kind(_decimal, "','", _one_character),
    "parentheses": _Kind(_parentheses),
    "trailing_minus": _Kind(_trailing_minus),
    "date": _Kind(_date, "'%d/%m/%Y'", _date_format),
    "epoch": _Kind(_epoch, "s", _unit),
    "default": _Kind(_default, "EUR"),
    "blank": _Kind(_blank, "N/A"),
}
"""trim, strip_format, nfc: as for keys. collapse: runs of blanks are one blank. control: control characters are removed. strip: these
characters are removed. thousands, decimal: marks of a number. parentheses, trailing_minus: negative numbers. date, epoch: times in the
source's form become ISO 8601. default: for an empty value. blank: this text is an empty value."""


def parse_step(written: object) -> Step:
    """``trim``, or ``{date: '%d/%m/%Y'}``. Raises a mistake that says what is expected."""
    if isinstance(written, dict) and len(written) == 1:
        ((name, argument),) = written.items()
        step = Step(str(name), str(argument))
    elif isinstance(written, str):
        step = Step(written)
    else:
        raise mistake(f"{written!r} is no step; write a name such as trim, or {{date: '%d/%m/%Y'}}")
    kind = STEPS.get(step.name)
    if kind is None:
        raise mistake(f"{step.name!r} is no cleaning step; there are {', '.join(STEPS)}")
    if bool(kind.argument) != bool(step.argument):
        raise mistake(f"{step.name}: write {{{step.name}: {kind.argument}}}" if kind.argument else f"{step.name} takes no argument")
    try:
        kind.check(step.argument)
    except ValueError as error:
        raise mistake(f"{step.shown}: {error}") from None
    return step
