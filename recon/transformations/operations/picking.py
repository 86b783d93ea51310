"""Operations that keep some of the rows: limit, top, sample."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from recon.config.fields import Text, Texts, mistake
from recon.transformations.operations.port import Operation, Plan
from recon.transformations.operations.table import ROW, Table, folded, order, select
from recon.vocabulary.duckdb import literal

Count = Annotated[int, Field(ge=1, le=10**12)]


class _PerGroup(Operation):
    """``by``: the groups of which each keeps its own rows; none: all rows are one. The rows keep their order."""

    by: Texts = ()

    def kept(self, plan: Plan, table: Table, first: list[str], rows: int) -> Table:
        """The ``rows`` rows of each group that come first in an order."""
        keys = [part for name in self.by for part in folded(table.column(name))]
        partition = f"PARTITION BY {', '.join(keys)} " if keys else ""
        place = f"row_number() OVER ({partition}ORDER BY {', '.join([*first, ROW])}) AS place"
        parts = ", ".join(sql for column in table.known for sql in column.sql)
        # A relation of its own, since only a number that is a result of one is given by all of Spark's tasks.
        source = plan.relation(f"SELECT {ROW}, {parts}, {place} FROM {table.relation}")
        return table.with_columns(table.known, plan.relation(f"{select(table.known, source)} WHERE place <= {rows}", stored=True))


class Limit(_PerGroup):
    """The first ``rows`` rows."""

    KIND: ClassVar[str] = "limit"
    rows: Count

    def apply(self, plan: Plan, table: Table) -> Table:
        return self.kept(plan, table, [], self.rows)


class Top(_PerGroup):
    """The ``rows`` rows with the greatest values ``of`` a column, with ``ascending`` the least; of equal values those that come first.
    Errors come after values, blanks last."""

    KIND: ClassVar[str] = "top"
    rows: Count
    of: Text
    ascending: bool = False

    def apply(self, plan: Plan, table: Table) -> Table:
        return self.kept(plan, table, order(table.column(self.of), not self.ascending), self.rows)


class Sample(_PerGroup):
    """``rows`` rows at random, or a ``share`` of them, such as "0.05", for each of which a die is cast. The die is the MD5 of the ``seed``
    and the row's place, so the same seed takes the same rows, on every engine."""

    KIND: ClassVar[str] = "sample"
    seed: int
    rows: Count | None = None
    share: Annotated[Decimal | None, Field(gt=0, le=1, max_digits=20)] = None

    @model_validator(mode="after")
    def _rows_or_share(self) -> Sample:
        if (self.rows is None) == (self.share is None):
            raise mistake('say how many: rows: 1000, or share: "0.05"')
        if self.share is not None and self.by:
            raise mistake("a share is one of all rows; leave out by, or say rows")
        return self

    def apply(self, plan: Plan, table: Table) -> Table:
        parts = ", ".join(sql for column in table.known for sql in column.sql)
        placed = plan.relation(f"SELECT {ROW}, {parts}, row_number() OVER (ORDER BY {ROW}) AS place FROM {table.relation}")
        die = f"md5({literal(f'{self.seed}:')} || CAST(place AS VARCHAR)) AS die"
        cast = plan.relation(f"SELECT {ROW}, {parts}, {die} FROM {placed}", stored=True)
        if self.rows is not None:
            return self.kept(plan, table.with_columns(table.known, cast), ["die"], self.rows)
        assert self.share is not None, "the validator wants one of both"
        below = int(self.share * 2**128)
        condition = f" WHERE die < {literal(f'{below:032x}')}" if below < 2**128 else ""
        return table.with_columns(table.known, plan.relation(f"{select(table.known, cast)}{condition}", stored=True))
