"""Contributions in DuckDB: their type, their JSON form, and the fold of a list of them into measures, derived values and status.

The record's form is decided in docs/decisions/001-contributions-and-duplicates.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping

from recon.config import Config
from recon.config.model import Measure
from recon.engines.duckdb.reduce import measure
from recon.vocabulary import emit_duckdb
from recon.vocabulary.duckdb import literal, quoted, to_text
from recon.vocabulary.types import TEXT, Type

_LISTED = ',"c":'
"""The text before the contributions in a record."""
_CARRIED = ',"carried":'
MIXED = "MIXED_CURRENCY"
"""The status of an artifact with more than one currency."""
_NARROW = 18
"""Digits of the widest decimal that is 64 bits."""


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


def record_structure(config: Config) -> str:
    """The structure by which ``from_json`` reads a record, as an SQL literal. Missing members are null."""
    currencies = {"u": ["VARCHAR"]} if config.events.currency else {}
    listed = {"w": "VARCHAR", "n": "BIGINT", "d": "BIGINT", **currencies, "ids": ["UBIGINT"], "m": _measures_structure(config)}
    return literal(json.dumps({"k": "VARCHAR", "s": "VARCHAR", "c": [listed], "gone": ["VARCHAR"]}))


def has_block(record: str) -> str:
    """SQL: whether a ``record`` has a block. The block is the last member; records without one end with a list."""
    return f"NOT ends_with({record}, ']}}' || chr(10))"


def block_of(config: Config, record: str) -> str:
    """SQL of the block in a ``record``, null where it has none."""
    block: dict[str, object] = {
        "first": "VARCHAR",
        "last": "VARCHAR",
        "windows": "BIGINT",
        "runs": ["BIGINT"],
        "n": "BIGINT",
        "d": "BIGINT",
    }
    block |= {"u": ["VARCHAR"]} if config.events.currency else {}
    structure = literal(json.dumps({"carried": {**block, "m": _measures_structure(config)}}))
    return f"CASE WHEN {has_block(record)} THEN from_json({record}, {structure}).carried END"


def windows_in_block(record: str) -> str:
    """SQL of the number of windows in the block of a ``record`` that has one."""
    return f"CAST({record} ->> '$.carried.windows' AS BIGINT)"


def _measures_structure(config: Config) -> dict[str, object]:
    def of(item: Measure) -> object:
        if item.kind in ("first", "last"):
            return {"t": "VARCHAR", "v": item.type.duckdb}
        return item.type.duckdb

    return {item.name: of(item) for item in config.measures}


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
    query = f"SELECT {carried} {measures} FROM {source}"
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


def as_text(kind: Type, value: str) -> str:
    """SQL of a value in its form in a record: decimals, dates and times as text, others unchanged."""
    return to_text(value, kind) if kind.kind in ("decimal", "date", "timestamp") else value


def record(config: Config, listed: str, block: str = "NULL") -> str:
    """The JSON line of an artifact, line feed included, from key, status, m_*, x_*, withdrawn, ``listed``, SQL of the JSON of its
    contributions, and ``block``, SQL of ``block_text`` or null. Its form is that of recon.model.record.

    Concatenates texts, in a third of the time of ``to_json`` on a struct."""
    measures = _object((item.name, item.type, measure(item.name)) for item in config.measures)
    values = _object((item.name, item.expression.type, derived(item.name)) for item in config.derived)
    status = f"CASE WHEN status IS NOT NULL THEN concat(',\"s\":', {json_text(TEXT, 'status')}) END"
    withdrawn = "CASE WHEN len(withdrawn) > 0 THEN concat(',\"gone\":', CAST(to_json(withdrawn) AS VARCHAR)) END"
    pieces = ["'{\"k\":'", json_text(TEXT, "key"), status, "',\"m\":'", measures, "',\"v\":'", values, literal(_LISTED), listed]
    return f"concat({', '.join([*pieces, withdrawn, block])}, '}}' || chr(10))"


def _object(members: Iterable[tuple[str, Type, str]]) -> str:
    """SQL of a JSON object from names, types and SQL of values; nulls are left out."""
    return _of_members(member(name, value, json_text(kind, value)) for name, kind, value in members)


def member(name: str, value: str, text: str) -> str:
    """SQL of a member of a JSON object with the comma before it, null where the ``value`` is."""
    begun = literal(f',"{name}":')
    return f"CASE WHEN {value} IS NOT NULL THEN concat({begun}, {text}) END"


def _of_members(members: Iterable[str]) -> str:
    """SQL of a JSON object of ``member``s, without the comma before the first."""
    listed = ", ".join(members)
    return f"concat('{{', substr(concat({listed}), 2), '}}')" if listed else "'{}'"


def json_text(kind: Type, value: str) -> str:
    """SQL of the JSON of a value that is not null: decimals, dates and times as texts, others unchanged."""
    if kind.kind in ("decimal", "date", "timestamp"):
        return f"concat('\"', {_decimal_text(kind, value)}, '\"')"
    return f"CAST({f'to_json({value})' if kind.kind == 'text' else value} AS VARCHAR)"


def _decimal_text(kind: Type, value: str) -> str:
    """``to_text``, but a wide decimal goes through 64 bits where it fits them, which takes half the time. The narrow type has a digit
    before the point, as the text must have."""
    if kind.kind == "decimal" and kind.precision > _NARROW > kind.scale:
        narrow = f"TRY_CAST({value} AS DECIMAL({_NARROW},{kind.scale}))"
        return f"coalesce(CAST({narrow} AS VARCHAR), {to_text(value, kind)})"
    return to_text(value, kind)


def artifact_text(config: Config, window: str) -> str:
    """SQL of the JSON that ``list_text`` gives of ``from_artifact``, made from the columns, at a third of the cost."""
    measures = _of_members(_artifact_measure(item) for item in config.measures)
    return _contribution_text(config, literal(window), ("n", "0", "u", "ids"), measures)


def _contribution_text(config: Config, window: str, members: tuple[str, str, str, str], measures: str) -> str:
    n, d, u, ids = members
    currencies = _u(config, f"',\"u\":', CAST(to_json({u}) AS VARCHAR)")
    listed = f"CASE WHEN {ids} IS NOT NULL THEN concat(',\"ids\":', CAST(to_json({ids}) AS VARCHAR)) END"
    return f"concat('{{\"w\":\"', {window}, '\",\"n\":', {n}, ',\"d\":', {d}, {currencies}{listed}, ',\"m\":', {measures}, '}}')"


def _artifact_measure(item: Measure) -> str:
    value = measure(item.name)
    if item.kind not in ("first", "last"):
        return member(item.name, value, json_text(item.type, value))
    return _chosen(item, value)


def _chosen(item: Measure, value: str) -> str:
    """The member of a ``first`` or ``last`` measure, with the time by which it was chosen."""
    members = [("t", TEXT, f"{value}.t"), ("v", item.type, f"{value}.v")]
    return member(item.name, value, _object(members))


def list_text(config: Config, listed: str) -> str:
    """SQL of the JSON of a list of contributions."""
    measures = []
    for item in config.measures:
        value = f"x.m.{quoted(item.name)}"
        plain = item.kind not in ("first", "last")
        measures.append(member(item.name, value, json_text(item.type, value)) if plain else _chosen(item, value))
    text = _contribution_text(config, "x.w", ("x.n", "x.d", "x.u", "x.ids"), _of_members(measures))
    return f"concat('[', array_to_string(list_transform({listed}, lambda x: {text}), ','), ']')"


def block_text(config: Config, block: str) -> str:
    """SQL of what a ``block`` adds to the JSON of its record, null where there is none."""
    members = ("first", "last", "windows", "runs", "n", "d", *(("u",) if config.events.currency else ()))
    names = ", ".join(f"'{name}': x.{name}" for name in members)
    bodies = f"list_transform([{block}], lambda x: {{{names}, 'm': {_measure_texts(config)}}})"
    # Patching nothing with it leaves out what is null.
    whole = f"json_merge_patch('{{}}', to_json({bodies}[1]))"
    return f"CASE WHEN {block} IS NOT NULL THEN {literal(_CARRIED)} || CAST({whole} AS VARCHAR) END"


def existing_list_text(record: str) -> str:
    """SQL of the JSON of a record's contributions without its last bracket, for a ``record`` without withdrawn windows.

    The pattern occurs once in a record: inside a text a quote follows a backslash, and no member before the contributions is a list.
    A measure may be called c, too, so the bracket is part of the pattern."""
    start = f"(strpos({record}, {literal(_LISTED + '[')}) + {len(_LISTED)})"
    return f"substr({record}, {start}, length({record}) - {start} - {len(']}')})"


def _measure_texts(config: Config) -> str:
    parts = ", ".join(f"{literal(item.name)}: {_measure_text(item)}" for item in config.measures)
    return f"{{{parts}}}"


def _measure_text(item: Measure) -> str:
    value = f"x.m.{quoted(item.name)}"
    if item.kind in ("first", "last"):
        inner = as_text(item.type, f"{value}.v")
        return f"CASE WHEN {value} IS NULL THEN NULL ELSE {{'t': {value}.t, 'v': {inner}}} END"
    return as_text(item.type, value)
