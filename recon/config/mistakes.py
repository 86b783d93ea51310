"""Turns pydantic's errors into one line that names file, line, field and an example."""

from __future__ import annotations

import difflib
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from recon.config.fields import MISTAKE, mistake
from recon.config.yaml_file import FieldPath, File, dotted
from recon.errors import WrongUsage

S = TypeVar("S", bound=BaseModel)


def validated(file: File, model: type[S]) -> S:
    """The file's sections, as ``model`` has them. Raises WrongUsage for the first mistake."""
    try:
        return model.model_validate(file.content, context={"folder": file.path.parent})
    except ValidationError as error:
        first, field = _first(error, file.content)
        raise WrongUsage(f"{file.place(field)}: {dotted(field)}: {_reason(model, first, field)}") from None


def section(model: type[S], content: object, name: str) -> S:
    """A section that a validator takes, as ``model`` has it. Raises its first mistake, as ``mistake`` does. ``name``: of the section."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first, field = _first(error, content)
        raise mistake(_reason(model, first, field), name, *field) from None


def _first(error: ValidationError, content: object) -> tuple[dict[str, Any], FieldPath]:
    """The first mistake in a section, and its field."""
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    named = _parts(content)
    field = tuple(part for part in first["loc"] if part in named or isinstance(part, int)) or tuple(first["loc"])
    if first["type"] == "missing" and field[-1:] != first["loc"][-1:]:
        field += first["loc"][-1:]
    if first["type"] == MISTAKE:
        field += first["ctx"]["field"]
    return dict(first), field


def _parts(content: object) -> set[str]:
    """Every name that is written, to tell a field's path from pydantic's own parts of it."""
    if isinstance(content, dict):
        return set(content).union(*(_parts(value) for value in content.values()))
    return set().union(*map(_parts, content)) if isinstance(content, list) else set()


def _reason(model: type[BaseModel], error: dict[str, Any], field: FieldPath) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == MISTAKE:
        return str(context["reason"])
    if kind == "extra_forbidden":
        known = _known(model, field[:-1])
        near = difflib.get_close_matches(str(field[-1]), known, 1)
        return f"not known here; {f'did you mean {near[0]}?' if near else 'known are ' + ', '.join(known)}"
    if kind == "missing":
        return "is missing; " + (_MISSING.get(dotted(field)) or _EXAMPLES.get(str(error["loc"][-1]), "add it"))
    if kind == "literal_error":
        return f"{error['input']!r} is not one of {context['expected']}"
    if kind == "union_tag_invalid":
        return f"{context['tag']!r} is not one of {context['expected_tags']}"
    example = (_EXAMPLES.get(dotted(field)) or _EXAMPLES.get(str(field[-1]))) if field else None
    if example:
        return f"{error['input']!r} does not fit; {example}"
    shown = str(error["input"])[:60]
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        names = _known(model, field)
        such = f", with names such as {', '.join(names[:6])}" if names else ""
        return f"{shown!r} is no section; write {{{names[0] if names else 'a name of your own'}: …}}{such}"
    if kind in ("list_type", "string_type", "time_delta_type"):
        return f"{shown!r} is not {'a list' if kind == 'list_type' else 'a text'}"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}, not {str(error['input'])[:60]!r}"


_MISSING = {
    "format": "write what its files are, such as format: {kind: delimited, header: true} for CSV",
    "format.header": "write whether the first row names the columns, header: true or header: false",
}
"""What to write for a field that is missing, by its path; other fields of these names mean something else."""
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
    "line": "write a size such as line: 16MiB",
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
        (
            *("s3_put_1000", "s3_get_1000", "dynamodb_write_million", "dynamodb_read_million"),
            *("lambda_request_million", "lambda_gb_second", "vcpu_hour", "memory_gb_hour"),
        ),
        "write a price in US dollars, such as 0.005",
    ),
    "record_max": "write a size such as record_max: 64KiB",
    "threads": "write a whole number from 1 to 1024",
}


def _known(model: type[BaseModel], path: FieldPath) -> list[str]:
    """The names that the section at ``path`` may have; none where they are the user's."""
    section: type[BaseModel] | None = model
    of_the_user = False
    for part in path:
        if of_the_user or isinstance(part, int):
            of_the_user = False
        elif section is None or part not in _fields(section):
            return []
        else:
            annotation = _fields(section)[part].annotation
            section, of_the_user = _section_in(annotation), get_origin(annotation) is dict
    return list(_fields(section)) if section else []


def _fields(section: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields by the names that users write."""
    return {info.alias or name: info for name, info in section.model_fields.items()}


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, alone, in a list or by name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _section_in(inner))), None)
