"""Turns Recon's errors into Dagster failures and retries: which errors are retried, how often, and after how long.

Dagster's RetryPolicy does not distinguish kinds of error, so this module maps each kind. Damaged data and wrong configurations are never
retried, since another attempt would fail alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from recon.errors import (
    ConnectionLost,
    Damaged,
    NotReady,
    OutOfCapacity,
    ReconError,
    Throttled,
    TimedOut,
    TryAgain,
    WrongInput,
    WrongUsage,
    transient_kind,
)
from recon.telemetry import logs


@dataclass(frozen=True)
class Retries:
    """``attempts``: in all. ``wait_s``: seconds before the second attempt; each further wait is ``backoff`` times as long."""

    attempts: int
    wait_s: float
    backoff: float


By = Mapping[type[TryAgain], Retries]
"""Kind of error → its retries; kinds that are not listed use those of TryAgain."""

COMPUTE: By = {
    Throttled: Retries(attempts=6, wait_s=2, backoff=2),
    OutOfCapacity: Retries(attempts=8, wait_s=15, backoff=1.5),
    ConnectionLost: Retries(attempts=5, wait_s=1, backoff=2),
    TimedOut: Retries(attempts=3, wait_s=5, backoff=2),
    TryAgain: Retries(attempts=3, wait_s=1, backoff=2),
}
INDEX: By = {**COMPUTE, **dict.fromkeys((Throttled, ConnectionLost, TryAgain), Retries(attempts=10, wait_s=15, backoff=1.5))}
ATTENDED = Retries(attempts=1, wait_s=0, backoff=1)
"""No retries: the command exits with status 3, and its caller decides when to retry."""

ONCE: By = {TryAgain: ATTENDED}
"""For work that is tried again by another run."""

ATTENDED_TAG = ".dagster/recon_attended"
"""Tag of a run that the command line started. The UI hides tags that begin with ``.dagster/``."""
FAILURE_TAG = "recon/failure"
"""Tag of a failed run: the class of its error. ``WrongInput``: the data of its windows are wrong, so a retry is useless. ``Damaged``: a
stored object is damaged and may be restored."""
NO_FAILURE = "none"
"""The tag's value in the re-execution of a failed run, until it fails itself."""
AGAIN_AT_TAG = ".dagster/recon_again_at"
"""Tag of a run that waits for its next attempt and has no lease meanwhile: the time of that attempt."""
TRIED_TAG = ".dagster/recon_tried"
"""Tag of a run: its id, and stage and kind of error → failed attempts. Dagster itself counts attempts regardless of the kind."""

Context = dg.AssetExecutionContext | dg.AssetCheckExecutionContext | dg.OpExecutionContext


@contextmanager
def errors_as_failures(context: Context, retries: By) -> Iterator[None]:
    """Turns Recon's errors into failures with one line, and requests retries for transient errors, by kind. Other errors pass unchanged.
    Logs of the block have the run, its job, its reconciliation and the attempt."""
    try:
        run, attempt = context.run, context.op_execution_context.retry_number + 1
        name = run.tags.get("recon/reconciliation")
        with logs.logged_with(run=run.run_id, job=run.job_name, attempt=attempt, reconciliation=name):
            yield
    except Exception as error:
        if (kind := transient_kind(error)) is not None:
            raise _again_or_failed(context, error, kind, retries) from error
        if isinstance(error, ReconError):
            raise _failed(context, error, str(error)) from error
        raise


def _again_or_failed(context: Context, error: Exception, kind: type[TryAgain], retries: By) -> dg.RetryRequested | dg.Failure:
    run = context.instance.get_run_by_id(context.run.run_id) or context.run
    # A re-execution has the tags of the original run.
    attended = ATTENDED_TAG in run.tags and run.parent_run_id is None
    rule = ATTENDED if attended else next(retries[base] for base in kind.__mro__ if base in retries)
    tried: dict[str, Any] = json.loads(run.tags.get(TRIED_TAG, "{}"))
    if tried.get("run") != run.run_id:
        tried = {"run": run.run_id}
    op = context if isinstance(context, dg.OpExecutionContext) else context.op_execution_context
    key = f"{op.get_step_execution_context().step.key} {kind.__name__}"
    attempts = tried[key] = tried.get(key, 0) + 1
    if attempts >= rule.attempts:
        return _failed(context, error, f"{error} (after {attempts} attempt{'' if attempts == 1 else 's'})")
    wait_s = rule.wait_s * rule.backoff ** (attempts - 1)
    again_at = datetime.now(UTC) + timedelta(seconds=wait_s)
    context.instance.add_run_tags(run.run_id, {AGAIN_AT_TAG: again_at.isoformat(), TRIED_TAG: json.dumps(tried)})
    return dg.RetryRequested(max_retries=sum(rule.attempts for rule in retries.values()), seconds_to_wait=wait_s)


def _failed(context: Context, error: Exception, message: str) -> dg.Failure:
    known = next((kind.__name__ for kind in (NotReady, Damaged, WrongInput, WrongUsage) if isinstance(error, kind)), None)
    kind = transient_kind(error)
    context.instance.add_run_tags(context.run.run_id, {FAILURE_TAG: kind.__name__ if kind else known or type(error).__name__})
    notes = "\n".join(getattr(error, "__notes__", ()))  # the place of its logs, and their last lines
    return dg.Failure(message, metadata={"notes": notes} if notes else None, allow_retries=False)
