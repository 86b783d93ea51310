"""Contributions in DuckDB: their type, and the fold of a list of them into measures, derived values and status.

What a record contains is decided in docs/decisions/001-contributions-and-duplicates.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from recon.config import Config
from recon.config.form import MIXED
from recon.config.model import Measure
from recon.engines.duckdb.reduce import measure
from recon.vocabulary import emit_duckdb
from recon.vocabulary.duckdb import literal, quoted


def measure_type(item: Measure) -> str:
    """SQL type of a measure inside a contribution."""
    if item.kind in ("first", "last"):
        return f"STRUCT(t VARCHAR, v {item.type.duckdb})"
    return item.type.duckdb


def contribution_type(config: Config) -> str:
    """SQL type of one contribution."""
    measures = ", ".join(f"{quoted(item.name)} {measure_type(item)}" for item in config.measures)
    return f"STRUCT(w VARCHAR, n BIGINT, d BIGINT, {_u(config, 'u VARCHAR[]')}ids UBIGINT[], m STRUCT({measures}))"


def contribution(config: Config, members: Mapping[str, str]) -> str:
    """SQL of a contribution from the SQL of its members w, n, d, u, ids, m. ``u``, the set of currencies, is left out where events have no
    currency."""
    names = [name for name in ("w", "n", "d", "u", "ids", "m") if name != "u" or config.events.currency]
    listed = ", ".join(f"'{name}': {members[name]}" for name in names)
    return f"CAST({{{listed}}} AS {contribution_type(config)})"


def _u(config: Config, member: str) -> str:
    """The ``member`` for currencies and a comma, empty where events have no currency. See docs/decisions/019-currency.md."""
    return f"{member}, " if config.events.currency else ""


def union_of(lists: str) -> str:
    """SQL of the sorted union of a list of sets."""
    return f"list_sort(list_distinct(flatten({lists})))"


def block_type(config: Config) -> str:
    """SQL type of a block of contributions that are carried forward: see docs/decisions/008-carried-forward.md."""
    measures = ", ".join(f"{quoted(item.name)} {measure_type(item)}" for item in config.measures)
    counts = f"n BIGINT, d BIGINT, {_u(config, 'u VARCHAR[]')}"
    return f"STRUCT(first VARCHAR, last VARCHAR, windows BIGINT, runs BIGINT[], {counts}m STRUCT({measures}))"


def from_artifact(config: Config, window: str) -> str:
    """SQL of a row of reduced artifacts as the contribution of ``window``, an SQL text expression."""
    currencies = _u(config, "'u': u")
    return f"{{'w': {window}, 'n': n, 'd': 0::BIGINT, {currencies}'ids': ids, 'm': {measures_struct(config)}}}"


def measures_struct(config: Config) -> str:
    """The ``m`` of a contribution from the columns ``m_<name>`` of reduced events."""
    parts = []
    for item in config.measures:
        value = measure(item.name)
        if item.kind in ("first", "last"):
            value = f"CASE WHEN {value} IS NOT NULL THEN {{'t': {value}.t, 'v': {value}.v}} END"
        parts.append(f"{literal(item.name)}: {value}")
    return f"{{{', '.join(parts)}}}"


def of_list(value: str) -> str:
    """The list of ``value`` (SQL of a contribution ``x``) over the contributions in the column ``c``."""
    return f"list_transform(c, lambda x: {value})"


def fold_measure(item: Measure, each: Callable[[str], str], total: Callable[[str], str] | None = None) -> str:
    """SQL of one measure over contributions, null without contributions. ``each`` gives a list of values of the contributions;
    ``total``, where given, the sum of a member at a lower cost."""
    if total and item.kind in ("sum", "count"):
        return f"CAST({total('m.' + quoted(item.name))} AS {item.type.duckdb})"
    folds = _fold(item, each)
    return f"{folds}.v" if item.kind in ("first", "last") else folds


def with_block(config: Config, block: str, listed: str) -> str:
    """SQL of the list of one contribution for the ``block``, if there is one, and then the ``listed`` ones. All windows of a block come
    before the listed ones, so any of them may be its window."""
    members = {
        "w": f"{block}.last",
        **{name: f"{block}.{name}" for name in ("n", "d", "u")},
        "ids": "CAST([] AS UBIGINT[])",
        "m": f"{block}.m",
    }
    return f"CASE WHEN {block} IS NULL THEN {listed} ELSE list_concat([{contribution(config, members)}], {listed}) END"


def fold_contributions(config: Config, each: Callable[[str], str]) -> str:
    """The ``m`` of a block of contributions, of which ``each`` gives a list of values."""
    parts = []
    for item in config.measures:
        value = _fold(item, each)
        if item.kind in ("first", "last"):
            # The list makes sure that the fold is taken once.
            picked = "CASE WHEN x IS NOT NULL THEN {'t': x.t, 'v': x.v} END"
            value = f"list_transform([{value}], lambda x: {picked})[1]"
        parts.append(f"{literal(item.name)}: {value}")
    return f"{{{', '.join(parts)}}}"


def _fold(item: Measure, each: Callable[[str], str]) -> str:
    value = f"x.m.{quoted(item.name)}"
    if item.kind in ("sum", "count"):
        return f"CAST(list_sum({each(value)}) AS {item.type.duckdb})"
    if item.kind in ("min", "max"):
        return f"list_{item.kind}({each(value)})"
    # Equal times in different windows go by the window, as they go by the order of landing and line within one window.
    order = f"{{'t': {value}.t, 'w': x.w, 'v': {value}.v}}"
    ordered = f"list_filter({each(f'CASE WHEN {value} IS NOT NULL THEN {order} END')}, lambda x: x IS NOT NULL)"
    return f"list_{'min' if item.kind == 'first' else 'max'}({ordered})"


def folded(
    config: Config,
    source: str,
    carried: str,
    each: Callable[[str], str] = of_list,
    some: str = "len(c) > 0",
    total: Callable[[str], str] | None = None,
) -> str:
    """SELECT over ``source``: m_<name> per measure, x_<name> per derived value, ``status``.

    Where events have a currency also ``currencies``, the set of them; with more than one, measures of numbers and derived values are
    null, and the status says so.

    ``carried``: further columns of the source, each followed by a comma. ``each`` and ``total``: see ``fold_measure``. ``some``:
    whether there are contributions; without them all measures, derived values and the status are null."""
    mixed = ""
    if config.events.currency:
        mixed, carried = "len(currencies) > 1", f"{carried} currencies,"
        source = f"(SELECT *, {union_of(each('x.u'))} AS currencies FROM {source})"
    folds = {item.name: fold_measure(item, each, total) for item in config.measures}
    if mixed:
        folds |= {item.name: f"CASE WHEN NOT {mixed} THEN {folds[item.name]} END" for item in config.measures if item.is_amount}
    measures = ", ".join(f"{fold} AS {measure(name)}" for name, fold in folds.items())
    return judged(config, f"SELECT {carried} {measures} FROM {source}", some, mixed)


def judged(config: Config, query: str, some: str = "true", mixed: str = "") -> str:
    """SELECT that adds x_<name> per derived value and ``status`` to ``query``, which has the columns m_<name>. ``some``: SQL of whether
    there are contributions; ``mixed``: of whether they have several currencies, "" where events have none."""
    names = {item.name: measure(item.name) for item in config.measures}
    alike = f"{some} AND NOT {mixed}" if mixed else some
    for item in config.derived:
        value = f"CASE WHEN {alike} THEN {emit_duckdb(item.expression, names)} END"
        query = f"SELECT *, {value} AS {derived(item.name)} FROM ({query})"
        names[item.name] = derived(item.name)
    cases = " ".join(f"WHEN {emit_duckdb(item.expression, names)} THEN {literal(item.name)}" for item in config.status)
    first = f"WHEN NOT ({some}) THEN NULL" + (f" WHEN {mixed} THEN {literal(MIXED)}" if mixed else "")
    status = f"CASE {first} {cases} END" if cases or mixed else "CAST(NULL AS VARCHAR)"
    return f"SELECT *, {status} AS status FROM ({query})"


def derived(name: str) -> str:
    """SQL reference of a derived value."""
    return quoted(f"x_{name}")
