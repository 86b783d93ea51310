"""How the work is done: closing, caps, retention, compaction, freshness, index. None of it changes what artifacts mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal

from recon.config.sections import EngineOf, Sections, TransientOf
from recon.errors import WrongUsage
from recon.metering.prices import Prices
from recon.model.windows import Grid, parse_duration

_CACHE_URL = re.compile(r"rediss?://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[0-9]{0,3})?\Z")
_SECRET = re.compile(r"([A-Za-z_][A-Za-z0-9_]*|arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+)\Z")
LAMBDA_LIMIT = timedelta(minutes=15)
FRESHNESS_SLACK = timedelta(minutes=30)
MEMORY_MIN, MEMORY_MAX = 32 * 10**6, 10**15

Field = Callable[..., AbstractContextManager[str]]
"""Gives the name of a field, by its path; what is raised inside gets file and line in front."""


@dataclass(frozen=True)
class Closing:
    """When a window closes by itself: with so many ``files``, or so long after its end; and whether it is processed before."""

    files: int | None = None
    deadline: timedelta | None = None
    process_open: bool = False


@dataclass(frozen=True)
class Fleet:
    """Instances of a cluster: any of ``types``, so many units on demand and as spot instances."""

    types: tuple[str, ...]
    on_demand: int
    spot: int


@dataclass(frozen=True)
class Transient:
    """A cluster of EMR that is started for one run. ``idle``: after how long without a step it ends by itself. ``logs``: where its logs
    go, below s3://. ``bootstrap``: scripts that each of its machines runs first, told where the package is."""

    release: str
    primary: Fleet
    core: Fleet
    task: Fleet | None
    service_role: str
    instance_profile: str
    subnets: tuple[str, ...]
    logs: str | None
    idle: timedelta
    steps_at_once: int
    bootstrap: tuple[str, ...]
    security_configuration: str | None
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Engine:
    """What carries out reduce, pre-fetch and merge. It is no part of the rules: either engine goes on from what the other left.

    ``master``, ``settings``: Spark's own, for a session that this process starts itself, or for what is submitted. ``slices``: parts of the
    hash space that a stage is cut into at least. ``memory_limit``: of DuckDB in one of Spark's tasks.

    On EMR: ``package``, the folder that ``make emr-package`` wrote; ``cluster``, a running one, or ``transient``; ``timeout``,
    how long a step may run. On EMR Serverless: ``application``, the ``role`` of its jobs, ``messages``, where Pipes' messages go."""

    kind: Literal["duckdb", "spark", "emr", "emr_serverless"] = "duckdb"
    master: str = "local[*]"
    settings: Mapping[str, str] = field(default_factory=dict)
    slices: int | None = None
    memory_limit: str = "1GB"
    cluster: str | None = None
    transient: Transient | None = None
    application: str | None = None
    role: str | None = None
    messages: str | None = None
    package: str = ""
    timeout: timedelta = timedelta(hours=12)

    @property
    def elsewhere(self) -> bool:
        """Whether its stages are carried out on a cluster that this process only submits to."""
        return self.kind in ("emr", "emr_serverless")


@dataclass(frozen=True)
class Cache:
    """What stands in front of object storage for records. ``url``: scheme, host, port and number of the database, without credentials.

    ``secret``: name of an environment variable, or ARN of a secret in Secrets Manager. ``namespace`` None: the reconciliation's name.
    ``certificates``: file of the authorities that are trusted, if not the system's."""

    kind: Literal["none", "redis"] = "none"
    url: str = ""
    ttl: timedelta = timedelta(days=1)
    user: str | None = None
    secret: str | None = None
    namespace: str | None = None
    certificates: str | None = None
    timeout_ms: int = 250
    record_max_bytes: int = 65_536

    @property
    def address(self) -> str:
        """Host and port, to be told."""
        return self.url.partition("://")[2].partition("/")[0]


@dataclass(frozen=True)
class Compaction:
    """Which of the two is kept (``bound``): part-files hold at most ``disk`` times what is live, or at most ``writes`` times what changed
    is written. In either case it begins when ``disk`` is exceeded."""

    bound: Literal["disk", "writes"]
    disk: float
    writes: float


@dataclass(frozen=True)
class Retention:
    """How long what was known is kept (None: for ever), and what was superseded, for readers that still use it."""

    history: timedelta | None
    grace: timedelta


@dataclass(frozen=True)
class Index:
    """What others look keys up in: the ``runs`` alone, or a ``table`` in DynamoDB besides, which is loaded from them.

    ``requests_at_once``: of one process. ``share``: entries that one worker loads in one piece."""

    kind: Literal["runs", "dynamodb"]
    table: str
    requests_at_once: int
    share: int


@dataclass(frozen=True)
class Workers:
    """Who loads shares into the index table: ``count`` processes of this machine, or as many invocations of the Lambda ``function``.

    ``time_limit_s``: of one worker. ``silence_s``: after so long without a sign of life it is given up. ``attempts``: at a share, in a row,
    that come no further."""

    kind: Literal["processes", "lambda"] = "processes"
    count: int = 4
    function: str = ""
    time_limit_s: float = 600.0
    silence_s: float = 60.0
    attempts: int = 5


