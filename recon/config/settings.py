"""The sections that say how the work is done. None of them changes what artifacts mean, so none is part of the rules version."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, TypeAdapter, ValidationInfo, field_validator, model_validator

from recon.config.fields import Duration, OrEmpty, S3Place, Section, Size, Text, Texts, as_list, mistake, written
from recon.metering.prices import Prices
from recon.model.windows import duration_text

LAMBDA_LIMIT = timedelta(minutes=15)
LINE_MAX = ByteSize(256 << 20)
"""The largest ``limits.line``, in bytes: a block of a few lines must fit memory and 32-bit offsets."""
MEMORY_MIN, MEMORY_MAX = 32 * 10**6, 10**15
_CACHE_URL = re.compile(r"rediss?://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[0-9]{0,3})?\Z")
_SECRET = re.compile(r"([A-Za-z_][A-Za-z0-9_]*|arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+)\Z")
_BYTES: TypeAdapter[int] = TypeAdapter(Size)


def _memory_limit(text: str) -> str:
    if not MEMORY_MIN <= _BYTES.validate_python(text) <= MEMORY_MAX:
        raise mistake(f"{text} is not from 32MB to 1000TB; write a size such as 2GB")
    return text


def _no_password(secret: str) -> str:
    if not _SECRET.match(secret):
        # The value may be the password itself, so the message does not repeat it.
        raise mistake("write the name of an environment variable, or the ARN of a secret in Secrets Manager")
    return secret


Secret = Annotated[str, AfterValidator(_no_password)]
"""The name of a secret: an environment variable, or an ARN in Secrets Manager."""
MemoryLimit = Annotated[str, AfterValidator(_memory_limit)]
"""What DuckDB may use, in its own spelling: bytes do not survive its rounding."""
Requests = Annotated[int, Field(ge=1, le=256)]
Times = Annotated[float, Field(ge=1.1, le=10)]
Dollars = Annotated[Decimal, Field(ge=0, le=1000)]


class Limits(Section):
    """What a file may ask of the machine. ``line``: bytes of a line of text, or of a CSV record. ``nesting``: depth of brackets in a JSON
    object. ``bytes`` and ``rows``: of one file, decompressed. ``ratio``: decompressed bytes per byte of a compressed file.
    ``control_groups``: groups of a control total in one window."""

    control_groups: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    line: Size = written("16MiB")
    nesting: Annotated[int, Field(ge=1, le=1_000)] = 64
    bytes: Size = written("64GiB")
    rows: Annotated[int, Field(ge=1, le=10**12)] = 500_000_000
    ratio: Annotated[int, Field(ge=1, le=1_000_000)] = 250

    @field_validator("line")
    @classmethod
    def _fits_memory(cls, line: ByteSize) -> ByteSize:
        if line > LINE_MAX:
            raise mistake(f"{line / 2**20:g}MiB is too large; a line has at most {LINE_MAX >> 20}MiB")
        return line


class Closing(Section):
    """When a window closes by itself: at ``files`` files, or ``deadline`` after its end. ``process_open``: process it before it closes."""

    files: Annotated[int, Field(ge=1, le=100_000)] | None = None
    deadline: Duration | None = None
    process_open: bool = False


class Caps(Section):
    """The most that one run merges; None is no limit."""

    windows: Annotated[int, Field(ge=1, le=10_000)] = 48
    events: Annotated[int, Field(ge=1, le=10**12)] | None = None
    bytes: Size | None = None


class Fleet(Section):
    """Instances of a cluster, of any of ``types``: units of on-demand and of spot capacity."""

    types: Annotated[Texts, Field(min_length=1, max_length=30)]
    on_demand: Annotated[int, Field(ge=0, le=10_000)] = 0
    spot: Annotated[int, Field(ge=0, le=10_000)] = 0

    @model_validator(mode="after")
    def _some(self) -> Fleet:
        if not self.on_demand + self.spot:
            raise mistake("no instances; write on_demand or spot, such as {types: [m7g.xlarge], on_demand: 1}")
        return self


class Fleets(Section):
    """The fleets of a transient cluster."""

    primary: Fleet
    core: Fleet
    task: Fleet | None = None

    @field_validator("primary")
    @classmethod
    def _single(cls, fleet: Fleet) -> Fleet:
        if fleet.on_demand + fleet.spot != 1:
            raise mistake("a cluster has one primary instance; write on_demand: 1 or spot: 1")
        return fleet


class Transient(Section):
    """An EMR cluster that is started for one run. ``idle``: it terminates itself after this time without a step. ``logs``: where its logs
    go in S3. ``bootstrap``: scripts that each instance runs first; their argument is the package's location."""

    release: Annotated[str, Field(pattern=r"^emr-(spark-)?[0-9]+\.[0-9]+\.[0-9]+$")]
    fleets: Fleets
    service_role: Text
    instance_profile: Text
    subnets: Annotated[Texts, Field(min_length=1)]
    logs: S3Place | None = None
    idle: Duration = written("15m")
    steps_at_once: Requests = 10
    bootstrap: Annotated[tuple[S3Place, ...], BeforeValidator(as_list)] = ()
    security_configuration: Text | None = None
    tags: dict[str, Text] = Field(default={})

    @field_validator("idle")
    @classmethod
    def _allowed_by_emr(cls, idle: timedelta) -> timedelta:
        if not timedelta(minutes=1) <= idle <= timedelta(days=7):
            raise mistake(f"{duration_text(idle)} is not from 1m to 7d")
        return idle


