"""Rows of one table found in another by keys: equal, by wildcards, or the next smaller or larger. Each row finds one row or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from recon.errors import WrongInput, WrongUsage
from recon.transformations.formulas.layers import sql_of
from recon.transformations.formulas.tree import NA
from recon.transformations.operations.port import Kept, Plan, by_name
from recon.transformations.operations.table import ROW, Column, Table
from recon.vocabulary import Node, reference
from recon.vocabulary.types import TEXT, Type, common

_WILDCARDS = (
    *(("'!'", "'!!'"), ("'%'", "'!%'"), ("'_'", "'!_'"), ("'~~'", "chr(1)"), ("'~*'", "chr(2)"), ("'~?'", "chr(3)")),
    *(("'~'", "''"), ("'*'", "'%'"), ("'?'", "'_'"), ("chr(1)", "'~'"), ("chr(2)", "'*'"), ("chr(3)", "'?'")),
)
"""What is replaced, one after the other, to make a pattern of LIKE of a text with wildcards."""
Find = Literal["exact", "wildcard", "smaller", "larger"]
Several = Literal["first", "last", "error"]


@dataclass(frozen=True)
class Match:
    """``keys``: columns of the table; ``matches``: those of ``other`` beside them. ``find`` says how the last of them matches; all before
    it are equal. ``many``: which of several rows with one key counts, or that they are refused."""

    other: Table
    keys: Sequence[Column]
    matches: Sequence[Column]
    find: Find = "exact"
    many: Several = "first"


def taken(plan: Plan, table: Table, match: Match, take: Mapping[str, Column], if_missing: str | None) -> Table:
    """The table with columns ``take`` of the rows that are found; the number and the order of its rows stay.

    A blank is never found, and the error of a key is the result. Not found is #N/A, or ``if_missing``. Raises WrongUsage for keys that
    never match, WrongInput for several rows of a key where they are refused."""
    table.refuse_taken(list(take))
    pairs = [equal_keys(key, theirs, "t.", "") for key, theirs in zip(match.keys, match.matches, strict=True)]
    if match.find == "wildcard" and match.matches[-1].type != TEXT:
        raise WrongUsage(f"wildcards are for texts, and {match.matches[-1].name!r} is {match.matches[-1].type}")
    missing = [None if if_missing is None else constant(if_missing, column.type, "if_missing") for column in take.values()]
    if match.find == "wildcard" and plan.query is not None:
        wild = is_pattern(f"t.{match.keys[-1].value}")
        if not plan.query(f"SELECT 1 FROM {table.relation} t WHERE {wild} LIMIT 1"):
            match = replace(match, find="exact")
    found = plan.relation(_found(match, [theirs for _, theirs in pairs], list(take.values())), stored=True)
    _count_several(plan, match, found)
    mine, added = [mine for mine, _ in pairs], list[str]()
    if match.find == "exact":
        join = f" LEFT JOIN {found} l ON {_equal(mine, 'l.k')}"
    else:
        near = plan.relation(_near(plan, match, table, mine, found), stored=True)
        beside = _equal([f"p.k{at}" for at in range(len(mine) - 1)] + ["p.h"], "l.k")
        keys = ", ".join(f"p.k{at} AS q{at}, l.k{at} AS k{at}" for at in range(len(mine)))
        both = plan.relation(f"SELECT {keys}, l.f AS f FROM {near} p JOIN {found} l ON {beside}", stored=True)
        join = f" LEFT JOIN {both} l ON {_equal(mine, 'l.q')}"
    made = plan.columns(len(take), [column.type for column in take.values()], list(take))
    parts = [f"t.{ROW}", *(f"t.{sql}" for column in table.known for sql in column.sql)]
    wrong = [f"t.{key.error}" for key in match.keys if key.error]
    for number, (new, column) in enumerate(zip(made, take.values(), strict=True)):
        added += _values(wrong, new, f"l.f.e{number}" if column.error else "NULL", f"l.f.v{number}", missing[number])
    relation = plan.relation(f"SELECT {', '.join([*parts, *added])} FROM {table.relation} t{join}")
    plan.kept[relation] = Kept(table.relation, added=by_name(added), join=join)
    return table.with_columns([*table.known, *made], relation)


def _equal(mine: Sequence[str], theirs: str) -> str:
    return " AND ".join(f"{sql} = {theirs}{at}" for at, sql in enumerate(mine))


def _values(wrong: Sequence[str], new: Column, code: str, value: str, missing: str | None) -> list[str]:
    """SQL of a column that is taken, and of its error. ``wrong``: SQL of the keys' errors."""
    absent, absent_code = ("NULL", str(NA)) if missing is None else (missing, "NULL")
    own = f"coalesce({', '.join([*wrong, 'NULL'])})"
    masked, passed = (f"WHEN {own} IS NOT NULL THEN NULL ", f"WHEN {own} IS NOT NULL THEN {own} ") if wrong else ("", "")
    return [
        f"CASE {masked}WHEN l.k0 IS NULL THEN {absent} ELSE {value} END AS {new.value}",
        f"CAST(CASE {passed}WHEN l.k0 IS NULL THEN {absent_code} ELSE {code} END AS TINYINT) AS {new.error}",
    ]


