"""Formulas that look at whole columns, such as ``SUMIFS(sales[amount], sales[region], [@region])``: each such call becomes a column of the
row's table, made by the operation that does the same, and the formula names it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from recon.errors import WrongUsage
from recon.transformations.formulas.compile import literal_integer
from recon.transformations.formulas.tree import ERRORS, Call, ColumnOf, Columns, Error, Number, Omitted, TableColumn, Text, Tree, Truth
from recon.transformations.operations.aggregates import Kind as Aggregated
from recon.transformations.operations.conditional import Conditions, added_up
from recon.transformations.operations.matching import Find, Match, taken
from recon.transformations.operations.port import Plan
from recon.transformations.operations.row_criteria import PerRow, Sign
from recon.transformations.operations.table import Column, Table

_IFS: dict[str, Aggregated] = {"SUMIFS": "sum", "AVERAGEIFS": "average", "MINIFS": "min", "MAXIFS": "max"}
_IF: dict[str, Aggregated] = {"SUMIF": "sum", "AVERAGEIF": "average"}
_WHOLE: dict[str, Aggregated] = {"SUM": "sum", "AVERAGE": "average", "MIN": "min", "MAX": "max", "MEDIAN": "median", "COUNT": "count"}
_COUNTS = {"COUNTA": "<>", "COUNTBLANK": "", "ROWS": None}
"""Function → the criterion of what it counts."""
_SIGNS: tuple[Sign, ...] = ("<>", "<", "<=", ">", ">=")
_FINDS: dict[int, Find] = {0: "exact", -1: "smaller", 1: "larger", 2: "wildcard"}
"""XLOOKUP's match modes."""
_MATCHES: dict[int, Find] = {0: "wildcard", 1: "smaller", -1: "larger"}
"""MATCH's types; 0 takes wildcards where the key is a text."""

FUNCTIONS = {*_IFS, *_IF, *_WHOLE, *_COUNTS, "COUNTIF", "COUNTIFS", "XLOOKUP", "VLOOKUP", "INDEX", "MATCH"}
_ALWAYS = FUNCTIONS - _WHOLE.keys() - {"COUNTA", "COUNTBLANK"}
"""Functions that take whole columns only."""

Computed = Callable[[Plan, Table, str, Tree], Table]
"""A plan, a table, a name and a formula → the table with that column."""


def tables_in(tree: Tree) -> Iterator[str]:
    """The names of the tables of whose columns a formula speaks; the row's own is empty."""
    match tree:
        case TableColumn(table, _) | Columns(table, _, _, _):
            yield table
        case Call(_, args):
            for arg in args:
                yield from tables_in(arg)


def looks_at_columns(tree: Tree) -> bool:
    """Whether a formula looks at whole columns, or has a function that does."""
    match tree:
        case TableColumn() | Columns():
            return True
        case Call(name, args):
            return name in _ALWAYS or any(looks_at_columns(arg) for arg in args)
    return False