_NEEDS = {"emr": ("package",), "emr_serverless": ("package", "application", "role")}
_ONLY_WITH = {"cluster": "emr", "transient": "emr", "application": "emr_serverless", "role": "emr_serverless", "messages": "emr_serverless"}


class Engine(Section):
    """What carries out reduce, pre-fetch and merge. Either engine continues from what the other left.

    ``master`` and ``settings``: Spark's own, for a session that this process starts, or for what it submits. ``slices``: the least number
    of parts of the hash space that a stage is cut into. ``memory_limit``: of DuckDB in one Spark task.

    On EMR, ``package`` is the folder that ``make emr-package`` wrote, ``cluster`` a running cluster, ``timeout`` the longest run of a step.
    On EMR Serverless, ``role`` is that of the jobs, ``messages`` the place in S3 for the messages of Dagster Pipes."""

    kind: Literal["duckdb", "spark", "emr", "emr_serverless"] = "duckdb"
    master: Text = "local[*]"
    settings: dict[str, Text] = Field(default={})
    slices: Annotated[int, Field(ge=1, le=100_000)] | None = None
    memory_limit: MemoryLimit = "1GB"
    cluster: Annotated[str, Field(pattern=r"^j-[A-Z0-9]+$")] | None = None
    transient: Transient | None = None
    application: Annotated[str, Field(pattern=r"^[0-9a-z]+$", max_length=64)] | None = None
    role: Annotated[str, Field(pattern=r"^arn:[^ ]{15,}$")] | None = None
    messages: S3Place | None = None
    package: Annotated[str, OrEmpty, AfterValidator(lambda text: text.rstrip("/"))] = written(None)
    timeout: Duration = written("12h")

    @property
    def memory_bytes(self) -> int:
        """``memory_limit`` in bytes."""
        return int(_BYTES.validate_python(self.memory_limit))

    @property
    def elsewhere(self) -> bool:
        """Whether the stages run on a cluster that this process only submits to."""
        return self.kind in ("emr", "emr_serverless")

    @model_validator(mode="after")
    def _fields_of_its_kind(self) -> Engine:
        for name in _NEEDS.get(self.kind, ()):
            if not getattr(self, name):
                raise mistake(f"kind: {self.kind} needs {name}; see docs/configuration.md")
        for name, kind in _ONLY_WITH.items():
            if self.kind != kind and getattr(self, name) is not None:
                raise mistake(f"{name} is for kind: {kind}, not for {self.kind}; take it out, or name that kind")
        if self.kind == "emr" and (self.cluster is None) == (self.transient is None):
            raise mistake("kind: emr takes either cluster, the id of a running one, or transient, which starts one for each run")
        return self


