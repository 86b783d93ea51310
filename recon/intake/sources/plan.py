"""The SQL that cleans and checks the rows of one file: nested selects over a converter's batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recon.config.settings import Limits
from recon.intake.files.checks import checks
from recon.intake.files.spec import EventSpec
from recon.intake.sources.load import Source
from recon.intake.sources.sections import Column, filled
from recon.vocabulary.duckdb import literal, quoted
from recon.vocabulary.types import Type

SUM = "DECIMAL(38, 9)"
"""The type in which a trailer's sums are taken."""
ROWS = "recon_source_rows"
"""The view that a batch is registered as: line, span, problem, f0 (the file's first column), then the kept columns as t0, t1, …"""


@dataclass(frozen=True)
class Change:
    """A count of values that a cleaning step changed. ``flag``: a boolean column of the query."""

    column: str
    step: str
    flag: str


@dataclass(frozen=True)
class Report:
    """Rows that fail a check with ``otherwise: report``. ``message``: a text column of the query, null where the row passes."""

    check: str
    message: str


@dataclass(frozen=True)
class Plan:
    """``query`` over ``ROWS`` gives line, span, reason, prefix, broken, the clean texts c0, c1, … in the order of the source's columns, the
    flags of ``changes``, the messages of ``reports``, and for a column 2 that a trailer sums its number s2. prefix: of a dropped line or a
    trailer, if the first field begins with it, else null. broken: whether the row has a problem before it is cleaned. ``references``:
    (table with the column ``v``, file, column) that it needs."""

    query: str
    changes: tuple[Change, ...]
    reports: tuple[Report, ...]
    references: tuple[tuple[str, Path, str], ...]


def plan_of(source: Source, parts: Mapping[str, str], zone: str | None) -> Plan:
    """The plan for a file whose name has these ``parts``. ``zone``: of times that name none, as the reconciliation declares it."""
    names = list(source.kept)
    changes, cleaned = _cleaned(source, ROWS)
    typed = EventSpec((), (), None, dict(source.types), zone=zone, limits=Limits())
    sql = checks(typed)
    flags = [change.flag for change in changes]
    steps = cleaned
    for step in (("line", "span", "problem", "prefix", *flags, *sql.attempts), ("*", *sql.plain), ("*", *sql.values)):
        steps = f"(SELECT {', '.join(step)} FROM {steps})"
    found = _Checks(source, parts)
    for position, (name, column) in enumerate(source.kept.items()):
        found.add(name, column, f"t{position}", f"v{position}")
    reason = f"coalesce({', '.join([f'({sql.reason})', *found.rejecting])})"
    texts = ", ".join(f"t{position} AS c{position}" for position in range(len(names)))
    reports = ", ".join(f"{sql_text} AS {report.message}" for report, sql_text in found.reporting)
    summed = source.section.trailer.sums if source.section.trailer else {}
    sums = [f"CASE WHEN {_is_summed(at)} THEN try_cast(t{at} AS {SUM}) END AS s{at}" for at in map(names.index, summed)]
    apart = f"line, span, {reason} AS reason, prefix, problem IS NOT NULL AS broken"
    columns = ", ".join(filter(None, [apart, texts, *flags, *sums, reports]))
    return Plan(f"SELECT {columns} FROM {steps}", tuple(changes), tuple(report for report, _ in found.reporting), tuple(found.references))


def _is_summed(position: int) -> str:
    """SQL that is true where a text loses no digit in the type of sums."""
    return f"NOT regexp_matches(t{position}, '\\.[0-9]{{9}}[0-9]*[1-9]|[eE]-')"


