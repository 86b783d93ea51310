"""The port of a warehouse."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from recon.vocabulary.types import Type

SCOPE, RUN, LEDGER = "recon_scope", "recon_run", "recon_loads"
ROWS_AT_ONCE = 10_000
"""Rows that are in memory at once where many are read."""


@dataclass(frozen=True)
class Load:
    """What is loaded. ``id``: equal for equal input by equal rules. ``run``: ascending; a load of an earlier run than the last of its
    scope is refused. ``aggregation``: its name among all that use the warehouse. ``target``: the table, ``name`` or ``schema.name``.
    ``keys``, ``measures``: columns of the table and of ``rows``, a local Parquet file with one row per key. ``totals``: of the measures
    that can be added up, as text."""

    id: str
    run: int
    aggregation: str
    target: str
    scope: str
    keys: Mapping[str, Type]
    measures: Mapping[str, Type]
    rows: Path
    count: int
    totals: Mapping[str, str]

    @property
    def columns(self) -> dict[str, Type]:
        return {**self.keys, **self.measures}


@dataclass(frozen=True)
class Loaded:
    """What a load did. ``again``: whether it had happened before, so that this time nothing was done."""

    rows: int
    inserted: int
    updated: int
    deleted: int
    again: bool = False


@dataclass(frozen=True)
class Audit:
    """``rows``: of the table; None where there is no table. ``doubled``: number of keys that it has more than once. ``nulls``: number of
    rows without a value in a key column. ``untied``: scope → how its rows differ from those of its last load, by the ledger."""

    rows: int | None
    doubled: int
    nulls: int
    untied: dict[str, str]


class Warehouse(Protocol):
    """A warehouse. Its methods raise WrongInput where rows or table do not fit, WrongUsage where something is not permitted, and TryAgain
    where it is locked or away."""

    shown: str
    """Its location for messages, without credentials."""

    def load(self, load: Load) -> Loaded:
        """Makes the rows of the load's scope those of its file, in one transaction with the ledger's entry. Does nothing where the ledger
        has the load and the table still ties. Raises WrongInput, with nothing changed, for a key that is missing, twice there or in another
        scope, a value that does not fit, sums that differ, a table or rows of others, or a later run in the ledger."""
        ...

    def find(self, target: str, run: int) -> Loaded | None:
        """The ledger's entry of a run; None where its load never committed."""
        ...

    def totals(self, target: str, scope: str, measures: Mapping[str, Type]) -> tuple[int, dict[str, Decimal | None]]:
        """The number of rows of a scope, and the sums of measures over them."""
        ...

    def audit(self, target: str, keys: Sequence[str]) -> Audit:
        """Whether the table's keys are unique and not null, and its scopes tie to their last loads."""
        ...

    def rows(self, target: str, scope: str, columns: Sequence[str]) -> Generator[list[tuple[Any, ...]], None, None]:
        """The rows of a scope in order of ``columns``, some at a time; none where there is no table. To be closed where it is not read to
        its end. A value may come as its text."""
        ...

    def sample(self, target: str, scope: str, most: int) -> list[dict[str, Any]]:
        """The first rows of a scope, without Recon's own columns; none where there is no table."""
        ...