class Cache(Section):
    """The cache of records in front of object storage. ``url``: scheme, host, port and database number, without credentials.

    ``secret``: name of an environment variable, or ARN of a secret in Secrets Manager. ``namespace`` None: the reconciliation's name.
    ``certificates``: file of trusted authorities, None for the system's. ``record_max``: bytes of the largest record that is cached."""

    kind: Literal["none", "redis"] = "none"
    url: Annotated[str, OrEmpty] = written(None)
    ttl: Duration = written("1d")
    user: Text | None = None
    secret: Secret | None = None
    namespace: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    certificates: Text | None = None
    timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 250
    record_max: Size = written("64KiB")

    @property
    def address(self) -> str:
        """Host and port, for messages."""
        return self.url.partition("://")[2].partition("/")[0]

    @field_validator("certificates")
    @classmethod
    def _beside_the_configuration(cls, path: str | None, info: ValidationInfo) -> str | None:
        return str(info.context["folder"] / path) if info.context and path else path

    @model_validator(mode="after")
    def _url_of_its_kind(self) -> Cache:
        example = "write rediss://host:6379/0 (redis:// is without TLS)"
        if self.kind == "none":
            if self.url:
                raise mistake("is not used while cache.kind is none; write kind: redis, or leave the url out", "url")
        elif not self.url:
            raise mistake(f"is missing; {example}", "url")
        elif "@" in self.url or "?" in self.url:
            # The message does not repeat an url that may hold a password.
            raise mistake(f"user, password and options do not belong here; {example}, cache.user and cache.secret", "url")
        elif not _CACHE_URL.match(self.url):
            raise mistake(f"{self.url[:60]!r} is no address of a Redis; {example}", "url")
        return self


class DatabaseSettings(Section):
    """The SQL database of a site. ``url``: a file of SQLite, or ``postgresql://host:port/name`` without credentials; None is
    ``.recon/recon.sqlite`` beside the configuration. ``secret``: see ``Cache``."""

    url: Text | None = None
    user: Text | None = None
    secret: Secret | None = None

    @field_validator("url")
    @classmethod
    def _without_password(cls, url: str | None) -> str | None:
        if url is not None and "@" in url:
            raise mistake("user and password do not belong here; write postgresql://host:5432/name, database.user and database.secret")
        if url is not None and "://" in url and not url.startswith("postgresql://"):
            raise mistake(f"{url[:60]!r} is no database; write a file such as ./recon.sqlite, or postgresql://host:5432/name")
        return url


def database_url(value: object) -> object:
    """``database: URL`` is a section with the url alone."""
    return {"url": value} if isinstance(value, str) else value


class RecordSettings(Section):
    """Where records go through a queue on AWS. ``table``: of DynamoDB; None is the database. ``queue``: URL of the clean step's queue."""

    table: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{3,255}$")] | None = None
    queue: Annotated[str, Field(pattern=r"^https?://")] | None = None

    @model_validator(mode="after")
    def _both(self) -> RecordSettings:
        if (self.table is None) != (self.queue is None):
            raise mistake("name both table and queue, or neither: without them records go through a queue in the database")
        return self


class OwnPrices(Section):
    """Prices in US dollars that replace those of ``recon.metering.prices``."""

    region: Text | None = None
    as_of: Text | None = None
    s3_put_1000: Dollars | None = None
    s3_get_1000: Dollars | None = None
    dynamodb_write_million: Dollars | None = None
    dynamodb_read_million: Dollars | None = None
    dynamodb_import_gb: Dollars | None = None
    lambda_request_million: Dollars | None = None
    lambda_gb_second: Dollars | None = None
    vcpu_hour: Dollars | None = None
    memory_gb_hour: Dollars | None = None

    @property
    def replaced(self) -> Prices:
        """All prices: those written here, and Recon's own for the others."""
        return replace(Prices(), **self.model_dump(exclude_none=True))