def _cleaned(source: Source, rows: str) -> tuple[list[Change], str]:
    """The flags of the cleaning steps, and SQL of the rows after them: a select for the first step of every column, one for the second …"""
    changes: list[Change] = []
    begins = " ".join(f"WHEN starts_with(f0, {literal(prefix)}) THEN {literal(prefix)}" for prefix in line_prefixes(source))
    prefix = f"CASE {begins} END" if begins else "CAST(NULL AS VARCHAR)"
    apart = f"CASE WHEN problem IS NULL AND {prefix} IS NOT NULL THEN {literal(APART)} ELSE problem END AS problem"
    relation = f"(SELECT * REPLACE ({apart}), {prefix} AS prefix FROM {rows})"
    depth = max(len(column.clean) for column in source.kept.values())
    for level in range(depth):
        replaced, flags = [], []
        for position, (name, column) in enumerate(source.kept.items()):
            if level >= len(column.clean):
                continue
            step, text = column.clean[level], f"t{position}"
            flag = f"x{position}_{level}"
            replaced.append(f"{step.sql(text)} AS {text}")
            flags.append(f"({step.sql(text)} IS DISTINCT FROM {text}) AS {flag}")
            changes.append(Change(name, step.shown, flag))
        relation = f"(SELECT * REPLACE ({', '.join(replaced)}), {', '.join(flags)} FROM {relation})"
    return changes, relation


APART = "set apart"
"""The problem of a line that begins as a dropped line or a trailer."""


def line_prefixes(source: Source) -> list[str]:
    """How the lines begin that are no rows: the trailer, then the dropped lines."""
    trailer = source.section.trailer
    return [*([trailer.prefix] if trailer else []), *source.section.drop]


@dataclass
class _Checks:
    """Collects the checks of a source's columns as SQL texts that are null where a row passes."""

    source: Source
    parts: Mapping[str, str]
    rejecting: list[str] = field(default_factory=list)
    reporting: list[tuple[Report, str]] = field(default_factory=list)
    references: list[tuple[str, Path, str]] = field(default_factory=list)

    def add(self, name: str, column: Column, text: str, value: str) -> None:
        """The checks of one column. ``text``, ``value``: SQL of its clean text, null where empty, and of its typed value."""
        kind = self.source.types[name]
        if column.required:
            self._check(column, f"{name}: required", f"{text} IS NULL", literal(f"{name}: the value is missing"))
        shown = f"{literal(name + ': ')} || '''' || left({text}, 60) || ''' '"
        for check, fails, says in self._value_checks(name, column, text, value, kind):
            self._check(column, f"{name}: {check}", f"{text} IS NOT NULL AND {fails}", f"{shown} || {literal(says)}")

    def _value_checks(self, name: str, column: Column, text: str, value: str, kind: Type) -> list[tuple[str, str, str]]:
        """(name of the check, SQL that is true where it fails, message after the value)"""
        found = []
        if column.values:
            listed = ", ".join(literal(allowed) for allowed in column.values)
            found.append(("values", f"{text} NOT IN ({listed})", f"is not one of {', '.join(column.values)[:200]}"))
        if column.pattern:
            fails = f"NOT regexp_full_match({text}, {literal(column.pattern)})"
            found.append(("pattern", fails, f"does not match {column.pattern}"))
        for bound, limit, sign in (("min", column.min, "<"), ("max", column.max, ">")):
            if limit is not None:
                fails = f"{value} {sign} CAST({literal(limit)} AS {kind.duckdb})"
                found.append((bound, fails, f"is {'less' if bound == 'min' else 'more'} than {limit}"))
        if column.reference:
            table = f"recon_reference_{len(self.references)}"
            self.references.append((table, self.source.path.parent.parent / column.reference.file, column.reference.column))
            says = f"is not in column {column.reference.column!r} of {column.reference.file}"
            found.append(("reference", f"{text} NOT IN (SELECT v FROM {quoted(table)})", says))
        if column.equals:
            expected = filled(column.equals, self.parts)
            found.append(("equals", f"{text} <> {literal(expected)}", f"is not {expected}, which the file's name says"))
        return found

    def _check(self, column: Column, check: str, fails: str, message: str) -> None:
        sql = f"CASE WHEN {fails} THEN {message} END"
        if column.otherwise == "reject":
            self.rejecting.append(sql)
        else:
            self.reporting.append((Report(check, f"m{len(self.reporting)}"), sql))
