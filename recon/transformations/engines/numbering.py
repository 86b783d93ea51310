"""``row_number() OVER (ORDER BY …)`` over all rows of a relation, taken out of the SELECT: Spark sorts, and numbers the rows afterwards."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEAD = re.compile(r"row_number\(\) OVER \(ORDER BY ")
ORDER = "recon_row_"
"""The column that an output is in order of."""
_DIRECTION = re.compile(r"\s+(ASC|DESC)?\s*(?:NULLS (FIRST|LAST))?\s*\Z")


@dataclass(frozen=True)
class Numbered:
    """``select``: with the columns ``o0``, ``o1``, … to sort by in front; ``order``: for each whether it descends, and whether nulls come
    first. ``name``: of the number, column ``place`` of the original SELECT."""

    select: str
    order: tuple[tuple[bool, bool], ...]
    name: str
    place: int


def numbered(select: str) -> Numbered | None:
    """A SELECT one of whose results is the number of a row among all; None for any other."""
    if not select.startswith("SELECT ") or len(_HEAD.findall(select)) != 1:
        return None
    results, rest = _results(select)
    if any(depth == 0 and rest.startswith((" UNION ", " ORDER BY "), at) for at, depth in _depths(rest)):
        return None
    place = next((at for at, one in enumerate(results) if _HEAD.match(one)), None)
    if place is None:
        return None
    call, _, name = results[place].rpartition(" AS ")
    if not name.isidentifier() or not call.endswith(")"):
        return None
    terms = split(call[_HEAD.match(call).end() : -1])  # type: ignore[union-attr]
    keys, order = [], []
    for at, term in enumerate(terms):
        direction = _DIRECTION.search(term)
        keys.append(f"{term[: direction.start()] if direction else term} AS o{at}")
        order.append((bool(direction and direction[1] == "DESC"), bool(direction and direction[2] == "FIRST")))
    others = results[:place] + results[place + 1 :]
    return Numbered(f"SELECT {', '.join([*keys, *others])}{rest}", tuple(order), name, place)


def ordered(select: str) -> str | None:
    """A SELECT that ends with ``ORDER BY`` one column, without it and with that column as ``ORDER`` in front."""
    before, found, key = select.rpartition(" ORDER BY ")
    if not found or not re.fullmatch(r"[\w.]+", key) or not before.startswith("SELECT "):
        return None
    return f"SELECT {key} AS {ORDER}, {before.removeprefix('SELECT ')}"


def _results(select: str) -> tuple[list[str], str]:
    """The list of results, and all from FROM on."""
    end = next(at for at, depth in _depths(select) if depth == 0 and select.startswith(" FROM ", at))
    return split(select[len("SELECT ") : end]), select[end:]


def split(listed: str) -> list[str]:
    """The parts of a list between commas that are in no brackets and no quotes."""
    commas = [at for at, depth in _depths(listed) if depth == 0 and listed[at] == ","]
    return [listed[start:end].strip() for start, end in zip([0, *(at + 1 for at in commas)], [*commas, len(listed)], strict=True)]


def _depths(text: str) -> list[tuple[int, int]]:
    """Place and depth of brackets of each character that is in no quotes."""
    found, depth, quote = [], 0, ""
    for at, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
            continue
        if character in "'\"":
            quote = character
            continue
        depth -= character in ")]}"
        found.append((at, depth))
        depth += character in "([{"
    return found
