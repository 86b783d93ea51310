"""The library's errors as Dagster failures: what is worth another try, how often, and after how long.

Belongs here: retries by kind of error. Does not belong here: finding errors.

Dagster's RetryPolicy knows no kinds of error, so each kind is mapped by hand. Corrupt data and a wrong configuration are never tried
again: the next try would find the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from recon.errors import NotReady, ReconError, TryAgain, WrongInput, WrongUsage


@dataclass(frozen=True)
class Retries:
    """``attempts`` in all; the first waits ``wait_s`` seconds, each later one ``backoff`` times as long as the one before."""

    attempts: int
    wait_s: float
    backoff: float


COMPUTE = Retries(attempts=3, wait_s=1, backoff=2)
INDEX = Retries(attempts=10, wait_s=15, backoff=1.5)


FAILURE_TAG = "recon/failure"
"""Tag of a failed run: the class of its error. ``WrongInput`` means that its windows' data are at fault, so trying again is no use."""


AGAIN_AT_TAG = "recon/again_at"
"""Tag of a run that waits for its next attempt, and so holds no lease: when that begins."""


@contextmanager
def told_to_dagster(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext | dg.OpExecutionContext, retries: Retries
) -> Iterator[None]:
    """Errors of the library as failures in one line; what may pass by itself (a lock, the network, a full disk) is tried again."""
    try:
        yield
    except TryAgain as error:
        number = (context if isinstance(context, dg.OpExecutionContext) else context.op_execution_context).retry_number
        if number + 1 < retries.attempts:
            wait_s = retries.wait_s * retries.backoff**number
            again_at = datetime.now(UTC) + timedelta(seconds=wait_s)
            context.instance.add_run_tags(context.run.run_id, {AGAIN_AT_TAG: again_at.isoformat()})
            raise dg.RetryRequested(max_retries=retries.attempts - 1, seconds_to_wait=wait_s) from error
        raise _failed(context, error, f"{error} (after {number + 1} attempts)") from error
    except ReconError as error:
        raise _failed(context, error, str(error)) from error


def _failed(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext | dg.OpExecutionContext, error: ReconError, told: str
) -> dg.Failure:
    kind = next(kind.__name__ for kind in (TryAgain, NotReady, WrongInput, WrongUsage, ReconError) if isinstance(error, kind))
    context.instance.add_run_tags(context.run.run_id, {FAILURE_TAG: kind})
    return dg.Failure(told, allow_retries=False)
