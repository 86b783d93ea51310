"""Redacts third-party log lines and errors before they are shared: secrets, and quoted event data."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable

REDACTED = "[…]"
LINE_LENGTH_MAX = 300

_SECRETS = (
    re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}\b"),
    # name=value, "name": "value", name: value – where the name is like a secret's.
    re.compile(
        r"(?i)(?P<kept>[\w.-]*(?:secret|password|passwd|token|credential|signature|api[_-]?key|access[_-]?key|private[_-]?key)[\w.-]*"
        r"[\"']?\s*[=:]\s*[\"']?)(?:(?:bearer|basic)\s+)?[^\s\"'&,;}]+"
    ),
    re.compile(r"(?i)(?P<kept>authorization[\"']?\s*[=:]\s*).*"),
    re.compile(r"(?P<kept>\w+://)[^/\s:@]+:[^/\s@]+(?=@)"),
)
_SECRET_NAME = re.compile(r"(?i)secret|password|token|credential|access_key")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|“[^”]*”")

_OWN = re.compile(r"recon: ")
_LEVELS = re.compile(r"\S+ \S+ (?:WARN|ERROR|FATAL) (?P<class>[\w.$]+): (?P<text>.*)")
_ERRORS = re.compile(r"(?:\S+ in thread \S+ )?(?:Caused by: )?(?P<class>[\w.$]+(?:Error|Exception|Failure|Interrupt))(?:: (?P<text>.*))?\Z")
_ENDED = re.compile(r".*(?:exit ?code|Command exiting|exited with|Exit status).*", re.IGNORECASE)


def redacted(text: str) -> str:
    """The text without values that look like secrets, and without the values of this process's own secrets."""
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET_NAME.search(name):
            text = text.replace(value, REDACTED)
    for secret in _SECRETS:
        text = secret.sub(lambda found: (found.groupdict().get("kept") or "") + REDACTED, text)
    return text


def shareable(text: str) -> str:
    """The first line of an error, for systems outside of Recon: without secrets, and without quoted texts, which may be event data."""
    return redacted(_QUOTED.sub(REDACTED, text.strip().partition("\n")[0]))[:LINE_LENGTH_MAX]


def shareable_lines(lines: Iterable[str], most: int) -> list[str]:
    """The last ``most`` lines of a known form: Recon's own errors, warnings and errors of Java's loggers, classes of errors, exit codes.
    Other lines may hold event data and are dropped; quoted texts in the known ones are redacted."""
    found = [shareable for line in lines if (shareable := _shareable(line.rstrip())) is not None]
    return found[-most:] if most else []


def _shareable(line: str) -> str | None:
    if line.startswith("{"):
        line = _of_json(line)
    if _OWN.match(line):  # written to be shown: it names files, lines and columns
        return redacted(line)[:LINE_LENGTH_MAX]
    if not (_LEVELS.match(line) or _ERRORS.match(line) or _ENDED.match(line)):
        return None
    return shareable(line)


def _of_json(line: str) -> str:
    """A warning or an error that Recon has logged as JSON, as the line that it is in a text log; "" for any other JSON."""
    try:
        record = json.loads(line)
    except ValueError:
        return ""
    own = isinstance(record, dict) and str(record.get("logger", "")).startswith("recon.")
    return f"recon: {record.get('message', '')}" if own and record.get("level") in ("WARNING", "ERROR", "CRITICAL") else ""