@dataclass(frozen=True)
class Caps:
    """What one run merges at most; None is no bound."""

    windows: int = 48
    events: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Limits:
    """What a file may ask of the machine. ``line``: bytes of a line of text, and of a CSV record. ``nesting``: brackets inside each
    other in a JSON object. ``bytes``, ``rows``: of a file, decompressed. ``ratio``: decompressed bytes for each byte of a compressed file.
    """

    line: int = 16 << 20
    nesting: int = 64
    bytes: int = 64 << 30
    rows: int = 500_000_000
    ratio: int = 250


LINE_BYTES_MAX = 256 << 20
"""The largest ``limits.line``: blocks of a few lines have to fit memory and 32-bit offsets."""


@dataclass(frozen=True)
class S3Settings:
    """How a store in S3 is used. ``kms_key``: encrypts what is written (None: as the bucket says). ``requests_at_once``: of one read.
    ``retry_s``: so long a request that was throttled or cut off is tried again."""

    kms_key: str | None = None
    requests_at_once: int = 32
    retry_s: float = 120.0


def memory_limit_of(size: str, field: Field, *path: str) -> str:
    """What DuckDB may use, as it is written. Raises WrongUsage for what no window could be processed with, or no machine has."""
    with field(*path) as name:
        if not MEMORY_MIN <= bytes_of(size) <= MEMORY_MAX:
            raise WrongUsage(f"{name}: {size} is not from 32MB to 1000TB; write a size such as 2GB")
    return size


def closing_of(sections: Sections, field: Field) -> Closing:
    section = sections.closing
    with field("closing", "deadline") as name:
        deadline = None if section.deadline is None else parse_duration(section.deadline, name)
    return Closing(section.files, deadline, section.process_open)


def engine_of(sections: Sections, field: Field) -> Engine:
    section = sections.engine
    with field("engine", "timeout") as name:
        timeout = parse_duration(section.timeout, name)
    memory_limit_of(section.memory_limit, field, "engine", "memory_limit")
    with field("engine") as name:
        _refuse_unfit(section, sections.store, name)
    transient = None if section.transient is None else _transient_of(section.transient, field)
    package = (section.package or "").rstrip("/")
    return Engine(**{**dict(section), "transient": transient, "package": package, "timeout": timeout})


_NEEDS = {"emr": ("package",), "emr_serverless": ("package", "application", "role")}
_ONLY_WITH = {"cluster": "emr", "transient": "emr", "application": "emr_serverless", "role": "emr_serverless", "messages": "emr_serverless"}


def _refuse_unfit(section: EngineOf, store: str, name: str) -> None:
    """What one kind of engine needs, and what only another one takes."""
    for field_name in _NEEDS.get(section.kind, ()):
        if getattr(section, field_name) is None:
            raise WrongUsage(f"{name}: kind: {section.kind} needs {field_name}; see docs/configuration.md")
    for field_name, kind in _ONLY_WITH.items():
        if section.kind != kind and getattr(section, field_name) is not None:
            raise WrongUsage(f"{name}: {field_name} is for kind: {kind}, not for {section.kind}; take it out, or name that kind")
    if section.kind == "emr" and (section.cluster is None) == (section.transient is None):
        raise WrongUsage(f"{name}: kind: emr takes either cluster, the id of a running one, or transient, which starts one for each run")
    if section.kind == "emr_serverless" and section.messages is None and not store.startswith("s3://"):
        raise WrongUsage(f"{name}: messages of EMR Serverless go through S3, and the store is a folder; write messages: s3://bucket/prefix")


def _transient_of(section: TransientOf, field: Field) -> Transient:
    with field("engine", "transient", "idle") as name:
        idle = parse_duration(section.idle, name)
        if not timedelta(minutes=1) <= idle <= timedelta(days=7):
            raise WrongUsage(f"{name}: {section.idle} is not from 1m to 7d")
    for which, fleet in section.fleets:
        with field("engine", "transient", "fleets", which) as name:
            if fleet is not None and not fleet.on_demand + fleet.spot:
                raise WrongUsage(f"{name}: no instances; write on_demand or spot, such as {{types: [m7g.xlarge], on_demand: 1}}")
    with field("engine", "transient", "fleets", "primary") as name:
        if section.fleets.primary.on_demand + section.fleets.primary.spot != 1:
            raise WrongUsage(f"{name}: a cluster has one primary instance; write on_demand: 1 or spot: 1")
    fleets = {which: None if fleet is None else Fleet(**dict(fleet)) for which, fleet in section.fleets}
    return Transient(**{name: value for name, value in {**dict(section), **fleets, "idle": idle}.items() if name != "fleets"})


