"""Columns as letters, as in a sheet that has the table below its heading, for the formula as it stands in row 2: ``B2`` is the row's own
value of the second column, ``C:C`` the whole third, ``items!A:C`` the first three of another table."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from recon.errors import WrongUsage
from recon.transformations.formulas.tree import Call, Cell, ColumnOf, Columns, TableColumn, Tree

FIRST_ROW = 2
LAST_COLUMN = 16_384
_SHEET = r"(?:'?(?P<table>[^\W\d]\w*)'?!)?"
_CELL = re.compile(rf"{_SHEET}\$?(?P<first>[A-Za-z]{{1,3}})(?P<fixed>\$?)(?P<row>[0-9]{{1,7}})\Z")
_CELLS = re.compile(
    rf"{_SHEET}\$?(?P<first>[A-Za-z]{{1,3}})(?P<fixed>\$?)(?P<row>[0-9]{{1,7}}):\$?(?P<last>[A-Za-z]{{1,3}})\$?(?P<to>[0-9]{{1,7}})\Z"
)
_COLUMNS = re.compile(rf"{_SHEET}\$?(?P<first>[A-Za-z]{{1,3}}):\$?(?P<last>[A-Za-z]{{1,3}})\Z")


def lettered(reference: str) -> Cell | Columns | None:
    """What a reference with letters means; None for any other. Raises WrongUsage for cells that are not of the row."""
    if found := _COLUMNS.match(reference):
        first, last = sorted((_place(reference, found["first"]), _place(reference, found["last"])))
        return Columns(found["table"] or "", first, last, reference)
    if found := _CELL.match(reference):
        _refuse_other_rows(reference, found)
        return Cell(_place(reference, found["first"]), reference)
    return None


def cells(reference: str) -> list[Cell]:
    """The cells of a range within the row, such as ``A2:C2``; none for any other reference. Raises as ``lettered``."""
    found = _CELLS.match(reference)
    if found is None or found["row"] != found["to"]:
        return []
    _refuse_other_rows(reference, found)
    first, last = sorted((_place(reference, found["first"]), _place(reference, found["last"])))
    return [Cell(place, reference) for place in range(first, last + 1)]


def named(tree: Tree, columns_of: Callable[[str], Sequence[str]]) -> Tree:
    """A formula with names in place of letters. ``columns_of``: a table, the row's own where it is empty → the names of its columns.
    Raises WrongUsage for a letter beyond them."""
    match tree:
        case Cell(place, shown):
            return ColumnOf(_at(columns_of(""), place, shown))
        case Columns(table, first, last, shown):
            names = columns_of(table)
            _at(names, last, shown)
            return TableColumn(table, names[first]) if first == last else tree
        case Call(name, args):
            return Call(name, tuple(named(arg, columns_of) for arg in args))
    return tree


def _refuse_other_rows(reference: str, found: re.Match[str]) -> None:
    if found["table"]:
        raise WrongUsage(f"{reference} is a cell of another table; look it up, or take its whole column, such as {found['table']}!B:B")
    if found["fixed"]:
        raise WrongUsage(f"{reference} is the same cell for all rows; name a column of the row, such as {found['first']}{FIRST_ROW}")
    if int(found["row"]) != FIRST_ROW:
        raise WrongUsage(
            f"{reference} is a cell of another row; write the formula as it stands in row {FIRST_ROW}, the first below the heading: "
            f"{found['first']}{FIRST_ROW} is the row's own value. For other rows there are the operations lag, lead and running_total"
        )


def _place(reference: str, letters: str) -> int:
    """From 0 for A."""
    number = 0
    for letter in letters.upper():
        number = 26 * number + ord(letter) - ord("A") + 1
    if number > LAST_COLUMN:
        raise WrongUsage(f"{reference}: a sheet has no column {letters}; the last is XFD")
    return number - 1


def _at(names: Sequence[str], place: int, shown: str) -> str:
    if place >= len(names):
        raise WrongUsage(f"{shown}: the table has {len(names)} columns, A to {letters(len(names) - 1)}")
    return names[place]


def letters(place: int) -> str:
    """``A`` for 0."""
    found, number = "", place + 1
    while number:
        number, rest = divmod(number - 1, 26)
        found = chr(ord("A") + rest) + found
    return found
