"""The configuration as values: events, measures, derived values, statuses, controls, ``Place`` and ``Config``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recon.config.settings import Cache, Caps, Closing, Compaction, Engine, Index, Limits, Retention, S3Settings, Workers
from recon.metering.prices import Prices
from recon.model.windows import Grid
from recon.vocabulary import Expression
from recon.vocabulary.types import Type

if TYPE_CHECKING:
    from recon.logic.source import LogicSource


Kind = Literal["sum", "count", "min", "max", "first", "last"]


RESERVED = {"key", "status", "windows", "first_window", "last_window", "age_days"}
"""Columns that every export has, so that no measure or derived value can have their name."""


@dataclass(frozen=True)
class Events:
    """What is known of the events' columns. ``id``: the columns of the event id, none where file and line are the identity. ``numbered``:
    whether its last part is the number of a row among the equal rows of its file. ``dedupe`` is how far back an equal id makes a
    duplicate. ``currency``: the column that says of which currency an event's amounts are. ``zone``: of times that state none ("" is
    UTC; None: such times are rejected). ``epochs``: columns of times that are counted since 1970 → s, ms or us."""

    types: dict[str, Type]
    id: tuple[str, ...]
    numbered: bool
    time: str | None
    dedupe: timedelta
    currency: str | None
    zone: str | None
    epochs: dict[str, str]

    @property
    def id_column(self) -> str | None:
        """The one column that is the id as it stands; None where there is no id or it is put together."""
        return self.id[0] if len(self.id) == 1 and not self.numbered else None


@dataclass(frozen=True)
class Measure:
    """One figure per key over the events for which ``where`` is true. ``column`` is None for ``count: "*"``."""

    name: str
    kind: Kind
    column: str | None
    where: Expression | None
    type: Type

    @property
    def is_amount(self) -> bool:
        """Whether it is of a currency, where events have one: a number that is no count."""
        return self.kind != "count" and self.type.is_number


@dataclass(frozen=True)
class Derived:
    """A value over measures and earlier derived values."""

    name: str
    expression: Expression


@dataclass(frozen=True)
class Status:
    """A status and the condition, over measures and derived values, under which it holds."""

    name: str
    expression: Expression


@dataclass(frozen=True)
class Control:
    """A control total of a batch: rows, or the sum of a column, in groups by another."""

    name: str
    kind: Literal["count", "sum"]
    column: str | None
    by: str | None


@dataclass(frozen=True)
class Place:
    """Where a reconciliation lies and how its keys and windows are named: all that a look-up needs, without the rules.

    ``numbers``: the measures that are numbers. ``names``: of measures, and of derived values. ``index``: the table that others look keys
    up in. ``shared``: whether a store in a folder may be read by others. ``cleaning``: key
    column → how it is cleaned (recon.config.key), of those that are."""

    name: str
    path: Path
    store: str
    store_path: Path | None
    key: tuple[str, ...]
    grid: Grid
    numbers: frozenset[str]
    names: tuple[tuple[str, ...], tuple[str, ...]]
    cache: Cache
    s3: S3Settings
    index: Index
    shared: bool
    cleaning: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Config(Place):
    """One reconciliation. ``columns``: every event column that anything uses, in a fixed order, with its type."""

    events: Events
    measures: tuple[Measure, ...]
    derived: tuple[Derived, ...]
    status: tuple[Status, ...]
    control: tuple[Control, ...]
    logic: str | None
    logic_source: LogicSource | None
    rejects: Literal["keep", "stop"]
    memory_limit: str
    threads: int
    engine: Engine
    compaction: Compaction
    retention: Retention
    caps: Caps
    limits: Limits
    workers: Workers
    closing: Closing
    freshness: timedelta
    prices: Prices
    columns: dict[str, Type]
    rules_version: str
    raw: dict[str, Any]

    @property
    def location(self) -> str:
        """The store, as a process in another folder, or of this account, names it."""
        return self.store if self.store_path is None else str(self.store_path)

    @property
    def logic_place(self) -> str:
        """File and field of the user's logic, for errors."""
        return f"{self.path}: logic"

    @property
    def ordered(self) -> frozenset[str]:
        """Columns that are text only because nothing was declared, and of which a measure takes the smallest or largest value."""
        known = {*self.events.types, *self.key, self.events.id_column}
        return frozenset(m.column for m in self.measures if m.column and m.kind in ("min", "max") and m.column not in known)


def event_columns(config: Config) -> dict[str, Type]:
    """The columns that the event files hold as c_<name>, beside hi, key, id, time, file and line, which hold the key, id and time
    columns already; a column of a control total is among them even so, since rejected rows have no key."""
    held = {config.events.id_column, config.events.time, *(config.key if len(config.key) == 1 else ())}
    totalled = {config.events.currency, *(name for control in config.control for name in (control.column, control.by))}
    return {name: kind for name, kind in config.columns.items() if name not in held or name in totalled}
