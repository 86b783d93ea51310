"""How a SELECT can be cut, so that tasks which each have some of the rows come to the same result together.

``rows``: each task may have any rows. ``keys``: rows with equal keys are in one task. ``whole``: one task has all rows. Whatever is not
known to be cut is whole: that is always right.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import sqlglot
from sqlglot import exp

_ORDERED = (exp.Order, exp.Limit, exp.Offset, exp.Fetch, exp.Qualify, exp.Sort)


@dataclass(frozen=True)
class Cut:
    """``keys``: relation → SQL of its keys, as many and of the same types for each. ``nulls_meet``: whether rows with a null among their
    keys have to be in one task as well. ``beside``: of ``rows``, a relation of few rows, all of which each task has."""

    kind: Literal["rows", "keys", "whole"]
    keys: dict[str, list[str]] = field(default_factory=dict)
    nulls_meet: bool = True
    beside: str = ""


ROWS, WHOLE = Cut("rows"), Cut("whole")


def cut_of(select: str, relations: Set[str]) -> Cut:
    """How a SELECT over relations can be cut."""
    try:
        tree = sqlglot.parse_one(select, dialect="duckdb")
    except sqlglot.errors.SqlglotError:
        return WHOLE
    return _cut(tree, relations) if _aggregates_are_known(select, tree) else WHOLE


def is_counting(select: str) -> bool:
    """Whether a SELECT only counts and sums the rows of one relation, so that the results of parts add up."""
    try:
        tree = sqlglot.parse_one(select, dialect="duckdb")
    except sqlglot.errors.SqlglotError:
        return False
    plain = isinstance(tree, exp.Select) and not any(
        tree.args.get(name) for name in ("group", "having", "distinct", "order", "limit", "joins")
    )
    return plain and all(type(one.unalias()) in (exp.Count, exp.Sum) and not one.find(exp.Distinct) for one in tree.expressions)


def _cut(tree: exp.Expr, relations: Set[str]) -> Cut:
    if isinstance(tree, exp.Union):
        sides = [_cut(side, relations) for side in (tree.left, tree.right)]
        return ROWS if not tree.args.get("distinct") and not _has(tree, *_ORDERED) and sides == [ROWS, ROWS] else WHOLE
    if isinstance(tree, exp.Subquery):
        return _cut(tree.this, relations)
    if not isinstance(tree, exp.Select) or any(isinstance(tree.args.get(name), _ORDERED) for name in tree.args):
        return WHOLE
    source, joins = tree.args.get("from_") or tree.args.get("from"), tree.args.get("joins") or []
    if source is None or tree.args.get("with_") or tree.args.get("with"):
        return WHOLE
    if source.this.args.get("pivots"):
        return _of_pivot(tree, source.this, relations)
    if joins or _subqueries(tree):
        return _of_pairs(tree, source.this, joins, relations)
    inner = ROWS if isinstance(source.this, exp.Table) else _cut(source.this, relations)
    own = _of_rows(tree)
    if own.kind == "rows":
        return inner
    if inner.kind == "rows" and own.kind == "keys" and isinstance(source.this, exp.Table) and source.this.name in relations:
        return Cut("keys", {source.this.name: own.keys[""]})
    return WHOLE


def _of_pivot(tree: exp.Select, source: exp.Expr, relations: Set[str]) -> Cut:
    """One pivot of a relation, which groups by all that it does not put side by side."""
    (pivot, *others), group = source.args["pivots"], source.args["pivots"][0].args.get("group")
    alone = not others and not tree.args.get("joins") and not _own(tree, exp.Window) and not _subqueries(tree)
    alone = alone and all(one.find_ancestor(exp.Pivot) is pivot for one in _own(tree, exp.AggFunc))
    if not alone or group is None or not isinstance(source, exp.Table) or source.name not in relations:
        return WHOLE
    if tree.args.get("group") or tree.args.get("distinct") or tree.args.get("where") or tree.args.get("having"):
        return WHOLE
    return Cut("keys", {source.name: [_without_table(one) for one in group.expressions]})


def _of_rows(tree: exp.Select) -> Cut:
    """What the SELECT itself needs, without its source; keys without their relation."""
    windows = _own(tree, exp.Window)
    aggregates = [one for one in _own(tree, exp.AggFunc) if one.find_ancestor(exp.Window, exp.Select) is tree]
    if tree.args.get("distinct") and not tree.args.get("group") and not windows:
        return WHOLE if aggregates else Cut("keys", {"": [_without_table(one.unalias()) for one in tree.expressions]})
    if group := tree.args.get("group"):
        of_sets = bool(group.find(exp.GroupingSets, exp.Cube, exp.Rollup)) or bool(group.args.get("all"))
        return (
            WHOLE if windows or of_sets or not group.expressions else Cut("keys", {"": [_listed(tree, one) for one in group.expressions]})
        )
    if aggregates or tree.args.get("having") or tree.args.get("distinct"):
        return WHOLE
    if not windows:
        return ROWS
    partitions = [[_without_table(one) for one in window.args.get("partition_by") or []] for window in windows]
    shared = [key for key in partitions[0] if all(key in other for other in partitions)]
    return Cut("keys", {"": shared}) if shared else WHOLE


def _listed(tree: exp.Select, key: exp.Expr) -> str:
    """A key of GROUP BY, also one that is the number of a result."""
    if isinstance(key, exp.Literal) and key.is_int:
        return _without_table(tree.expressions[int(key.name) - 1].unalias())
    return _without_table(key)


def _of_pairs(tree: exp.Select, source: exp.Expr, joins: Sequence[exp.Join], relations: Set[str]) -> Cut:
    """A join of two relations on equal keys, NOT EXISTS of such, or rows that are the chosen ones of their groups."""
    if _of_rows(tree).kind != "rows" or not isinstance(source, exp.Table) or source.name not in relations:
        return WHOLE
    inside = _subqueries(tree)
    if len(joins) == 1 and not inside and isinstance(joins[0].this, exp.Table) and joins[0].args.get("on"):
        beside, on = joins[0].this.name, joins[0].args["on"]
        if isinstance(on, exp.Boolean) and on.this and joins[0].side == "LEFT" and beside in relations and beside != source.name:
            return Cut("rows", beside=beside)
        return _of_equal(source, joins[0].this, on, relations)
    if joins or len(inside) != 1:
        return WHOLE
    (query,) = inside
    from_ = query.args.get("from_") or query.args.get("from")
    other = from_.this if from_ else None
    if not isinstance(other, exp.Table) or query.args.get("joins"):
        return WHOLE
    if isinstance(query.parent, exp.Exists) and query.args.get("where") and _of_rows(query).kind == "rows":
        return _of_equal(source, other, query.args["where"].this, relations)
    within = query.find_ancestor(exp.In)
    chosen = _of_rows(query)
    if within is not None and chosen.kind == "keys" and other.name == source.name and _is_number(within, query):
        return Cut("keys", {source.name: chosen.keys[""]})
    return WHOLE


def _is_number(within: exp.In, query: exp.Select) -> bool:
    """Whether it is ``n IN (SELECT min(n) …)``: a row's number is of one group only."""
    (one,) = query.expressions if len(query.expressions) == 1 else (None,)
    chosen = one.unalias() if one is not None else None
    return isinstance(chosen, exp.Min | exp.Max) and isinstance(within.this, exp.Column) and within.this.name == chosen.this.name == "n"