def cache_of(sections: Sections, field: Field, folder: Path) -> Cache:
    """``folder``: that of the configuration, from which its paths are taken."""
    section = sections.cache
    with field("cache", "url") as name:
        if section.kind == "redis":
            _check_cache_url(section.url, name)
        elif section.url is not None:
            raise WrongUsage(f"{name}: is not used while cache.kind is none; write kind: redis, or leave the url out")
    with field("cache", "secret") as name:
        if section.secret is not None and not _SECRET.match(section.secret):
            # What stands there may be the password itself: it is not told.
            raise WrongUsage(f"{name}: write the name of an environment variable, or the ARN of a secret in Secrets Manager")
    with field("cache", "ttl") as name:
        ttl = parse_duration(section.ttl, name)
    size = bytes_of(section.record_max)
    certificates = None if section.certificates is None else str(folder / section.certificates)
    given = {name: getattr(section, name) for name in ("kind", "user", "secret", "namespace", "timeout_ms")}
    return Cache(url=section.url or "", ttl=ttl, certificates=certificates, record_max_bytes=size, **given)


def prices_of(sections: Sections) -> Prices:
    """The table's prices, and those that are written instead."""
    return replace(Prices(), **{name: value for name, value in sections.prices if value is not None})


def _check_cache_url(url: str | None, name: str) -> None:
    """Raises WrongUsage; it does not tell a url that may hold a password."""
    example = "write rediss://host:6379/0 (redis:// is without TLS)"
    if url is None:
        raise WrongUsage(f"{name}: is missing; {example}")
    if "@" in url or "?" in url:
        raise WrongUsage(f"{name}: user, password and options do not belong here; {example}, cache.user and cache.secret")
    if not _CACHE_URL.match(url):
        raise WrongUsage(f"{name}: {url[:60]!r} is no address of a Redis; {example}")


def s3_of(sections: Sections, field: Field) -> S3Settings:
    section = sections.s3
    with field("s3", "retry") as name:
        retry = parse_duration(section.retry, name)
    return S3Settings(section.kms_key, section.requests_at_once, retry.total_seconds())


def compaction_of(sections: Sections) -> Compaction:
    return Compaction(**dict(sections.compaction))


def index_of(sections: Sections) -> Index:
    section = sections.index
    table = section.table or f"recon-{sections.name}"
    return Index(section.kind, table, section.requests_at_once, section.share)


def workers_of(sections: Sections, field: Field) -> Workers:
    section = sections.workers
    with field("workers", "function") as name:
        if (section.kind == "lambda") != (section.function is not None):
            raise WrongUsage(f"{name}: belongs to kind: lambda, which needs it; write workers: {{kind: lambda, function: recon-index}}")
    with field("workers", "time_limit") as name:
        limit = parse_duration(section.time_limit, name)
        longest = LAMBDA_LIMIT if section.kind == "lambda" else timedelta(days=1)
        if limit > longest:
            raise WrongUsage(f"{name}: {section.time_limit} is too long; at most 15m on Lambda, 1d elsewhere")
    with field("workers", "silence") as name:
        silence = parse_duration(section.silence, name)
        if silence >= limit:
            raise WrongUsage(f"{name}: {section.silence} is not shorter than time_limit, {section.time_limit}")
    return Workers(section.kind, section.count, section.function or "", limit.total_seconds(), silence.total_seconds(), section.attempts)


def retention_of(sections: Sections, field: Field) -> Retention:
    section = sections.retention
    with field("retention", "history") as name:
        history = None if section.history is None else parse_duration(section.history, name)
    with field("retention", "grace") as name:
        grace = parse_duration(section.grace, name)
        if history is not None and history < grace:
            raise WrongUsage(f"{name}: {section.grace} is longer than history, {section.history}; give readers no more than is kept")
    return Retention(history, grace)


def freshness_of(sections: Sections, field: Field, grid: Grid, closing: Closing) -> timedelta:
    """How late the watermark may be: unless it is written, a window, its deadline, and half an hour to process it."""
    if sections.freshness is not None:
        with field("freshness") as name:
            return parse_duration(sections.freshness, name)
    return grid.longest + (closing.deadline or timedelta(0)) + FRESHNESS_SLACK


def caps_of(sections: Sections) -> Caps:
    section = sections.caps
    return Caps(section.windows, section.events, None if section.bytes is None else bytes_of(section.bytes))


def limits_of(sections: Sections, field: Field) -> Limits:
    section = sections.limits
    line = bytes_of(section.line)
    with field("limits", "line") as name:
        if line > LINE_BYTES_MAX:
            raise WrongUsage(f"{name}: {section.line} is too large; a line has at most {LINE_BYTES_MAX >> 20}MiB")
    return Limits(line, section.nesting, bytes_of(section.bytes), section.rows, section.ratio)


def bytes_of(size: str) -> int:
    """``2GB``, ``1.5 GiB`` → bytes."""
    number, unit = size.rstrip("KMGTiB").strip(), size.lstrip("0123456789. ")
    return int(Decimal(number) * (1024 if "i" in unit else 1000) ** (1 + "KMGT".index(unit[0])))