class Compaction(Section):
    """Which of two limits is kept (``bound``): part-files hold at most ``disk`` times the live bytes, or commits write at most ``writes``
    times the changed bytes. Either way compaction begins once ``disk`` is exceeded."""

    bound: Literal["disk", "writes"] = "disk"
    disk: Times = 1.5
    writes: Times = 1.5


class Index(Section):
    """What look-ups read: the ``runs`` alone, or also a ``table`` in DynamoDB that is loaded from them.

    ``requests_at_once``: of one process. ``share``: the most entries that one worker loads in one piece. ``fill``: how a new table gets its
    items."""

    kind: Literal["runs", "dynamodb"] = "runs"
    table: Annotated[str, OrEmpty, Field(pattern=r"^([A-Za-z0-9_.-]{3,200})?$")] = written(None)
    requests_at_once: Requests = 32
    share: Annotated[int, Field(ge=1000, le=10_000_000)] = 100_000
    fill: Literal["updates", "import"] = "updates"

    def of(self, reconciliation: str) -> Index:
        """This index, with the reconciliation's table where no other is written."""
        return self if self.table else self.model_copy(update={"table": f"recon-{reconciliation}"})


class Workers(Section):
    """What loads shares into the index table: ``count`` processes of this machine, or as many invocations of the Lambda ``function``.

    ``time_limit``: of one worker. ``silence``: a worker without a heartbeat for this long counts as dead. ``attempts``: attempts at one
    share in a row without progress, before the load fails."""

    kind: Literal["processes", "lambda"] = "processes"
    count: Annotated[int, Field(ge=1, le=1000)] = 4
    function: Annotated[str, OrEmpty, Field(pattern=r"^([A-Za-z0-9:_.$-]{1,256})?$")] = written(None)
    time_limit: Duration = written("10m")
    silence: Duration = written("1m")
    attempts: Annotated[int, Field(ge=1, le=100)] = 5

    @model_validator(mode="after")
    def _within_its_kind(self) -> Workers:
        if (self.kind == "lambda") != bool(self.function):
            raise mistake("belongs to kind: lambda, which needs it; write workers: {kind: lambda, function: recon-index}", "function")
        limit = duration_text(self.time_limit)
        if self.time_limit > (LAMBDA_LIMIT if self.kind == "lambda" else timedelta(days=1)):
            raise mistake(f"{limit} is too long; at most 15m on Lambda, 1d elsewhere", "time_limit")
        if self.silence >= self.time_limit:
            raise mistake(f"{duration_text(self.silence)} is not shorter than time_limit, {limit}", "silence")
        return self


class Retention(Section):
    """``history``: how long superseded knowledge is kept, None for ever. ``grace``: how long unused files are left for running readers."""

    history: Duration | None = None
    grace: Duration = written("1d")

    @model_validator(mode="after")
    def _grace_within_history(self) -> Retention:
        if self.history is not None and self.history < self.grace:
            grace, history = duration_text(self.grace), duration_text(self.history)
            raise mistake(f"{grace} is longer than history, {history}; give readers no more than is kept", "grace")
        return self


class S3Settings(Section):
    """How a store in S3 is used. ``kms_key``: encrypts written objects, None for the bucket's own. ``requests_at_once``: of one read.
    ``retry``: how long a throttled or interrupted request is retried."""

    kms_key: Text | None = None
    requests_at_once: Requests = 32
    retry: Duration = written("2m")

    @property
    def retry_s(self) -> float:
        return self.retry.total_seconds()

    def retrying(self, seconds: float) -> S3Settings:
        """These settings with another time for retries."""
        return self.model_copy(update={"retry": timedelta(seconds=seconds)})
