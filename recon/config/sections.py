"""The text of ``recon.yaml``: YAML with lines, the shape of its sections, and what a mistake in it is called.

Scalars are read much as YAML 1.2's core schema has it, so that nothing is guessed: ``null``, ``true``, ``false`` and
whole numbers are what they look like; all else, ``NO``, ``0.10`` and ``2026-11-01`` included, is the text as written.
Keys are always text.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from recon.model.cleaning import STEPS


def _written(value: object) -> object:
    """A text field may be written as a number or as true without quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else value


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _listed_or_none(value: object) -> object:
    return [] if value is None else _listed(value)


def _key_columns(value: object) -> object:
    """Each a section; a column's name alone stands for one that is not cleaned."""
    listed = value if isinstance(value, list) else [value]
    return [one if isinstance(one, dict) else {"column": one} for one in listed]


def _a_share(value: object) -> object:
    """A number as it is written: decimals are texts in this file."""
    return float(value) if isinstance(value, str) and value.replace(".", "", 1).isdigit() else value


Text = Annotated[str, BeforeValidator(_written), Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Windows(_Section):
    start: Text
    every: Text
    zone: Text | None = None


class KeyOf(_Section):
    column: Text
    clean: Annotated[tuple[Literal["trim", "nfc", "strip_format"], ...], BeforeValidator(_listed)] = ()


class EventColumns(_Section):
    types: dict[str, Text] = {}
    id: Annotated[tuple[Text, ...], BeforeValidator(_listed_or_none)] = ()
    currency: Text | None = None
    time: Text | None = None
    zone: Text | None = None
    dedupe: Text = "31d"


class MeasureOf(_Section):
    sum: Text | None = None
    count: Text | None = None
    min: Text | None = None
    max: Text | None = None
    first: Text | None = None
    last: Text | None = None
    where: Text | None = None


class ControlOf(_Section):
    count: Text | None = None
    sum: Text | None = None
    by: Text | None = None


Bytes = Annotated[str, Field(pattern=r"^[1-9][0-9]*(\.[0-9]+)? ?([KMGT]i?B)$")]


class LimitsOf(_Section):
    control_groups: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    line: Bytes = "16MiB"
    nesting: Annotated[int, Field(ge=1, le=1_000)] = 64
    bytes: Bytes = "64GiB"
    rows: Annotated[int, Field(ge=1, le=10**12)] = 500_000_000
    ratio: Annotated[int, Field(ge=1, le=1_000_000)] = 250


class ClosingOf(_Section):
    files: Annotated[int, Field(ge=1, le=100_000)] | None = None
    deadline: Text | None = None
    process_open: bool = False


class Caps(_Section):
    windows: Annotated[int, Field(ge=1, le=10_000)] = 48
    events: Annotated[int, Field(ge=1, le=10**12)] | None = None
    bytes: Bytes | None = None


Times = Annotated[float, BeforeValidator(_a_share), Field(ge=1.1, le=10)]


S3 = Annotated[str, Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$")]


class FleetOf(_Section):
    types: Annotated[tuple[Text, ...], BeforeValidator(_listed), Field(min_length=1, max_length=30)]
    on_demand: Annotated[int, Field(ge=0, le=10_000)] = 0
    spot: Annotated[int, Field(ge=0, le=10_000)] = 0


class FleetsOf(_Section):
    primary: FleetOf
    core: FleetOf
    task: FleetOf | None = None


class TransientOf(_Section):
    release: Annotated[str, Field(pattern=r"^emr-(spark-)?[0-9]+\.[0-9]+\.[0-9]+$")]
    fleets: FleetsOf
    service_role: Text
    instance_profile: Text
    subnets: Annotated[tuple[Text, ...], BeforeValidator(_listed), Field(min_length=1)]
    logs: S3 | None = None
    idle: Text = "15m"
    steps_at_once: Annotated[int, Field(ge=1, le=256)] = 10
    bootstrap: Annotated[tuple[S3, ...], BeforeValidator(_listed)] = ()
    security_configuration: Text | None = None
    tags: dict[str, Text] = {}


class EngineOf(_Section):
    kind: Literal["duckdb", "spark", "emr", "emr_serverless"] = "duckdb"
    master: Text = "local[*]"
    settings: dict[str, Text] = {}
    slices: Annotated[int, Field(ge=1, le=100_000)] | None = None
    memory_limit: Bytes = "1GB"
    cluster: Annotated[str, Field(pattern=r"^j-[A-Z0-9]+$")] | None = None
    transient: TransientOf | None = None
    application: Annotated[str, Field(pattern=r"^[0-9a-z]+$", max_length=64)] | None = None
    role: Annotated[str, Field(pattern=r"^arn:[^ ]{15,}$")] | None = None
    messages: S3 | None = None
    package: Text | None = None
    timeout: Text = "12h"


class CacheOf(_Section):
    kind: Literal["none", "redis"] = "none"
    url: Text | None = None
    ttl: Text = "1d"
    user: Text | None = None
    secret: Text | None = None
    namespace: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    certificates: Text | None = None
    timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 250
    record_max: Bytes = "64KiB"


Dollars = Annotated[Decimal, Field(ge=0, le=1000)]


class PricesOf(_Section):
    region: Text | None = None
    as_of: Text | None = None
    s3_put_1000: Dollars | None = None
    s3_get_1000: Dollars | None = None
    dynamodb_write_million: Dollars | None = None
    dynamodb_read_million: Dollars | None = None
    lambda_request_million: Dollars | None = None
    lambda_gb_second: Dollars | None = None


class CompactionOf(_Section):
    bound: Literal["disk", "writes"] = "disk"
    disk: Times = 1.5
    writes: Times = 1.5


class IndexOf(_Section):
    kind: Literal["runs", "dynamodb"] = "runs"
    table: Annotated[Text, Field(pattern=r"^[A-Za-z0-9_.-]{3,200}$")] | None = None
    requests_at_once: Annotated[int, Field(ge=1, le=256)] = 32
    share: Annotated[int, Field(ge=1000, le=10_000_000)] = 100_000


class WorkersOf(_Section):
    kind: Literal["processes", "lambda"] = "processes"
    count: Annotated[int, Field(ge=1, le=1000)] = 4
    function: Annotated[Text, Field(pattern=r"^[A-Za-z0-9:_.$-]{1,256}$")] | None = None
    time_limit: Text = "10m"
    silence: Text = "1m"
    attempts: Annotated[int, Field(ge=1, le=100)] = 5


class RetentionOf(_Section):
    history: Text | None = None
    grace: Text = "1d"


class S3Of(_Section):
    kms_key: Text | None = None
    requests_at_once: Annotated[int, Field(ge=1, le=256)] = 32
    retry: Text = "2m"


class Sections(_Section):
    """The whole file."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
    store: Text
    key: Annotated[tuple[KeyOf, ...], BeforeValidator(_key_columns), Field(min_length=1, max_length=16)]
    windows: Windows
    events: EventColumns = EventColumns()
    measures: Annotated[dict[str, MeasureOf], Field(min_length=1)]
    derived: dict[str, Text] = {}
    status: list[dict[str, Text]] = []
    control: dict[str, ControlOf] = {"rows": ControlOf(count="*")}
    logic: Text | None = None
    rejects: Literal["keep", "stop"] = "keep"
    memory_limit: Bytes = "2GB"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    limits: LimitsOf = LimitsOf()
    permissions: Literal["private", "shared"] = "private"
    engine: EngineOf = EngineOf()
    s3: S3Of = S3Of()
    caps: Caps = Caps()
    cache: CacheOf = CacheOf()
    prices: PricesOf = PricesOf()
    closing: ClosingOf = ClosingOf()
    compaction: CompactionOf = CompactionOf()
    retention: RetentionOf = RetentionOf()
    freshness: Text | None = None
    index: IndexOf = IndexOf()
    workers: WorkersOf = WorkersOf()

    @property
    def key_columns(self) -> tuple[str, ...]:
        return tuple(one.column for one in self.key)


def cleaning_of(sections: Sections) -> dict[str, tuple[str, ...]]:
    """How key columns are cleaned; the order in which the steps are written means nothing."""
    return {one.column: tuple(step for step in STEPS if step in one.clean) for one in sections.key if one.clean}
