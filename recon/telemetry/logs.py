"""JSON logs: one line per record on standard error, with the run, reconciliation, stage, windows and attempt that it belongs to.

They are on where the environment has ``RECON_LOG=json``. What a process starts elsewhere (workers, Spark's tasks, steps of EMR) continues
with the same fields: ``carried`` gives them, ``continued`` takes them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, Any

from recon.errors import WrongUsage
from recon.storage.redact import redacted

LOG = "RECON_LOG"
"""Environment variable: ``json``, or ``text``, which leaves logging as it is."""
CARRIED = "RECON_LOG_FIELDS"
"""Environment variable of a child process: the fields of its parent, as JSON."""
_FIELDS: ContextVar[Mapping[str, Any]] = ContextVar("recon_log_fields", default={})  # noqa: B039 - it is never changed, only replaced
_NAMES = ("run", "reconciliation", "stage", "window", "attempt", "job", "step", "share", "request", "task")
"""The fields that a process takes from another."""
_TEXT_MAX = 4_000


def on() -> bool:
    """Whether this process writes JSON. Raises WrongUsage if RECON_LOG has another value."""
    text = os.environ.get(LOG) or "text"
    if text not in ("json", "text"):
        raise WrongUsage(f"{LOG}: {text[:40]!r} is neither 'json' nor 'text'")
    return text == "json"


def set_up() -> bool:
    """Makes the root logger write JSON, if it is on. Returns whether it is. A second call changes nothing."""
    if not on():
        return False
    root = logging.getLogger()
    if not any(isinstance(handler.formatter, JsonLines) for handler in root.handlers):
        for handler in root.handlers[:]:
            root.removeHandler(handler)
        root.addHandler(json_handler())
        root.setLevel(logging.INFO)
        for noisy in ("py4j", "botocore", "urllib3", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
    if not _FIELDS.get() and (text := os.environ.get(CARRIED)):
        _FIELDS.set(_known(text))
    return True


def json_handler() -> logging.Handler:
    """A handler that writes JSON to what standard error is when a record comes."""
    handler = _Stderr()
    handler.setFormatter(JsonLines())
    return handler


def fields() -> Mapping[str, Any]:
    """The fields of this moment."""
    return _FIELDS.get()


@contextmanager
def logged_with(**more: Any) -> Iterator[None]:
    """Adds fields to the records of the block; None adds nothing."""
    before = _FIELDS.get()
    _FIELDS.set({**before, **{name: value for name, value in more.items() if value is not None}})
    try:
        yield
    finally:
        _FIELDS.set(before)  # not by a token: a generator may be closed in another context


def carried() -> dict[str, Any]:
    """The fields, for a process elsewhere; empty where JSON is not on."""
    return {"log": "json", **fields()} if on() else {}


@contextmanager
def continued(found: Mapping[str, Any], **more: Any) -> Iterator[None]:
    """Takes the fields of another process (``carried``) for the block, and writes JSON if that one does."""
    if found.get("log") == "json":
        os.environ.setdefault(LOG, "json")
        set_up()
    own = {name: value for name, value in more.items() if value is not None}
    with logged_with(**{**{name: found[name] for name in _NAMES if name in found}, **own}):
        yield


def environment() -> dict[str, str]:
    """The environment variables with which a child process continues with the fields."""
    found = carried()
    return {CARRIED: json.dumps(found)} if found else {}


def unexpected(log: logging.Logger, what: str, error: BaseException) -> None:
    """Reports an error that is a bug, or another library's, on standard error: with its traceback, or as JSON, where that is on."""
    if on():
        log.error("%s: unexpected %s", what, type(error).__name__, exc_info=error)
    else:
        print(redacted("".join(traceback.format_exception(error))), file=sys.stderr, flush=True)


def complain(log: logging.Logger, text: str, shown_as: str = "recon: ") -> None:
    """Reports an error by its message: a line on standard error that begins with ``shown_as``, or JSON, where that is on."""
    if os.environ.get(LOG) == "json":
        set_up()
        log.error("%s", text)
    else:
        print(f"{shown_as}{text}", file=sys.stderr, flush=True)


def line_of(name: str, text: str) -> str:
    """A line as it is logged now by the logger ``name``, for code that cannot log: a handler of a signal."""
    return JsonLines().format(logging.LogRecord(name, logging.INFO, "", 0, "%s", (text,), None))


class JsonLines(logging.Formatter):
    """One JSON object per record: ``time``, ``level``, ``logger``, ``message``, the fields, ``error`` and ``traceback`` of an exception. A
    traceback has files and lines, not the text of the exception, which may quote an event."""

    def format(self, record: logging.LogRecord) -> str:
        of_dagster: Mapping[str, Any] = getattr(record, "dagster_meta", {})
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redacted(str(of_dagster.get("orig_message") or record.getMessage()))[:_TEXT_MAX],
            **fields(),
            **_of_dagster(of_dagster),
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = type(error).__name__
            line["traceback"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
        return json.dumps(line, ensure_ascii=False, default=str)


class _Stderr(logging.StreamHandler[IO[str]]):
    """Tests, and commands that keep writing after a terminal is gone, replace sys.stderr."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def _of_dagster(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record of Dagster's own: run, job and step; or the sensor or schedule."""
    sensor = meta.get("name") if "repository_name" in meta else None
    named = {"run": meta.get("run_id"), "job": meta.get("job_name"), "step": meta.get("step_key"), "sensor": sensor}
    return {name: value for name, value in named.items() if value}


def _known(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return {name: found[name] for name in _NAMES if name in found} if isinstance(found, dict) else {}
