"""sumif, sumifs, countif, countifs, averageif, averageifs, minifs, maxifs: a column with the aggregate of the rows that fit criteria."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from recon.config.fields import Section, Text, as_list
from recon.transformations.formulas.tree import DIV0
from recon.transformations.operations.aggregates import Aggregate, Kind, aggregated
from recon.transformations.operations.criteria import OF_ROW, Criterion, all_fit
from recon.transformations.operations.port import Kept, Operation, Plan, by_name
from recon.transformations.operations.row_criteria import PerRow, Sign, Test, test_of
from recon.transformations.operations.table import ROW, Column, Table
from recon.vocabulary.types import INTEGER, Type


@dataclass(frozen=True)
class Conditions:
    """``constant``: criteria that are the same for every row, each beside its column. ``per_row``: those that are not."""

    constant: Sequence[tuple[Column, str]]
    per_row: Sequence[PerRow]


def added_up(plan: Plan, table: Table, other: Table, of: tuple[Kind, Column | None], conditions: Conditions, to: str) -> Table:
    """The table with the column ``to``: the aggregate ``of`` over the rows of ``other`` that fit all conditions.

    Where no row fits, a sum and a count are 0, and so are the least and the greatest number; an average is #DIV/0!. An error of a row's own
    criterion is the result, and so is one among the values that fit. If all that rows compare is equal keys, this is one aggregation and
    one join; else every combination of the rows' values is compared with every row that fits the constant criteria."""
    table.refuse_taken([to])
    kind, value, error = _aggregate(other, of)
    tests = [test_of(plan, table, one) for one in conditions.per_row]
    mine = [sql for test in tests for sql in test.mine]
    names = [f"q{at}" for at in range(len(mine))]
    results, where = f"{value} AS v, CAST({error} AS TINYINT) AS e", all_fit(conditions.constant)
    keys = [test.key for test in tests if test.key is not None]
    if len(keys) == len(tests):
        found = _by_key(other, conditions.per_row, keys, results, where)
    else:
        wanted = ", ".join(f"{sql} AS {name}" for sql, name in zip(mine, names, strict=True))
        pairs = f"(SELECT DISTINCT {wanted} FROM {table.relation} t) q JOIN {other.relation} o ON {_all(tests)}"
        listed = ", ".join(names)
        found = f"SELECT {listed}, {results} FROM {pairs} WHERE {where} GROUP BY {listed}"
    equal = " AND ".join(f"{sql} IS NOT DISTINCT FROM a.{name}" for sql, name in zip(mine, names, strict=True)) or "true"
    join = f" LEFT JOIN {plan.relation(found, stored=True)} a ON {equal}"
    (made,) = plan.columns(1, [kind], [to])
    wrong = [f"t.{row.mine.error}" for row in conditions.per_row if row.mine.error]
    none = f"CASE WHEN a.v IS NULL THEN {DIV0} END" if of[0] == "average" else "NULL"
    code = f"coalesce({', '.join([*wrong, 'a.e', none, 'NULL'])})"
    result = f"coalesce(a.v, CAST(0 AS {kind.duckdb}))" if kind.is_number and of[0] != "average" else "a.v"
    parts = [f"t.{ROW}", *(f"t.{sql}" for column in table.known for sql in column.sql)]
    added = [f"CASE WHEN {code} IS NULL THEN {result} END AS {made.value}", f"CAST({code} AS TINYINT) AS {made.error}"]
    relation = plan.relation(f"SELECT {', '.join([*parts, *added])} FROM {table.relation} t{join}")
    plan.kept[relation] = Kept(table.relation, added=by_name(added), join=join)
    return table.with_columns([*table.known, made], relation)


def _by_key(other: Table, rows: Sequence[PerRow], keys: Sequence[str], results: str, where: str) -> str:
    """SELECT of the aggregate for each combination of keys q0, q1 …"""
    right = [f"{row.theirs.error} IS NULL" for row in rows if row.theirs.error]
    condition = " AND ".join([where, *right, *(f"{key} IS NOT NULL" for key in keys)])
    listed = "".join(f"{key} AS q{at}, " for at, key in enumerate(keys))
    grouped = f" GROUP BY {', '.join(keys)}" if keys else ""
    return f"SELECT {listed}{results} FROM {other.relation} WHERE {condition}{grouped}"