def _found(match: Match, theirs: Sequence[str], take: Sequence[Column]) -> str:
    """SELECT of each key k0, k1 …: f, the values v and errors e of its first or last row; a, that row; m, how many rows it has."""
    parts = []
    for number, column in enumerate(take):
        parts.append(f"'v{number}': {column.value}")
        parts += [f"'e{number}': {column.error}"] if column.error else []
    keys = [f"{sql} AS k{at}" for at, sql in enumerate(theirs)]
    which, row = ("arg_max", "max") if match.many == "last" else ("arg_min", "min")
    chosen = f"{which}({{{', '.join(parts)}}}, {ROW}) AS f, {row}({ROW}) AS a, count(*) AS m"
    where = " AND ".join(f"{sql} IS NOT NULL" for sql in theirs)
    return f"SELECT {', '.join(keys)}, {chosen} FROM {match.other.relation} WHERE {where} GROUP BY {', '.join(theirs)}"


def _count_several(plan: Plan, match: Match, found: str) -> None:
    """Counts the keys with several rows. Raises WrongInput where they are refused."""
    if plan.query is None:
        return
    ((count,),) = plan.query(f"SELECT count(*) FROM {found} WHERE m > 1")
    plan.figures["keys_with_several_rows"] = plan.figures.get("keys_with_several_rows", 0) + int(count)
    if count and match.many == "error":
        keys = ", ".join(f"k{at}" for at in range(len(match.keys)))
        first = plan.query(f"SELECT {keys} FROM {found} WHERE m > 1 ORDER BY a LIMIT 1")[0]
        shown = ", ".join(map(str, first))
        raise WrongInput(f"{count} keys have several rows in {match.other.name!r}, first {shown}; many: first takes the first of each")


def _near(plan: Plan, match: Match, table: Table, mine: Sequence[str], found: str) -> str:
    """SELECT of each key k0, k1 … of the table: h, the last part of the key in the other table that it finds."""
    last = len(mine) - 1
    distinct = f"SELECT DISTINCT {', '.join(f'{sql} AS k{at}' for at, sql in enumerate(mine))} FROM {table.relation} t"
    wanted = plan.relation(f"{distinct} WHERE {' AND '.join(f'{sql} IS NOT NULL' for sql in mine)}", stored=True)
    keys = [f"k{at}" for at in range(last + 1)]
    if match.find == "wildcard":
        w = [f"w.{key}" for key in keys]
        like = f"l.k{last} LIKE {like_pattern(f'w.k{last}')} ESCAPE '!'"
        same = [f"l.{key} = w.{key}" for key in keys[:-1]]
        which = "max_by" if match.many == "last" else "min_by"
        wild = is_pattern(f"k{last}")
        plain = f"SELECT {', '.join(keys)}, k{last} AS h FROM {wanted} WHERE NOT {wild}"
        pairs = f"(SELECT * FROM {wanted} WHERE {wild}) w JOIN {found} l ON {' AND '.join([*same, like])}"
        return f"{plain} UNION ALL SELECT {', '.join(w)}, {which}(l.k{last}, l.a) AS h FROM {pairs} GROUP BY {', '.join(w)}"
    most, order = ("max", "ASC") if match.find == "smaller" else ("min", "DESC")
    listed, within = ", ".join(keys), f"PARTITION BY {', '.join(keys[:-1])} " if last else ""
    both = f"SELECT {listed}, NULL AS h, 1 AS s FROM {wanted} UNION ALL SELECT {listed}, k{last} AS h, 0 AS s FROM {found}"
    nearest = f"{most}(h) OVER ({within}ORDER BY k{last} {order} RANGE UNBOUNDED PRECEDING)"
    return f"SELECT {listed}, h FROM (SELECT {listed}, {nearest} AS h, s FROM ({both})) WHERE s = 1"


def is_pattern(text: str) -> str:
    """SQL of whether a text has wildcards, or ``~`` before plain ones."""
    return f"({text} LIKE '%*%' OR {text} LIKE '%?%' OR {text} LIKE '%~%')"


def like_pattern(text: str) -> str:
    """SQL of a text with wildcards as a pattern of LIKE with the escape ``!``: ``*`` is any text, ``?`` a character; ``~`` makes the
    character behind it plain."""
    for old, new in _WILDCARDS:
        text = f"replace({text}, {old}, {new})"
    return text


def equal_keys(key: Column, match: Column, mine: str, theirs: str) -> tuple[str, str]:
    """SQL of both keys, equal where Excel finds them equal; null where a key is blank. ``mine``, ``theirs``: before the columns' names.

    Raises WrongUsage for kinds that never match."""
    if key.type == TEXT and match.type == TEXT:
        return f"lower({mine}{key.value})", f"lower({theirs}{match.value})"
    together = common(key.type, match.type)
    if together is None:
        raise WrongUsage(f"{key.name!r} is {key.type} and {match.name!r} is {match.type}, which are never equal; declare one as the other")
    return f"TRY_CAST({mine}{key.value} AS {together.duckdb})", f"TRY_CAST({theirs}{match.value} AS {together.duckdb})"


def constant(text: str, kind: Type, what: str) -> str:
    """SQL of a text as a value of a type. Raises WrongUsage that begins with ``what``."""
    value = reference.cast(text, TEXT, kind)
    if value is None:
        raise WrongUsage(f"{what}: {text!r} is no {kind}")
    return sql_of(Node("literal", (), kind, value))
