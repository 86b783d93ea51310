"""The JSON texts in which stored and recomputed artifacts are compared, as SQL over typed columns.

Records have no JSON. A difference of one value in a text of few columns is easy to find and to show, and equal texts need equal values,
since each type has one form.
"""

from __future__ import annotations

from recon.config import Config
from recon.config.model import Measure
from recon.vocabulary.duckdb import literal, quoted
from recon.vocabulary.types import Type

_TIME_TEXT = "'%Y-%m-%dT%H:%M:%S.%fZ'"


def artifact_texts(config: Config) -> str:
    """SQL of the columns ``measures`` and ``derived`` from m_<name> and x_<name>."""
    measures = _object([f"{literal(m.name)}: {_text(m.type, quoted('m_' + m.name))}" for m in config.measures])
    derived = _object([f"{literal(x.name)}: {_text(x.expression.type, quoted('x_' + x.name))}" for x in config.derived])
    return f"{_without_nulls(measures)} AS measures, {_without_nulls(derived)} AS derived"


def contribution_text(config: Config, window: str, ids: str) -> str:
    """SQL of a contribution from n, d, u if events have a currency, and m_<name>. ``window``: SQL of its name. ``ids``: SQL of its ids."""
    return _without_nulls(f"{{'w': {window}, 'n': n, 'd': d, {_currencies(config)}'ids': {ids}, 'm': {_measures(config)}}}")


def block_text(config: Config, first: str, last: str) -> str:
    """SQL of a block from windows, runs, n, d, u if events have a currency, and m_<name>. ``first`` and ``last``: SQL of windows' names."""
    spans = f"'first': {first}, 'last': {last}, 'windows': windows, 'runs': runs, 'n': n, 'd': d"
    return _without_nulls(f"{{{spans}, {_currencies(config)}'m': {_measures(config)}}}")


def time_text(value: str) -> str:
    """SQL of a time as text."""
    return f"strftime({value}, {_TIME_TEXT})"


def _currencies(config: Config) -> str:
    return "'u': u, " if config.events.currency else ""


def _measures(config: Config) -> str:
    return _object([f"{literal(item.name)}: {_measure(item)}" for item in config.measures])


def _measure(item: Measure) -> str:
    value = quoted(f"m_{item.name}")
    if item.kind not in ("first", "last"):
        return _text(item.type, value)
    inner = f"{{'t': {value}.t, 'v': {_text(item.type, value + '.v')}}}"
    return f"CASE WHEN {value} IS NULL THEN NULL ELSE {inner} END"


def _without_nulls(value: str) -> str:
    """SQL of the JSON text of a struct without its null members: a merge patch of an empty object leaves them out (RFC 7396)."""
    return f"CAST(json_merge_patch('{{}}', to_json({value})) AS VARCHAR)"


def _object(parts: list[str]) -> str:
    return f"{{{', '.join(parts)}}}" if parts else "CAST('{}' AS JSON)"


def _text(kind: Type, value: str) -> str:
    """SQL of a value: decimals, dates and times as text, other values unchanged."""
    if kind.kind == "timestamp":
        return time_text(value)
    text = f"CAST({value} AS VARCHAR)"
    if kind.kind == "decimal" and kind.precision == kind.scale:
        # DuckDB leaves out the zero before the point of such a decimal.
        text = f"replace(replace(' ' || {text}, ' .', ' 0.'), ' -.', ' -0.')[2:]"
    return text if kind.kind in ("decimal", "date") else value