def _all(tests: Sequence[Test]) -> str:
    """SQL of whether a row of the other table fits all criteria of q."""
    parts, at = [], 0
    for test in tests:
        parts.append(test.fits([f"q.q{at + number}" for number in range(len(test.mine))]))
        at += len(test.mine)
    return " AND ".join(f"({part})" for part in parts)


def _aggregate(other: Table, of: tuple[Kind, Column | None]) -> tuple[Type, str, str]:
    """The type, the SQL of the value and of its error; without a column the number of rows."""
    kind, column = of
    if column is None:
        return INTEGER, "count(*)", "NULL"
    return aggregated(other, "", Aggregate.model_validate({kind: column.name}), "true")[1:]


class OfRow(Section):
    """A column of the row, and how the other table's column compares with it."""

    column: Text
    is_: Annotated[Sign, Field(alias="is")] = "="


def _of_row(value: object) -> object:
    """``">=[@from]"`` is the row's own column, as formulas name it."""
    if isinstance(value, str) and (found := OF_ROW.match(value)):
        return OfRow.model_validate({"column": found[2] or found[3], "is": found[1] or "="})
    return value


class _Conditional(Operation):
    """``to``: the new column. ``criteria``: for columns of the table ``in_`` (default: the same table), a criterion such as ``">=5"``, or
    ``"=[@region]"`` for the row's own, also written ``{column: region, is: "="}``, or a list of them; all hold."""

    OF: ClassVar[Kind] = "count"
    KEEPS_ROWS: ClassVar[bool] = True
    in_: Annotated[Text | None, Field(alias="in")] = None
    criteria: Annotated[
        dict[
            Text,
            Annotated[tuple[Annotated[OfRow | Criterion, BeforeValidator(_of_row)], ...], BeforeValidator(as_list), Field(min_length=1)],
        ],
        Field(min_length=1),
    ]
    to: Text

    @property
    def inputs(self) -> list[str]:
        return [self.table, *filter(None, [self.in_])]

    def apply(self, plan: Plan, table: Table) -> Table:
        other = plan.tables[self.in_] if self.in_ else table
        pairs = [(other.column(name), one) for name, listed in self.criteria.items() for one in listed]
        per_row = [PerRow(column, one.is_, table.column(one.column)) for column, one in pairs if isinstance(one, OfRow)]
        conditions = Conditions([(column, one) for column, one in pairs if isinstance(one, str)], per_row)
        return added_up(plan, table, other, (self.OF, self.value_of(other)), conditions, self.to)

    def value_of(self, other: Table) -> Column | None:
        """The column that is added up."""
        return None


class Countifs(_Conditional):
    """How many rows fit."""

    KIND: ClassVar[str] = "countifs"


class _OfValues(_Conditional):
    """``of``: the column of the table ``in_`` whose values count; blanks are left out, an error is the result."""

    of: Text

    def value_of(self, other: Table) -> Column | None:
        return other.column(self.of)


class Sumifs(_OfValues):
    """The sum of the values whose rows fit; 0 where none does."""

    KIND: ClassVar[str] = "sumifs"
    OF: ClassVar[Kind] = "sum"


class Averageifs(_OfValues):
    """Their average, with ten digits after the point, halves away from zero; #DIV/0! where there is no number."""

    KIND: ClassVar[str] = "averageifs"
    OF: ClassVar[Kind] = "average"


class Minifs(_OfValues):
    """The least of them; 0 where there is no number, a blank where there is no date."""

    KIND: ClassVar[str] = "minifs"
    OF: ClassVar[Kind] = "min"


class Maxifs(_OfValues):
    """The greatest of them; 0 where there is no number, a blank where there is no date."""

    KIND: ClassVar[str] = "maxifs"
    OF: ClassVar[Kind] = "max"


class Countif(Countifs):
    """The same as countifs."""

    KIND: ClassVar[str] = "countif"


class Sumif(Sumifs):
    """The same as sumifs."""

    KIND: ClassVar[str] = "sumif"


class Averageif(Averageifs):
    """The same as averageifs."""

    KIND: ClassVar[str] = "averageif"


CONDITIONAL = (Sumif, Sumifs, Countif, Countifs, Averageif, Averageifs, Minifs, Maxifs)