def _of_equal(left: exp.Table, right: exp.Table, condition: exp.Expr, relations: Set[str]) -> Cut:
    sides = {left.alias_or_name: left.name, right.alias_or_name: right.name}
    if len(sides) < 2 or not set(sides.values()) <= relations or left.name == right.name:
        return WHOLE
    keys: dict[str, list[str]] = {left.name: [], right.name: []}
    meet = False
    for part in condition.flatten() if isinstance(condition, exp.And) else [condition]:
        part = part.unnest()
        if not isinstance(part, exp.EQ | exp.NullSafeEQ):
            continue  # a further condition on the pairs that the keys find
        of = [_side(one) for one in (part.left, part.right)]
        if None in of or set(of) != set(sides):
            continue
        for alias, one in zip(of, (part.left, part.right), strict=True):
            keys[sides[str(alias)]].append(_without_table(one))
        meet |= isinstance(part, exp.NullSafeEQ)
    return Cut("keys", keys, meet) if keys[left.name] else WHOLE


def _side(one: exp.Expr) -> str | None:
    tables = {column.table for column in one.find_all(exp.Column)}
    return tables.pop() if len(tables) == 1 else None


def _without_table(one: exp.Expr) -> str:
    copied = one.copy()
    for column in [copied, *copied.find_all(exp.Column)]:
        if isinstance(column, exp.Column):
            column.set("table", None)
    return copied.sql("duckdb")


def _own(tree: exp.Select, kind: type[exp.Expr]) -> list[exp.Expr]:
    """Nodes of a kind that are of this SELECT, not of one inside it."""
    return [one for one in tree.find_all(kind) if one.find_ancestor(exp.Select) is tree]


def _subqueries(tree: exp.Select) -> list[exp.Select]:
    """SELECTs inside its expressions, not those that it reads from."""
    return [
        one
        for one in tree.find_all(exp.Select)
        if one is not tree and one.find_ancestor(exp.Select) is tree and one.find_ancestor(exp.From, exp.Select) is tree
    ]


def _has(tree: exp.Expr, *kinds: type[exp.Expr]) -> bool:
    return any(isinstance(value, kinds) for value in tree.args.values())


def _aggregates_are_known(select: str, tree: exp.Expr) -> bool:
    """Whether every aggregate of DuckDB in the text is known as such to the parser, so that none is taken for a function of a row."""
    words = sqlglot.tokenize(select, dialect="duckdb")
    named = sum(one.text.lower() in _aggregates() and after.text == "(" for one, after in pairwise(words) if one.text.isidentifier())
    windows = [one.this for one in tree.find_all(exp.Window)]
    seen = {id(one) for one in tree.find_all(exp.AggFunc)} | {id(one.this if isinstance(one, exp.IgnoreNulls) else one) for one in windows}
    return named <= len(seen)


@lru_cache(maxsize=1)
def _aggregates() -> frozenset[str]:
    import duckdb

    with duckdb.connect() as connection:
        found = connection.execute("SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'aggregate'").fetchall()
    return frozenset(name for (name,) in found)
