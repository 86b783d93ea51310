"""The library's errors as Dagster failures: what is worth another try, how often, and after how long.

Dagster's RetryPolicy knows no kinds of error, so each kind is mapped by hand. Corrupt data and a wrong configuration are never tried
again: the next try would find the same.
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


@dataclass(frozen=True)
class Retries:
    """``attempts`` in all; the first waits ``wait_s`` seconds, each later one ``backoff`` times as long as the one before."""

    attempts: int
    wait_s: float
    backoff: float


By = Mapping[type[TryAgain], Retries]
"""Kind of error → how it is tried again; what has no kind of its own goes by TryAgain."""

COMPUTE: By = {
    Throttled: Retries(attempts=6, wait_s=2, backoff=2),
    OutOfCapacity: Retries(attempts=8, wait_s=15, backoff=1.5),
    ConnectionLost: Retries(attempts=5, wait_s=1, backoff=2),
    TimedOut: Retries(attempts=3, wait_s=5, backoff=2),
    TryAgain: Retries(attempts=3, wait_s=1, backoff=2),
}
INDEX: By = {**COMPUTE, **dict.fromkeys((Throttled, ConnectionLost, TryAgain), Retries(attempts=10, wait_s=15, backoff=1.5))}
ATTENDED = Retries(attempts=1, wait_s=0, backoff=1)
"""Whoever called the command is told instead, by exit status 3, and decides when it is tried again."""

ATTENDED_TAG = ".dagster/recon_attended"
"""Tag of a run of the command line. Tags that begin with ``.dagster/`` are not shown in the UI."""
FAILURE_TAG = "recon/failure"
"""Tag of a failed run: the class of its error. ``WrongInput`` means that its windows' data are at fault, so trying again is no use;
``Damaged`` that a stored object is, which may be restored."""
NO_FAILURE = "none"
"""The value of that tag in a run that executes a failed run again, as long as it has not failed itself."""
AGAIN_AT_TAG = ".dagster/recon_again_at"
"""Tag of a run that waits for its next attempt, and so holds no lease: when that begins."""
TRIED_TAG = ".dagster/recon_tried"
"""Tag of a run: its id, and stage and kind of error → number of attempts that failed with it. Dagster counts the attempts of a stage,
whatever they failed with."""

Context = dg.AssetExecutionContext | dg.AssetCheckExecutionContext | dg.OpExecutionContext


@contextmanager
def errors_as_failures(context: Context, retries: By) -> Iterator[None]:
    """Errors as failures in one line; what may pass by itself is tried again, each kind by its own number and back-off. An error that
    nobody knows stays what it is."""
    try:
        yield
    except Exception as error:
        if (kind := transient_kind(error)) is not None:
            raise _again_or_failed(context, error, kind, retries) from error
        if isinstance(error, ReconError):
            raise _failed(context, error, str(error)) from error
        raise


def _again_or_failed(context: Context, error: Exception, kind: type[TryAgain], retries: By) -> dg.RetryRequested | dg.Failure:
    run = context.instance.get_run_by_id(context.run.run_id) or context.run
    # A run that executes another one again has the tags of that one.
    attended = ATTENDED_TAG in run.tags and run.parent_run_id is None
    rule = ATTENDED if attended else next(retries[one] for one in kind.__mro__ if one in retries)
    tried: dict[str, Any] = json.loads(run.tags.get(TRIED_TAG, "{}"))
    if tried.get("run") != run.run_id:
        tried = {"run": run.run_id}
    op = context if isinstance(context, dg.OpExecutionContext) else context.op_execution_context
    key = f"{op.get_step_execution_context().step.key} {kind.__name__}"
    met = tried[key] = tried.get(key, 0) + 1
    if met >= rule.attempts:
        return _failed(context, error, f"{error} (after {met} attempt{'' if met == 1 else 's'})")
    wait_s = rule.wait_s * rule.backoff ** (met - 1)
    again_at = datetime.now(UTC) + timedelta(seconds=wait_s)
    context.instance.add_run_tags(run.run_id, {AGAIN_AT_TAG: again_at.isoformat(), TRIED_TAG: json.dumps(tried)})
    return dg.RetryRequested(max_retries=sum(one.attempts for one in retries.values()), seconds_to_wait=wait_s)


def _failed(context: Context, error: Exception, told: str) -> dg.Failure:
    known = next((kind.__name__ for kind in (NotReady, Damaged, WrongInput, WrongUsage) if isinstance(error, kind)), None)
    kind = transient_kind(error)
    context.instance.add_run_tags(context.run.run_id, {FAILURE_TAG: kind.__name__ if kind else known or type(error).__name__})
    notes = "\n".join(getattr(error, "__notes__", ()))  # where its logs are, and their last lines
    return dg.Failure(told, metadata={"notes": notes} if notes else None, allow_retries=False)
