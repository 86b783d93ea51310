"""The text of ``recon.yaml``: YAML with lines, the shape of its sections, and what a mistake in it is called.

Belongs here: reading YAML, sections and their plain types, places of fields. Does not belong here: what the sections
mean together (``recon.config``).

Scalars are read much as YAML 1.2's core schema has it, so that nothing is guessed: ``null``, ``true``, ``false`` and
whole numbers are what they look like; all else, ``NO``, ``0.10`` and ``2026-11-01`` included, is the text as written.
Keys are always text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from recon.errors import WrongUsage

BYTES_MAX = 1_000_000
DEPTH_MAX = 20
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})\Z")
_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}

FieldPath = tuple[str | int, ...]


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


@dataclass(frozen=True)
class File:
    """A file's content and the line on which each field stands."""

    path: Path
    content: dict[str, Any]
    lines: dict[FieldPath, int]

    def place(self, field: FieldPath) -> str:
        """``recon.yaml:12`` of the field, or of the nearest section around it that is written."""
        for size in range(len(field), 0, -1):
            if field[:size] in self.lines:
                return f"{self.path}:{self.lines[field[:size]]}"
        return str(self.path)


def dotted(field: Sequence[str | int]) -> str:
    """``("status", 0, "OK")`` → ``status[0].OK``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in field).lstrip(".")


def read(path: Path) -> File:
    """Reads the YAML. Raises WrongUsage for what is no YAML mapping, repeats a key, or uses anchors."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise WrongUsage(f"{path}: no such file; name it with --config, or make one with 'recon init DIR'") from None
    except IsADirectoryError:
        raise WrongUsage(f"{path}: this is a folder; name the file in it, such as {path / 'recon.yaml'}") from None
    except OSError as error:
        raise WrongUsage(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(raw) > BYTES_MAX:
        raise WrongUsage(f"{path}: {len(raw)} bytes are too many for a configuration; at most {BYTES_MAX}")
    lines: dict[FieldPath, int] = {}
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(raw)
        try:
            document = loader.get_single_node()
        finally:
            loader.dispose()
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise WrongUsage(f"{place}: not YAML: {problem}; check quotes, colons and indentation") from None
    if not isinstance(document, yaml.MappingNode):
        raise WrongUsage(f"{path}: expected sections such as name, store and key; see 'recon init DIR' for an example")
    return File(path, _constructed(path, document, (), lines, set()), lines)


def _constructed(path: Path, node: yaml.Node, field: FieldPath, lines: dict[FieldPath, int], seen: set[int]) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(field, line)
    if id(node) in seen or len(field) > DEPTH_MAX:
        raise WrongUsage(f"{path}:{line}: {dotted(field)}: anchors, aliases and deep nesting are not used here; write it out")
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [_constructed(path, item, (*field, index), lines, seen) for index, item in enumerate(node.value)]
    content: dict[str, Any] = {}
    for key, value in node.value:
        inner = (*field, str(key.value))
        if not isinstance(key, yaml.ScalarNode):
            raise WrongUsage(f"{path}:{key.start_mark.line + 1}: {dotted(field)}: a name is plain text, not a list or section")
        if key.value in content:
            raise WrongUsage(f"{path}:{key.start_mark.line + 1}: {dotted(inner)} is there twice, first in line {lines[inner]}")
        lines[inner] = key.start_mark.line + 1
        content[key.value] = _constructed(path, value, inner, lines, seen)
    return content


def _scalar(node: yaml.ScalarNode) -> object:
    text: str = node.value
    if node.style is not None:
        return text
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    return int(text) if _WHOLE.match(text) else text


def validated(file: File) -> Sections:
    """The sections at their types. Raises WrongUsage for the first mistake."""
    try:
        return Sections.model_validate(file.content)
    except ValidationError as error:
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        field = tuple(part for part in first["loc"] if part in _parts(file.content) or isinstance(part, int))
        field = field or tuple(first["loc"])
        place = file.place(field)
        raise WrongUsage(f"{place}: {dotted(field)}: {_reason(dict(first), field)}") from None


def _parts(content: object) -> set[str]:
    """Every name that is written, to tell a field's path from pydantic's own parts of it."""
    if isinstance(content, dict):
        return set(content).union(*(_parts(value) for value in content.values()))
    return set().union(*map(_parts, content)) if isinstance(content, list) else set()


def _reason(error: dict[str, Any], field: FieldPath) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        known = _known(field[:-1])
        near = difflib.get_close_matches(str(field[-1]), known, 1)
        return f"not known here; {f'did you mean {near[0]}?' if near else 'known are ' + ', '.join(known)}"
    if kind == "missing":
        return "is missing; " + _EXAMPLES.get(str(error["loc"][-1]), "add it")
    if kind == "literal_error":
        return f"{error['input']!r} is not one of {context['expected']}"
    example = _EXAMPLES.get(dotted(field)) or _EXAMPLES.get(str(field[-1]))
    if example:
        return f"{error['input']!r} does not fit; {example}"
    shown = str(error["input"])[:60]
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        names = _known((*field, "")) or ["a name of your own"]
        return f"{shown!r} is no section; write {{{names[0]}: …}}, with names such as {', '.join(names[:6])}"
    if kind in ("list_type", "string_type"):
        return f"{shown!r} is not {'a list' if kind == 'list_type' else 'a text'}"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}, not {str(error['input'])[:60]!r}"


