"""The sections of ``recon.yaml`` that are rules, and the model of the file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from recon.config.fields import Duration, Section, Text, Texts, as_list, mistake, mistakes_in, parsed, written
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
    MemoryLimit,
    OwnPrices,
    RecordSettings,
    Retention,
    S3Settings,
    Workers,
    database_url,
)
from recon.config.warehouse import WarehouseSettings
from recon.model.cleaning import STEPS
from recon.model.windows import Grid, is_local, local_midnight, parse_instant, zone_of

NUMBER = "#"
"""The part of an event id that numbers the equal rows of a file."""


def _key_columns(value: object) -> object:
    """A list of sections; a column's name alone is a column that is not cleaned."""
    listed = value if isinstance(value, list) else [value]
    return [column if isinstance(column, dict) else {"column": column} for column in listed]


Zone = Annotated[Text, AfterValidator(parsed(zone_of))]
"""An IANA time zone; UTC is ""."""


class WindowsSection(Section):
    """``start``: of the first window. ``every``: their length. ``zone``: where days are windows, the zone of these days."""

    start: Text
    every: Duration
    zone: Zone | None = None

    @model_validator(mode="after")
    def _on_the_clock(self) -> WindowsSection:
        with mistakes_in("windows"):
            _ = self.grid
        return self

    @property
    def grid(self) -> Grid:
        """The windows. Raises WrongUsage where they do not fit the clock."""
        local = self.zone is not None and is_local(self.start)
        start = local_midnight(self.start, self.zone or "UTC", "windows.start") if local else parse_instant(self.start, "windows.start")
        return Grid(start, self.every, self.zone or "")


class KeyColumn(Section):
    """A column of the key, and how its text is cleaned."""

    column: Text
    clean: Annotated[tuple[Literal["trim", "nfc", "strip_format"], ...], BeforeValidator(as_list)] = ()


class EventsSection(Section):
    """The events' columns: their types, and which are id, currency and time. ``zone``: of times that name none. ``dedupe``: how far back an
    equal id makes a duplicate."""

    types: dict[str, Text] = Field(default={})
    id: Texts = ()
    currency: Text | None = None
    time: Text | None = None
    zone: Zone | None = None
    dedupe: Duration = written("31d")

    @property
    def id_columns(self) -> tuple[str, ...]:
        """The columns of the id, without the number of equal rows."""
        return self.id[:-1] if self.id[-1:] == (NUMBER,) else self.id

    @model_validator(mode="after")
    def _columns_of_their_own(self) -> EventsSection:
        columns = self.id_columns
        if self.id and (not columns or NUMBER in columns or len({*columns}) < len(columns)):
            raise mistake(f'name one or more columns, each once, and perhaps "{NUMBER}" as the last, such as [source, event_id]', "id")
        if self.currency is not None and self.currency == self.time:
            raise mistake(f"{self.currency!r} is the time already; the currency is a column of its own", "currency")
        return self


class MeasureSection(Section):
    """One figure per key: its kind with the column it is taken of, and the condition for events that count."""

    sum: Text | None = None
    count: Text | None = None
    min: Text | None = None
    max: Text | None = None
    first: Text | None = None
    last: Text | None = None
    where: Text | None = None

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """The kinds that are written, with their columns; exactly one in a valid measure."""
        return [(kind, column) for kind, column in self if kind != "where" and column is not None]

    @model_validator(mode="after")
    def _one_kind(self) -> MeasureSection:
        if len(self.kinds) != 1:
            raise mistake("name exactly one of sum, count, min, max, first or last, such as {sum: amount}")
        return self


class ControlSection(Section):
    """A control total of a batch: the number of rows or the sum of a column, per value of another (``by``)."""

    count: Text | None = None
    sum: Text | None = None
    by: Text | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> ControlSection:
        if (self.count is None) == (self.sum is None):
            raise mistake('name exactly one of count or sum, such as {count: "*"} or {sum: amount}')
        return self


class Sections(Section):
    """The content of a ``recon.yaml``."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
    store: Text
    database: Annotated[DatabaseSettings, BeforeValidator(database_url)] = DatabaseSettings()
    warehouse: WarehouseSettings = WarehouseSettings()
    records: RecordSettings = RecordSettings()
    service: ServiceSettings = ServiceSettings()
    observability: Observability = Observability()
    key: Annotated[tuple[KeyColumn, ...], BeforeValidator(_key_columns), Field(min_length=1, max_length=16)]
    windows: WindowsSection
    events: EventsSection = EventsSection()
    measures: Annotated[dict[str, MeasureSection], Field(min_length=1)]
    derived: dict[str, Text] = Field(default={})
    status: list[dict[str, Text]] = Field(default=[])
    control: dict[str, ControlSection] = Field(default={"rows": ControlSection(count="*")})
    logic: Text | None = None
    rejects: Literal["keep", "stop"] = "keep"
    memory_limit: MemoryLimit = "2GB"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    limits: Limits = Limits()
    permissions: Literal["private", "shared"] = "private"
    engine: Engine = Engine()
    s3: S3Settings = S3Settings()
    caps: Caps = Caps()
    cache: Cache = Cache()
    prices: OwnPrices = OwnPrices()
    closing: Closing = Closing()
    compaction: Compaction = Compaction()
    retention: Retention = Retention()
    freshness: Duration | None = None
    index: Index = Index()
    workers: Workers = Workers()

    @property
    def key_columns(self) -> tuple[str, ...]:
        return tuple(column.column for column in self.key)

    @property
    def cleaning(self) -> dict[str, tuple[str, ...]]:
        """Key column → its cleaning steps in the order of ``STEPS``; the order in which they are written means nothing."""
        return {column.column: tuple(step for step in STEPS if step in column.clean) for column in self.key if column.clean}

    @field_validator("store")
    @classmethod
    def _folder_or_bucket(cls, store: str) -> str:
        if not store.startswith("s3://") and ("://" in store or not store.strip()):
            raise mistake(f"{store!r} is no store; write a folder such as ./data, or s3://bucket/prefix")
        return store

    @field_validator("key")
    @classmethod
    def _each_once(cls, key: tuple[KeyColumn, ...]) -> tuple[KeyColumn, ...]:
        if len({column.column for column in key}) < len(key):
            raise mistake("a column is named twice; name each once")
        return key

    @model_validator(mode="after")
    def _sections_fit_together(self) -> Sections:
        for part, names in (("measures", self.measures), ("derived", self.derived)):
            if self.events.currency is not None and "currency" in names:
                reason = "'currency' is a column of every export where events.currency is set; choose another name"
                raise mistake(reason, part, "currency")
        if self.engine.kind == "emr_serverless" and self.engine.messages is None and not self.store.startswith("s3://"):
            reason = "messages of EMR Serverless go through S3, and the store is a folder; write messages: s3://bucket/prefix"
            raise mistake(reason, "engine")
        return self
