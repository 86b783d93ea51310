"""The reason why a step failed, as one of Recon's errors; its class decides whether and how the step is retried."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from recon.errors import Cancelled, ConnectionLost, OutOfCapacity, ReconError, Throttled, TryAgain, WrongInput, WrongUsage
from recon.storage.redact import redacted, shareable_lines

GONE = ("TERMINATING", "TERMINATED", "TERMINATED_WITH_ERRORS")
BY_STATUS: Mapping[int, type[ReconError]] = {1: WrongInput, 2: WrongUsage, 3: TryAgain}
"""Exit status of recon.cli.spark → kind."""

_NO_ROOM = re.compile(
    r"(?i)insufficient|capacity|\bspot\b|quota|limit ?exceeded|no space left|lost node|node.{0,20}lost|lost.{0,20}node|decommission"
    r"|exit status: -100|container released|outofmemory|killed by (?:yarn|external signal)|exit code (?:is )?137|beyond.{0,40}memory limits"
)
_SLOWED = re.compile(r"(?i)throttl|slow ?down|rate exceeded|\b503\b")
_CUT = re.compile(
    r"(?i)executorlost|executor.{0,40}lost|lost executor|connection (?:reset|refused)|fetchfailed|heartbeat timed out"
    r"|master.{0,30}unresponsive"
)
_REASONS: Mapping[str, type[ReconError]] = {
    "INSTANCE_FAILURE": OutOfCapacity,
    "INSTANCE_FLEET_TIMEOUT": OutOfCapacity,
    "INTERNAL_ERROR": ConnectionLost,
    "VALIDATION_ERROR": WrongUsage,
    "BOOTSTRAP_FAILURE": WrongUsage,
    "USER_REQUEST": Cancelled,
}
_REASONS_MAX = 20
_NEXT: Mapping[type[ReconError], str] = {
    Cancelled: "run the same again when it may be",
    WrongUsage: "correct it, then run the same again",
}


def error_of(step: str, status: Mapping[str, Any], cluster: Mapping[str, Any], lines: Sequence[str]) -> ReconError:
    """The error of a step that left no result. ``status``: of the step, ``cluster``: the status of its cluster, as EMR describes them;
    ``lines``: the last lines of its stderr that may be shared."""
    state = str(status.get("State", ""))
    if cluster.get("State") in GONE or state == "INTERRUPTED":
        return cluster_error(f"{step} was {state or 'lost'}", cluster)
    if state == "CANCELLED":
        reason = redacted(str(status.get("StateChangeReason", {}).get("Message", ""))).strip() or "by a user"
        return Cancelled(f"{step} was cancelled ({reason}); nothing is half done; {_NEXT[Cancelled]}")
    details = status.get("FailureDetails", {})
    # EMR copies these from its logs, so they may quote an event: they are redacted like log lines.
    reasons = [line for name in ("Reason", "Message") for line in str(details.get(name, "")).splitlines()]
    found, shareable = [*lines, *reasons], [*lines, *shareable_lines(reasons, _REASONS_MAX)]
    own = next((line.removeprefix("recon: ") for line in reversed(shareable) if line.startswith("recon: ")), None)
    exit_status = _exit_status(found)
    # spark-submit's status 1 says nothing by itself: it is Recon's only with a line of Recon's.
    if own is not None and exit_status is not None and exit_status in BY_STATUS:
        return BY_STATUS[exit_status](f"{step}: {own}")
    kind = _kind_of(found)
    shown = own or next(reversed(shareable), "it left no reason; see its logs")
    return (kind or TryAgain)(f"{step} failed without an answer ({shown[:300]}); nothing is half done; run the same again")


def cluster_error(what: str, cluster: Mapping[str, Any]) -> ReconError:
    """The error that the end of a cluster means for its callers."""
    reason = cluster.get("StateChangeReason", {})
    code, message = str(reason.get("Code", "")), redacted(str(reason.get("Message", ""))).strip()
    text = " ".join([message, *(str(detail.get("ErrorMessage", "")) for detail in cluster.get("ErrorDetails", []))])
    if _NO_ROOM.search(text):
        kind: type[ReconError] = OutOfCapacity
    elif _SLOWED.search(text):
        kind = Throttled
    else:
        kind = _REASONS.get(code, OutOfCapacity if cluster.get("State") == "TERMINATED_WITH_ERRORS" else TryAgain)
    ended = f"its cluster is {cluster.get('State', 'gone')}" + (f": {code}" if code else "") + (f", {message[:300]}" if message else "")
    return kind(f"{what}, since {ended}; nothing is half done; {_NEXT.get(kind, 'run the same again')}")


def _kind_of(lines: Sequence[str]) -> type[ReconError] | None:
    text = "\n".join(lines)
    return next(
        (kind for kind, form in ((OutOfCapacity, _NO_ROOM), (Throttled, _SLOWED), (ConnectionLost, _CUT)) if form.search(text)), None
    )


def _exit_status(lines: Sequence[str]) -> int | None:
    """The last exit status that the lines name."""
    found = [re.search(r"(?i)(?:exit ?code:?|exiting with ret|exited with|exit status:?)\D{0,3}(\d+)", line) for line in lines]
    return next((int(match[1]) for match in reversed(found) if match is not None), None)