_EXAMPLES = {
    "name": "write a lower-case name such as name: orders",
    "store": "write a folder such as store: ./data, or s3://bucket/prefix",
    "key": "write the column that names an artifact, such as key: order_id, or a list of columns",
    "column": "write the column that names an artifact, such as key: {column: order_id, clean: [trim, nfc, strip_format]}",
    "windows": "write windows: {start: 2026-11-01T00:00Z, every: 1h}",
    "start": "write the first window's start, such as 2026-11-01T00:00Z",
    "every": "write the windows' length, such as 1h",
    "windows.zone": "write the zone whose days are the windows, such as zone: America/New_York",
    "cluster": "write the id of a running cluster, such as cluster: j-2AXXXXXXGAPLF",
    "release": "write a release of EMR, such as release: emr-spark-8.0.0",
    "role": "write the ARN of the role of its jobs, such as role: arn:aws:iam::123456789012:role/recon-jobs",
    "logs": "write a place in S3, such as logs: s3://bucket/logs",
    "messages": "write a place in S3, such as messages: s3://bucket/pipes",
    "bootstrap": "write scripts in S3, such as bootstrap: [s3://bucket/install.sh]",
    "application": "write the id of an application of EMR Serverless, such as application: 00f1r2o3m4e5x601",
    "measures": 'write measures such as lines: {count: "*"}',
    "status": 'write a list such as - {BREAK: "true"}',
    "bytes": "write a size such as bytes: 4GB",
    "memory_limit": "write a size such as memory_limit: 2GB",
    "files": "write the number of files that make a window complete, such as files: 4",
    "freshness": "write how late the watermark may be, such as freshness: 2h",
    "deadline": "write how long after its end a window is waited for, such as deadline: 30m",
    "process_open": "write true or false",
    "disk": "write how many times what is live the part-files may hold, 1.1 to 10, such as disk: 1.5",
    "writes": "write how many times what changed may be written, 1.1 to 10, such as writes: 1.5",
    "history": "write how long what was known is kept, such as history: 400d",
    "grace": "write how long readers may go on with what was superseded, such as grace: 1d",
    "requests_at_once": "write how many requests go side by side, 1 to 256, such as requests_at_once: 32",
    "retry": "write how long a request to S3 is tried again, such as retry: 2m",
    "control_groups": "write how many values a control total may be grouped by, 1 to 1,000,000, such as control_groups: 1000",
    "permissions": "write private (only your user reads the store), or shared (as the umask says)",
    "caps.windows": "write how many windows one run merges at most, such as windows: 48",
    "function": "write the name or ARN of the function that 'make lambda-package' is deployed as, such as function: recon-index",
    "time_limit": "write how long a worker may take, such as time_limit: 10m",
    "silence": "write after how long without a sign of life a worker is given up, such as silence: 1m",
    "workers.count": "write how many workers are at work at once, 1 to 1000, such as count: 4",
    "attempts": "write how often a share is tried without getting any further, 1 to 100, such as attempts: 5",
    "index.table": "write a name of 3 to 200 letters, digits, '_', '-' and '.', such as table: recon-orders",
    "cache.ttl": "write how long an unused record may lie in the cache, such as ttl: 1d",
    **dict.fromkeys(
        ("s3_put_1000", "s3_get_1000", "dynamodb_write_million", "dynamodb_read_million", "lambda_request_million", "lambda_gb_second"),
        "write a price in US dollars, such as 0.005",
    ),
    "record_max": "write a size such as record_max: 64KiB",
    "threads": "write a whole number from 1 to 1024",
}
_MODELS: dict[str, type[BaseModel]] = {
    "windows": Windows,
    "key": KeyOf,
    "events": EventColumns,
    "caps": Caps,
    "limits": LimitsOf,
    "cache": CacheOf,
    "prices": PricesOf,
    "closing": ClosingOf,
    "engine": EngineOf,
    "compaction": CompactionOf,
    "retention": RetentionOf,
    "index": IndexOf,
    "workers": WorkersOf,
    "s3": S3Of,
}
_NAMED: dict[str, type[BaseModel]] = {"measures": MeasureOf, "control": ControlOf}


def _known(section: FieldPath) -> list[str]:
    """The names that a section may have."""
    if not section:
        return list(Sections.model_fields)
    head = str(section[0])
    model = _MODELS.get(head) or _NAMED.get(head)
    return list(model.model_fields) if model else []
