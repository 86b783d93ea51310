"""Operations on lists of rows in plain Python: the oracle of those of requests. A row is a dict; an error is ``plain_functions.Wrong``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Decimal
from statistics import median
from typing import Any

from plain_criteria import fits, fits_row, pattern
from plain_functions import DIV0, NA, NUM, VALUE, Wrong

Row = dict[str, Any]
Tables = dict[str, list[Row]]


def folded(value: Any) -> Any:
    """Equal where Excel finds values equal."""
    return value.lower() if isinstance(value, str) else value


def key_of(row: Row, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(folded(row[name]) for name in names)


def _findable(key: tuple[Any, ...]) -> bool:
    return all(value is not None and not isinstance(value, Wrong) for value in key)


def vlookup(tables: Tables, body: Row) -> list[Row]:
    approximate = body.get("approximate")
    like = {"find": "smaller", "many": "last"} if approximate else {}
    match = {"match": [body["match"]]} if "match" in body else {}
    return xlookup(tables, {**body, **like, "key": [body["key"]], **match})


def xlookup(tables: Tables, body: Row) -> list[Row]:
    """``smaller``, ``larger``: of the rows with the nearest key; ``wildcard``: of all rows that match."""
    matches, find = body.get("match", body["key"]), body.get("find", "exact")
    others = [(key_of(row, matches), row) for row in tables[body["in"]] if _findable(key_of(row, matches))]
    found = []
    for row in tables[body["table"]]:
        key = key_of(row, body["key"])
        alike = [(theirs, other) for theirs, other in others if theirs[:-1] == key[:-1]] if _findable(key) else []
        if find in ("smaller", "larger"):
            within = [theirs[-1] for theirs, _ in alike if (theirs[-1] <= key[-1] if find == "smaller" else theirs[-1] >= key[-1])]
            nearest = (max if find == "smaller" else min)(within, default=None)
            rows = [other for theirs, other in alike if theirs[-1] == nearest]
        elif find == "wildcard":
            rows = [other for theirs, other in alike if re.fullmatch(pattern(key[-1]), theirs[-1], re.DOTALL)]
        else:
            rows = [other for theirs, other in alike if theirs == key]
        wrong = [row[name] for name in body["key"] if isinstance(row[name], Wrong)]
        missing = wrong[0] if wrong else _missing(body)
        match = rows[-1 if body.get("many") == "last" else 0] if rows else None
        found.append({**row, **{name: missing if match is None else match[column] for name, column in _pairs(body["take"])}})
    return found


def _missing(body: Row) -> Any:
    return Decimal(body["if_missing"]) if "if_missing" in body else Wrong(NA)


def _pairs(take: Any) -> list[tuple[str, str]]:
    return list(take.items()) if isinstance(take, dict) else [(name, name) for name in take]


def join(tables: Tables, body: Row) -> list[Row]:
    left, right, on = tables[body["table"]], tables[body["with"]], body["on"]
    names = list(right[0]) if right else body["right_names"]
    taken = {name: name if name not in body["left_names"] else f"{name}_right" for name in names}
    blank_left = dict.fromkeys(body["left_names"])
    found, matched = [], set()
    for row in left:
        mine = key_of(row, on)
        pairs = [at for at, other in enumerate(right) if _findable(mine) and key_of(other, on) == mine]
        matched |= set(pairs)
        if body["how"] == "anti":
            found += [] if pairs else [row]
            continue
        found += [{**row, **{taken[name]: right[at][name] for name in names}} for at in pairs]
        if not pairs and body["how"] in ("left", "full"):
            found.append({**row, **dict.fromkeys(taken.values())})
    if body["how"] in ("right", "full"):
        found += [{**blank_left, **{taken[n]: v for n, v in other.items()}} for at, other in enumerate(right) if at not in matched]
    return found


def append(tables: Tables, body: Row) -> list[Row]:
    names = [*body["left_names"], *(name for name in body["right_names"] if name not in body["left_names"])]
    return [{name: row.get(name) for name in names} for table in (body["table"], *body["rows_of"]) for row in tables[table]]


def _groups(rows: Sequence[Row], names: Sequence[str]) -> dict[Any, list[Row]]:
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key_of(row, names), []).append(row)
    return found


def aggregated(kind: str, values: Sequence[Any]) -> Any:
    there = [value for value in values if value is not None]
    if kind in ("first", "last"):
        return there[0 if kind == "first" else -1] if there else None
    if kind in ("count", "count_distinct"):
        counted = [folded(value) for value in there if not isinstance(value, Wrong)]
        return Decimal(len(counted if kind == "count" else set(counted)))
    if wrong := [value.code for value in values if isinstance(value, Wrong)]:
        return Wrong(min(wrong))
    numbers = [value for value in values if value is not None]
    if kind == "sum":
        return sum(numbers, Decimal(0))
    if kind == "median":
        return median(numbers) if numbers else None
    if kind == "average":
        return (sum(numbers, Decimal(0)) / len(numbers)).quantize(Decimal("1e-10"), ROUND_HALF_UP) if numbers else Wrong(DIV0)
    return (min if kind == "min" else max)(numbers, default=None)


def group(tables: Tables, body: Row) -> list[Row]:
    found = []
    for rows in _groups(tables[body["table"]], body["by"]).values():
        values = {name: aggregated(*_of(one, rows)) for name, one in body["values"].items()}
        found.append({**{name: rows[0][name] for name in body["by"]}, **values})
    return found


def _of(one: Row, rows: Sequence[Row]) -> tuple[str, list[Any]]:
    ((kind, column),) = one.items()
    return kind, [row[column] for row in rows]


def pivot(tables: Tables, body: Row) -> list[Row]:
    table, keys, across = tables[body["table"]], body["rows"], body["columns"]

    def order(value: Any) -> tuple[bool, Any]:
        return value is None, folded(value) if value is not None else ""

    shown = {one: rows[0][across] for (one,), rows in _groups(table, [across]).items()}

    def cells(rows: Sequence[Row]) -> Row:
        found: Row = {}
        for value in sorted(shown, key=order):
            within = [row for row in rows if folded(row[across]) == value]
            for name, one in body["values"].items():
                label = "(blank)" if value is None else shown[value]
                found[label if len(body["values"]) == 1 else f"{label} {name}"] = aggregated(*_of(one, within))
        for name, one in body["values"].items() if body.get("totals") else ():
            found["Total" if len(body["values"]) == 1 else f"Total {name}"] = aggregated(*_of(one, rows))
        return found

    groups = sorted(_groups(table, keys).values(), key=lambda rows: [order(rows[0][name]) for name in keys])
    found = [{**{name: rows[0][name] for name in keys}, **cells(rows)} for rows in groups]
    return [*found, {**dict.fromkeys(keys), keys[0]: "Total", **cells(table)}] if body.get("totals") else found


def select(tables: Tables, body: Row) -> list[Row]:
    return [{name: row[name] for name in body["columns"]} for row in tables[body["table"]]]


def drop(tables: Tables, body: Row) -> list[Row]:
    return [{name: value for name, value in row.items() if name not in body["columns"]} for row in tables[body["table"]]]


def rename(tables: Tables, body: Row) -> list[Row]:
    return [{body["columns"].get(name, name): value for name, value in row.items()} for row in tables[body["table"]]]


def remove_duplicates(tables: Tables, body: Row) -> list[Row]:
    return [rows[0] for rows in _groups(tables[body["table"]], body["on"]).values()]


def sort(tables: Tables, body: Row) -> list[Row]:
    rows = list(tables[body["table"]])
    for by in reversed(body["by"]):
        name = by["column"]
        values = [row for row in rows if row[name] is not None and not isinstance(row[name], Wrong)]
        values.sort(key=lambda row: folded(row[name]), reverse=bool(by.get("descending")))
        rows = [*values, *(row for row in rows if isinstance(row[name], Wrong)), *(row for row in rows if row[name] is None)]
    return rows


def fill_down(tables: Tables, body: Row) -> list[Row]:
    last: Row = dict.fromkeys(body["columns"])
    found = []
    for row in tables[body["table"]]:
        last = {name: row[name] if row[name] is not None else last[name] for name in body["columns"]}
        found.append({**row, **last})
    return found


def unpivot(tables: Tables, body: Row) -> list[Row]:
    found = []
    for row in tables[body["table"]]:
        kept = {name: value for name, value in row.items() if name not in body["columns"]}
        found += [{**kept, body["names"]: name, body["values"]: row[name]} for name in body["columns"] if row[name] is not None]
    return found


def _within(tables: Tables, body: Row, value: Callable[[list[Row], int], Any]) -> list[Row]:
    """The rows with a column of a value that ``value`` gives for a place among the rows of its group."""
    groups = _groups(tables[body["table"]], body.get("by", []))
    places = {id(row): (rows, at) for rows in groups.values() for at, row in enumerate(rows)}
    return [{**row, body["to"]: value(*places[id(row)])} for row in tables[body["table"]]]


def running_total(tables: Tables, body: Row) -> list[Row]:
    def total(rows: list[Row], at: int) -> Any:
        values = [row[body["of"]] for row in rows[: at + 1]]
        wrong = [value for value in values if isinstance(value, Wrong)]
        return wrong[0] if wrong else sum((value for value in values if value is not None), Decimal(0))

    return _within(tables, body, total)


def rank(tables: Tables, body: Row) -> list[Row]:
    def place(rows: list[Row], at: int) -> Any:
        own, numbers = rows[at][body["of"]], [row[body["of"]] for row in rows]
        if own is None or isinstance(own, Wrong):
            return own
        numbers = [number for number in numbers if number is not None and not isinstance(number, Wrong)]
        return Decimal(1 + sum(number < own if body.get("ascending") else number > own for number in numbers))

    return _within(tables, body, place)


def lag(tables: Tables, body: Row) -> list[Row]:
    def before(rows: list[Row], at: int) -> Any:
        place = at - body["rows"]
        return rows[place][body["of"]] if 0 <= place < len(rows) else None

    return _within(tables, body, before)


def lead(tables: Tables, body: Row) -> list[Row]:
    return lag(tables, {**body, "rows": -body["rows"]})


def share(tables: Tables, body: Row) -> list[Row]:
    def part(rows: list[Row], at: int) -> Any:
        own, total = rows[at][body["of"]], aggregated("sum", [row[body["of"]] for row in rows])
        if isinstance(total, Wrong) or own is None:
            return total if isinstance(total, Wrong) else None
        return (own / total).quantize(Decimal("1e-10"), ROUND_HALF_UP) if total else Wrong(DIV0)

    return _within(tables, body, part)


def _first_of_groups(tables: Tables, body: Row, ordered: Callable[[list[tuple[int, Row]]], list[tuple[int, Row]]]) -> list[Row]:
    """The rows of each group that come first, in the order of the table."""
    groups: dict[Any, list[tuple[int, Row]]] = {}
    for at, row in enumerate(tables[body["table"]], 1):
        groups.setdefault(key_of(row, body.get("by", [])), []).append((at, row))
    kept = {at for rows in groups.values() for at, _ in ordered(rows)[: body["rows"]]}
    return [row for at, row in enumerate(tables[body["table"]], 1) if at in kept]


def limit(tables: Tables, body: Row) -> list[Row]:
    return _first_of_groups(tables, body, lambda rows: rows)


def top(tables: Tables, body: Row) -> list[Row]:
    by = [{"column": body["of"], "descending": not body.get("ascending")}]

    def ordered(rows: list[tuple[int, Row]]) -> list[tuple[int, Row]]:
        marked = [{**row, "at": at} for at, row in rows]
        return [(row["at"], row) for row in sort({"rows": marked}, {"table": "rows", "by": by})]

    return _first_of_groups(tables, body, ordered)


def sample(tables: Tables, body: Row) -> list[Row]:
    def die(at: int) -> int:
        return int(hashlib.md5(f"{body['seed']}:{at}".encode()).hexdigest(), 16)

    if "share" in body:
        return [row for at, row in enumerate(tables[body["table"]], 1) if die(at) < Decimal(body["share"]) * 2**128]
    return _first_of_groups(tables, body, lambda rows: sorted(rows, key=lambda one: die(one[0])))


def cast(tables: Tables, body: Row) -> list[Row]:
    return [{name: _cast(value, body["columns"].get(name)) for name, value in row.items()} for row in tables[body["table"]]]


def _cast(value: Any, kind: str | None) -> Any:
    if kind is None or value is None or isinstance(value, Wrong) or (kind == "text" and isinstance(value, str)):
        return value
    if kind == "text":
        return str(value)
    digits = 0 if kind == "integer" else int(kind[-2])
    if isinstance(value, str) and not re.fullmatch(rf"[+-]?[0-9]+(\.[0-9]{{1,{digits}}}0*)?" if digits else r"[+-]?[0-9]+(\.0+)?", value):
        return Wrong(VALUE)
    rounded = Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return rounded if rounded == Decimal(value) else Wrong(NUM)


def split(tables: Tables, body: Row) -> list[Row]:
    found, name, into = [], body["column"], body.get("into", [])
    for row in tables[body["table"]]:
        parts: list[Any] = [part or None for part in (row[name] or "").split(body["by"], len(into) - 1 if into else -1)]
        if into:
            found.append({**row, **dict(zip(into, [*parts, *[None] * len(into)], strict=False))})
        else:
            found += [{**row, name: part} for part in parts]
    return found


def number_rows(tables: Tables, body: Row) -> list[Row]:
    return _within(tables, body, lambda rows, at: Decimal(at + 1))


def _conditional(kind: str) -> Callable[[Tables, Row], list[Row]]:
    def operation(tables: Tables, body: Row) -> list[Row]:
        others, found = tables[body.get("in", body["table"])], []
        tests = [(name, one) for name, listed in body["criteria"].items() for one in (listed if isinstance(listed, list) else [listed])]
        for row in tables[body["table"]]:
            wrong = [row[one["column"]] for _, one in tests if isinstance(one, dict) and isinstance(row[one["column"]], Wrong)]
            fitting = [other for other in others if all(_fits(other[name], one, row) for name, one in tests)] if not wrong else []
            found.append({**row, body["to"]: wrong[0] if wrong else _conditionally(kind, body, fitting)})
        return found

    return operation


def _fits(value: Any, criterion: Any, row: Row) -> bool:
    if isinstance(criterion, dict):
        return fits_row(value, criterion.get("is", "="), row[criterion["column"]])
    return fits(value, criterion)


def _conditionally(kind: str, body: Row, rows: Sequence[Row]) -> Any:
    if kind == "count":
        return Decimal(len(rows))
    result = aggregated(kind, [row[body["of"]] for row in rows])
    return Decimal(0) if result is None else result


def filtered(tables: Tables, body: Row) -> list[Row]:
    return [row for row in tables[body["table"]] if all(_fits(row[name], one, row) for name, one in body["criteria"].items())]


OPERATIONS: dict[str, Callable[[Tables, Row], list[Row]]] = {
    "filter": filtered,
    **{f"{kind}ifs": _conditional(kind) for kind in ("sum", "count", "average", "min", "max")},
    **{
        one.__name__: one
        for one in (
            *(vlookup, xlookup, join, append, group, pivot, remove_duplicates, sort, fill_down, unpivot, select, drop, rename),
            *(running_total, rank, lag, number_rows, lead, share, limit, top, sample, cast, split),
        )
    },
}
