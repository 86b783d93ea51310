"""The loaded configuration: events, measures, derived values, statuses, control totals, ``Place`` and ``Config``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recon.config.observability import Observability
from recon.config.service import ServiceSettings
from recon.config.settings import (
    Cache,
    Caps,
    Closing,
    Compaction,
    DatabaseSettings,
    Engine,
    Index,
    Limits,
    RecordSettings,
    Retention,
    S3Settings,
    Workers,
)
from recon.config.warehouse import WarehouseSettings
from recon.metering.prices import Prices
from recon.model.windows import Grid
from recon.vocabulary import Expression
from recon.vocabulary.types import Type

if TYPE_CHECKING:
    from recon.logic.source import LogicSource


Kind = Literal["sum", "count", "min", "max", "first", "last"]

RESERVED = {"key", "status", "windows", "first_window", "last_window", "age_days"}
"""Columns of every export, whose names no measure or derived value can have."""


@dataclass(frozen=True)
class Events:
    """The events' columns. ``types``: of the declared columns. ``id``: columns of the event id, none if file and line identify an event.
    ``numbered``: whether the id ends with the number of a row among the equal rows of its file. ``time``: column of the event time.
    ``dedupe``: how far back an equal id makes a duplicate. ``currency``: column with the currency of an event's amounts. ``zone``: of times
    without a zone ("" is UTC; None: such times are rejected). ``epochs``: columns that count from 1970 → their unit: s, ms or us."""

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
        """The column that is the id by itself; None without id or for an id of several parts."""
        return self.id[0] if len(self.id) == 1 and not self.numbered else None


@dataclass(frozen=True)
class Measure:
    """A figure per key over the events for which ``where`` is true. ``column``: None for ``count: "*"``. ``type``: of the figure."""

    name: str
    kind: Kind
    column: str | None
    where: Expression | None
    type: Type

    @property
    def is_amount(self) -> bool:
        """Whether it is an amount of money where events have a currency: a number that is no count."""
        return self.kind != "count" and self.type.is_number


@dataclass(frozen=True)
class Derived:
    """A value computed from measures and earlier derived values."""

    name: str
    expression: Expression


@dataclass(frozen=True)
class Status:
    """A status and its condition over measures and derived values."""

    name: str
    expression: Expression


@dataclass(frozen=True)
class Control:
    """A control total of a batch: the count of rows or values, or the sum of a column, grouped by the column ``by``."""

    name: str
    kind: Literal["count", "sum"]
    column: str | None
    by: str | None


@dataclass(frozen=True)
class Place:
    """The part of the configuration that a look-up needs: the store, the grid and names, without the rules.

    ``path``: of recon.yaml. ``store``: as written. ``store_path``: its folder, None in S3. ``key``: its columns. ``numbers``: measures that
    are numbers. ``names``: of measures, and of derived values. ``shared``: whether others may read a store in a folder. ``cleaning``:
    key column → cleaning steps, for columns that have some."""

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
    database: DatabaseSettings
    warehouse: WarehouseSettings
    records: RecordSettings
    service: ServiceSettings
    observability: Observability
    prices: Prices


@dataclass(frozen=True)
class Config(Place):
    """A reconciliation. ``columns``: every event column in use, in a fixed order, with its type. ``raw``: the content of recon.yaml."""

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
    columns: dict[str, Type]
    rules_version: str
    raw: dict[str, Any]

    @property
    def location(self) -> str:
        """The store's location, valid in every working directory."""
        return self.store if self.store_path is None else str(self.store_path)

    @property
    def judged_by(self) -> str:
        """Names what decides whether a window can be processed: the rules version; and a digest of ``rejects`` and ``limits`` where one of
        them is not the usual one."""
        if self.rejects == "keep" and self.limits == Limits():
            return self.rules_version
        settings = f"{self.rejects} {self.limits.model_dump_json()}"
        return f"{self.rules_version}.{hashlib.sha256(settings.encode()).hexdigest()[:8]}"

    @property
    def logic_place(self) -> str:
        """File and field of the user's logic, for errors."""
        return f"{self.path}: logic"

    @property
    def ordered(self) -> frozenset[str]:
        """Columns of min and max measures that are text only because no type is declared."""
        known = {*self.events.types, *self.key, self.events.id_column}
        return frozenset(m.column for m in self.measures if m.column and m.kind in ("min", "max") and m.column not in known)


def event_columns(config: Config) -> dict[str, Type]:
    """The columns that event files have as c_<name>, in addition to hi, key, id, time, file and line. Key, id and time columns are stored
    again only if a control total uses them, since rejected rows have no key."""
    stored = {config.events.id_column, config.events.time, *(config.key if len(config.key) == 1 else ())}
    totalled = {config.events.currency, *(name for control in config.control for name in (control.column, control.by))}
    return {name: kind for name, kind in config.columns.items() if name not in stored or name in totalled}