@dataclass
class OverTables:
    """Resolves the calls of a formula over ``table``, which grows by a column for each. ``computed`` adds the column of a formula."""

    plan: Plan
    table: Table
    computed: Computed
    reserved: frozenset[str] = frozenset()
    """Names of columns to come."""
    made: list[str] = field(default_factory=list)
    """The columns that only formulas name."""

    def resolved(self, tree: Tree) -> Tree:
        """The formula without whole columns. Raises WrongUsage for calls that cannot be."""
        match tree:
            case TableColumn():
                raise _no_value(_shown(tree))
            case Columns(shown=shown):
                raise WrongUsage(f"{shown} are several whole columns, which VLOOKUP takes; name one, such as {shown.partition(':')[0]}:…")
            case Call(name, args) if name in _ALWAYS or any(isinstance(arg, TableColumn) for arg in args):
                return self._call(name, args)
            case Call(name, args):
                return Call(name, tuple(self.resolved(arg) for arg in args))
        return tree

    def _call(self, name: str, args: Sequence[Tree]) -> Tree:
        if name in _IFS or name == "COUNTIFS":
            of, pairs = (args[0], args[1:]) if name in _IFS else (None, args)
            return self._conditional(name, _IFS.get(name, "count"), of, pairs)
        if name in _IF and len(args) in (2, 3):
            return self._conditional(name, _IF[name], args[2] if len(args) == 3 else args[0], args[:2])
        if name == "COUNTIF" and len(args) == 2:
            return self._conditional(name, "count", None, args)
        if name in _WHOLE:
            return self._whole(name, args)
        if name in _COUNTS and len(args) == 1:
            return self._count(name, args[0])
        if name == "XLOOKUP" and 3 <= len(args) <= 6:
            return self._xlookup(args)
        if name == "VLOOKUP" and 3 <= len(args) <= 4:
            return self._vlookup(args)
        if name == "INDEX" and len(args) == 2:
            return self._index(args)
        whole = next((_shown(arg) for arg in args if isinstance(arg, TableColumn)), "a whole column")
        if not name.isalpha():
            raise _no_value(whole)
        raise WrongUsage(f"{name} does not take {whole} so; see docs/transformations.md for the functions that look at whole columns")

    def _conditional(self, name: str, kind: Aggregated, of: Tree | None, pairs: Sequence[Tree]) -> Tree:
        if not pairs or len(pairs) % 2:
            raise WrongUsage(f"{name} takes pairs of a column and its criterion")
        wanted = [self._column(name, tree) for tree in ([] if of is None else [of])]
        tested = [self._column(name, tree) for tree in pairs[::2]]
        other = self._one_table(name, [table for table, _ in (*wanted, *tested)])
        constant, per_row = list[tuple[Column, str]](), list[PerRow]()
        for (_, column), criterion in zip(tested, pairs[1::2], strict=True):
            text = _constant(criterion)
            if text is not None:
                constant.append((column, text))
                continue
            sign, own = _signed(criterion)
            per_row.append(PerRow(column, sign, self._own(name, own)))
        return self._added(name, other, (kind, wanted[0][1] if wanted else None), Conditions(constant, per_row))

    def _added(self, name: str, other: Table, of: tuple[Aggregated, Column | None], conditions: Conditions) -> Tree:
        made = self._new(name)
        self.table = added_up(self.plan, self.table, other, of, conditions, made)
        return ColumnOf(made)

    def _whole(self, name: str, args: Sequence[Tree]) -> Tree:
        """SUM, MIN, MAX of whole columns and of values of the row; the others of a whole column alone."""
        if name not in ("SUM", "MIN", "MAX") and len(args) > 1:
            raise WrongUsage(f"{name} takes one whole column, not {len(args)} arguments")
        found: list[Tree] = []
        for arg in args:
            if isinstance(arg, TableColumn):
                other, column = self._column(name, arg)
                countable = name != "COUNT" or column.type.kind not in ("text", "boolean")
                found.append(self._added(name, other, (_WHOLE[name], column), Conditions([], [])) if countable else Number(Decimal(0)))
            else:
                found.append(self.resolved(arg))
        return found[0] if len(found) == 1 else Call(name, tuple(found))

    def _count(self, name: str, of: Tree) -> Tree:
        other, column = self._column(name, of)
        criterion = _COUNTS[name]
        return self._added(name, other, ("count", None), Conditions([] if criterion is None else [(column, criterion)], []))

    def _xlookup(self, args: Sequence[Tree]) -> Tree:
        key, match, take = args[:3]
        mode = literal_integer(args[4], "the match mode of XLOOKUP", -1, 2) if len(args) > 4 and not isinstance(args[4], Omitted) else 0
        search = literal_integer(args[5], "the search mode of XLOOKUP", -1, 1) if len(args) > 5 and not isinstance(args[5], Omitted) else 1
        if search == 0:
            raise WrongUsage("the search mode of XLOOKUP is 1, from the first row on, or -1, from the last")
        missing = args[3] if len(args) > 3 and not isinstance(args[3], Omitted) else None
        return self._found("XLOOKUP", key, match, take, (_FINDS[mode], "first" if search == 1 else "last"), missing)

    def _vlookup(self, args: Sequence[Tree]) -> Tree:
        whole = args[1]
        if isinstance(whole, Columns):
            columns = self._table(TableColumn(whole.table, None)).known[whole.first : whole.last + 1]
        elif isinstance(whole, TableColumn):
            columns = self._table(whole).known if whole.name is None else (self._column("VLOOKUP", whole)[1],)
        else:
            raise WrongUsage("VLOOKUP takes the name of a table, whose first column has the keys, or columns such as items!A:C")
        at = literal_integer(args[2], "the column of VLOOKUP", 1, len(columns))
        near = args[3] if len(args) > 3 else Truth(True)
        if not isinstance(near, Truth | Number):
            raise WrongUsage("the last argument of VLOOKUP is TRUE or FALSE as it is written")
        key, take = (TableColumn(whole.table, columns[number].name) for number in (0, at - 1))
        return self._found("VLOOKUP", args[0], key, take, ("smaller", "last") if near.value else ("wildcard", "first"), None)

    def _index(self, args: Sequence[Tree]) -> Tree:
        """INDEX(t[c], MATCH(key, t[k], type))."""
        match args:
            case [TableColumn() as take, Call("MATCH", (key, TableColumn() as match, *rest))] if len(rest) <= 1:
                kind = literal_integer(rest[0], "the type of MATCH", -1, 1) if rest else 1
                return self._found("INDEX", key, match, take, (_MATCHES[kind], "last" if kind == 1 else "first"), None)
        raise WrongUsage(
            "INDEX takes a whole column and MATCH over one of the same table: INDEX(items[price], MATCH([@item], items[item], 0))"
        )

    def _found(
        self, name: str, key: Tree, match: Tree, take: Tree, how: tuple[Find, Literal["first", "last"]], missing: Tree | None
    ) -> Tree:
        find, many = how
        sides = [self._column(name, tree) for tree in (match, take)]
        other = self._one_table(name, [table for table, _ in sides])
        own, columns = self._own(name, key), [column for _, column in sides]
        if find == "wildcard" and name != "XLOOKUP" and columns[0].type.kind != "text":
            find = "exact"
        value, there = self._new(name), self._new(f"{name} key")
        wanted = {value: columns[1]} | ({there: columns[0]} if missing is not None else {})
        self.table = taken(self.plan, self.table, Match(other, [own], [columns[0]], find, many), wanted, None)
        if missing is None:
            return ColumnOf(value)
        instead = self.resolved(missing)
        wrong_key = Call("ISERROR", (ColumnOf(own.name),))
        absent = Call("IF", (wrong_key, ColumnOf(value), instead))
        return Call("IF", (Call("ISERROR", (ColumnOf(there),)), absent, ColumnOf(value)))

    def _own(self, name: str, tree: Tree) -> Column:
        """The row's value of a formula as a column of the table."""
        tree = self.resolved(tree)
        if isinstance(tree, ColumnOf):
            return self.table.column(tree.name)
        made = self._new(f"{name} argument")
        self.table = self.computed(self.plan, self.table, made, tree)
        return self.table.column(made)

    def _new(self, what: str) -> str:
        """A name for a column that only the formula sees."""
        there = {name.casefold() for name in (*(column.name for column in self.table.known), *self.reserved, *self.made)}
        self.made.append(next(name for number in range(1, 10**6) if (name := f"{what} {number}").casefold() not in there))
        return self.made[-1]

    def _table(self, of: TableColumn) -> Table:
        if not of.table:
            return self.table
        if of.table not in self.plan.tables:
            raise WrongUsage(f"there is no table {of.table!r} before it; there are {', '.join(sorted(self.plan.tables))}")
        found = self.plan.tables[of.table]
        return self.table if found.name == self.table.name else found

    def _column(self, name: str, tree: Tree) -> tuple[Table, Column]:
        if not isinstance(tree, TableColumn) or tree.name is None:
            raise WrongUsage(f"{name} takes a whole column here, such as sales[amount]")
        table = self._table(tree)
        return table, table.column(tree.name)

    def _one_table(self, name: str, tables: Sequence[Table]) -> Table:
        names = sorted({table.name for table in tables})
        if len(names) > 1:
            raise WrongUsage(f"{name} takes columns of one table, not of {' and '.join(names)}")
        return tables[0]


def _no_value(shown: str) -> WrongUsage:
    return WrongUsage(f"{shown} is a whole column; name a column of the row, such as [@amount], or take its SUM")


def _shown(of: TableColumn) -> str:
    return f"{of.table}[{of.name}]" if of.name is not None else of.table


def _constant(tree: Tree) -> str | None:
    """The criterion that is the same for every row, as a text."""
    match tree:
        case Text(text):
            return text
        case Number(number):
            return f"{number:f}"
        case Call("NEG", (Number(number),)):
            return f"{-number:f}"
        case Truth(truth):
            return str(truth).upper()
        case Error(code):
            return next(text for text, one in ERRORS.items() if one == code)
    return None


def _signed(tree: Tree) -> tuple[Sign, Tree]:
    """``">="&[@from]`` → its sign and what comes behind; anything else is equal."""
    match tree:
        case Call("&", (Text(sign), own)) if sign in _SIGNS:
            return sign, own
        case Call("&", (Text("="), _)):
            raise WrongUsage('write the value itself in place of "="&value')
    return "=", tree
