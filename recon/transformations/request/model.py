"""The form of a request, version 1."""

from __future__ import annotations

import difflib
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from recon.config.fields import Section, Text, mistake
from recon.config.mistakes import section
from recon.config.settings import MemoryLimit
from recon.transformations.formulas.settings import Settings
from recon.transformations.operations.columns import Compute, Drop, Rename, Select
from recon.transformations.operations.conditional import CONDITIONAL
from recon.transformations.operations.groups import Group, Unpivot
from recon.transformations.operations.joins import Append, Join
from recon.transformations.operations.lookup import Vlookup, Xlookup
from recon.transformations.operations.picking import Limit, Sample, Top
from recon.transformations.operations.pivoting import Pivot
from recon.transformations.operations.port import Operation
from recon.transformations.operations.rows import Filter, RemoveDuplicates, Sort
from recon.transformations.operations.values import Cast, Split
from recon.transformations.operations.windows import FillDown, Lag, Lead, NumberRows, Rank, RunningTotal, Share
from recon.transformations.request.calendar import Calendar, Holidays
from recon.transformations.request.engine import EngineName, SparkSection
from recon.transformations.request.inputs import Input
from recon.transformations.request.outputs import Output

KINDS: dict[str, type[Operation]] = {
    kind.KIND: kind
    for kind in (
        *(Vlookup, Xlookup, Join, Append, Compute, Select, Drop, Rename, Filter, Sort, RemoveDuplicates),
        *(Group, Pivot, Unpivot, RunningTotal, Rank, Lag, NumberRows, FillDown),
        *(Share, Lead, Cast, Split, Limit, Top, Sample),
        *CONDITIONAL,
    )
}
OPERATIONS_MAX = 1000


def _operation(value: object) -> object:
    """``{vlookup: {…}}``: the one name is the kind."""
    if isinstance(value, Operation):
        return value
    if not isinstance(value, dict) or len(value) != 1:
        raise mistake('an operation is one name and its section, such as {filter: {table: sales, where: "=[@amount]>0"}}')
    ((kind, body),) = value.items()
    if kind not in KINDS:
        near = difflib.get_close_matches(str(kind), list(KINDS), 1)
        raise mistake(f"there is no operation {kind!r}; " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(KINDS)}"))
    return section(KINDS[kind], body, kind)


def _there_are(name: str, known: set[str]) -> str:
    """What a name may have meant."""
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"


class Request(Section):
    """``as_of``: what TODAY is; default: the day on which it runs. ``on_error``: what an error is in an output: its text, null, or a
    reason to fail. ``holidays``: of NETWORKDAYS and WORKDAY. ``approximate``: powers and roots that are not exact may be computed in
    doubles."""

    version: Literal["v1"] = "v1"
    as_of: date | None = None
    inputs: Annotated[dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,59}$")], Input], Field(min_length=1, max_length=100)]
    operations: Annotated[tuple[Annotated[Any, BeforeValidator(_operation)], ...], Field(max_length=OPERATIONS_MAX)] = ()
    outputs: Annotated[tuple[Output, ...], Field(min_length=1, max_length=100)]
    holidays: Holidays = ()
    approximate: bool = False
    on_error: Literal["text", "null", "reject", "fail"] = "text"
    certificate: Text | None = None
    memory_limit: MemoryLimit = "2GB"
    engine: EngineName = "auto"
    spark: SparkSection = SparkSection()

    @model_validator(mode="after")
    def _tables_are_there(self) -> Request:
        known = set(self.inputs)
        if len({name.casefold() for name in known}) < len(known):
            raise mistake("two tables have names that differ only in their case; rename one", "inputs")
        for number, operation in enumerate(self.operations):
            for name in operation.inputs:
                if name not in known:
                    raise mistake(f"there is no table {name!r} before it; {_there_are(name, known)}", "operations", number, operation.KIND)
            known.add(operation.as_ or operation.table)
        for number, output in enumerate(self.outputs):
            if output.table not in known:
                raise mistake(f"there is no table {output.table!r}; {_there_are(output.table, known)}", "outputs", number, "table")
        return self

    def settings(self, today: date) -> Settings:
        """What formulas take from the request; a named calendar is looked up. ``today``: where ``as_of`` is not given."""
        if isinstance(self.holidays, Calendar):
            return Settings(self.as_of or today, self.holidays.days(), self.holidays.years, self.approximate)
        return Settings(self.as_of or today, tuple(sorted(set(self.holidays))), None, self.approximate)
