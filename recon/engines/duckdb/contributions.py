"""Contributions in DuckDB: their type, their JSON form, and the fold of a list of them into measures, derived values and status.

Belongs here: SQL fragments over a list of contributions named ``c``. Does not belong here: which contributions a key holds (merging).
The record's form is decided in docs/decisions/001-contributions-and-duplicates.md.
"""

from __future__ import annotations

import json

from recon.config import Config, Measure
from recon.engines.duckdb.reduction import measure
from recon.engines.duckdb.session import literal, quoted
from recon.vocabulary import emit_duckdb
from recon.vocabulary.duckdb import to_text
from recon.vocabulary.types import Type


def measure_type(item: Measure) -> str:
    """SQL type of a measure inside a contribution."""
    if item.kind in ("first", "last"):
        return f"STRUCT(t VARCHAR, i VARCHAR, v {item.type.duckdb})"
    return item.type.duckdb


def contribution_type(config: Config) -> str:
    """SQL type of one contribution."""
    measures = ", ".join(f"{quoted(item.name)} {measure_type(item)}" for item in config.measures)
    return f"STRUCT(w VARCHAR, n BIGINT, d BIGINT, ids UBIGINT[], m STRUCT({measures}))"


def from_artifact(config: Config, window: str) -> str:
    """A row of stateless artifacts as the contribution of ``window``, an SQL text expression."""
    return f"{{'w': {window}, 'n': n, 'd': 0::BIGINT, 'ids': ids, 'm': {measures_struct(config)}}}"


def measures_struct(config: Config) -> str:
    """The ``m`` of a contribution from the columns ``m_<name>`` of reduced events."""
    parts = []
    for item in config.measures:
        value = measure(item.name)
        if item.kind in ("first", "last"):
            event_id = f"CASE WHEN {value}.z THEN NULL ELSE {value}.i END"
            picked = f"{{'t': {value}.t, 'i': {event_id}, 'v': {value}.v}}"
            value = f"CASE WHEN {value} IS NULL THEN NULL ELSE {picked} END"
        parts.append(f"{literal(item.name)}: {value}")
    return f"{{{', '.join(parts)}}}"


def record_structure(config: Config) -> str:
    """What ``from_json_strict`` reads of a record, as an SQL literal."""

    def of(item: Measure) -> object:
        if item.kind in ("first", "last"):
            return {"t": "VARCHAR", "i": "VARCHAR", "v": item.type.duckdb}
        return item.type.duckdb

    contribution = {"w": "VARCHAR", "n": "BIGINT", "d": "BIGINT", "ids": ["UBIGINT"]}
    return literal(
        json.dumps(
            {
                "key": "VARCHAR",
                "status": "VARCHAR",
                "contributions": [{**contribution, "m": {item.name: of(item) for item in config.measures}}],
                "withdrawn": ["VARCHAR"],
            }
        )
    )


def fold_measure(item: Measure) -> str:
    """One measure over the list ``c``; null where there is nothing to fold, as over no events."""
    value = f"x.m.{quoted(item.name)}"
    values = f"list_transform(c, lambda x: {value})"
    if item.kind in ("sum", "count"):
        return f"CAST(list_sum({values}) AS {item.type.duckdb})"
    if item.kind in ("min", "max"):
        return f"list_{item.kind}({values})"
    # Ties in (time, id) between windows go by the window, as they go by file and line within one.
    held = f"list_filter(c, lambda x: {value} IS NOT NULL)"
    order = f"{{'t': {value}.t, 'z': {value}.i IS NULL, 'i': coalesce({value}.i, ''), 'w': x.w, 'v': {value}.v}}"
    ordered = f"list_transform({held}, lambda x: {order})"
    return f"list_{'min' if item.kind == 'first' else 'max'}({ordered}).v"


def folded(config: Config, source: str, carried: str = "") -> str:
    """SELECT over ``source`` (which has a list ``c``): m_<name> per measure, x_<name> per derived value, ``status``.

    ``carried`` are further columns of the source, each with a comma behind. Without contributions all of it is null."""
    measures = ", ".join(f"{fold_measure(item)} AS {measure(item.name)}" for item in config.measures)
    query = f"SELECT {carried} c, {measures} FROM {source}"
    names = {item.name: measure(item.name) for item in config.measures}
    for item in config.derived:
        value = f"CASE WHEN len(c) > 0 THEN {emit_duckdb(item.expression, names)} END"
        query = f"SELECT *, {value} AS {derived(item.name)} FROM ({query})"
        names[item.name] = derived(item.name)
    cases = " ".join(f"WHEN {emit_duckdb(item.expression, names)} THEN {literal(item.name)}" for item in config.status)
    status = f"CASE WHEN len(c) = 0 THEN NULL {cases} END" if cases else "CAST(NULL AS VARCHAR)"
    return f"SELECT *, {status} AS status FROM ({query})"


def derived(name: str) -> str:
    """SQL reference of a derived value."""
    return quoted(f"x_{name}")


def as_text(kind: Type, value: str) -> str:
    """A value as it stands in a record: decimals, dates and times as text, the rest as it is."""
    return to_text(value, kind) if kind.kind in ("decimal", "date", "timestamp") else value


def record(config: Config) -> str:
    """The JSON line of an artifact, line feed included, from key, status, m_*, x_*, c and withdrawn."""
    measures = ", ".join(f"{literal(item.name)}: {as_text(item.type, measure(item.name))}" for item in config.measures)
    values = ", ".join(f"{literal(item.name)}: {as_text(item.expression.type, derived(item.name))}" for item in config.derived)
    parts = ", ".join(f"{literal(item.name)}: {_measure_text(item)}" for item in config.measures)
    contributions = f"list_transform(c, lambda x: {{'w': x.w, 'n': x.n, 'd': x.d, 'ids': x.ids, 'm': {{{parts}}}}})"
    derived_json = f"{{{values}}}" if values else "CAST('{}' AS JSON)"
    return (
        f"CAST(to_json({{'key': key, 'status': status, 'measures': {{{measures}}}, 'derived': {derived_json}, "
        f"'contributions': {contributions}, 'withdrawn': withdrawn}}) AS VARCHAR) || chr(10)"
    )


def _measure_text(item: Measure) -> str:
    value = f"x.m.{quoted(item.name)}"
    if item.kind in ("first", "last"):
        inner = as_text(item.type, f"{value}.v")
        return f"CASE WHEN {value} IS NULL THEN NULL ELSE {{'t': {value}.t, 'i': {value}.i, 'v': {inner}}} END"
    return as_text(item.type, value)
