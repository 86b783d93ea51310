"""The index worker as a Lambda function: ``recon.serving.workers.lambda_handler.handler``.

The function's environment names the store and the table that it serves, RECON_STORE and RECON_TABLE; an event for any other is refused.
Logs tell share, attempt and outcome. What an event holds besides is never logged, nor is anything of a record.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from typing import Any, Protocol

from recon.errors import ReconError
from recon.serving.workers.worker import Load, event_of, loading, serve, store_of
from recon.storage.port import ObjectStore


class Context(Protocol):
    """Of one invocation, as Lambda gives it."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int: ...


def handler(event: object, context: Context) -> dict[str, Any]:
    """Serves one event, and answers with what became of it.

    Does not raise for an event that it refuses, or for work that failed, which the store tells: Lambda would invoke it again."""
    try:
        asked = event_of(event, os.environ)
        store, load = _opened(asked.store, asked.table)
        served = serve(store, asked, load, _remaining_s(context, asked.limit_s), f"lambda-{context.aws_request_id}")
    except ReconError as error:
        print(f"recon worker: refused or cut short: {error}", file=sys.stderr)
        return {"outcome": "refused", "reason": str(error)}
    print(f"recon worker: share {served.share}, attempt {served.attempt}: {served.outcome} after {served.rows} rows")
    return asdict(served)


@cache
def _opened(location: str, table: str) -> tuple[ObjectStore, Load]:
    """Once for all invocations that this instance serves: connections stay open, and credentials are renewed by their owners."""
    store = store_of(location, os.environ)
    return store, loading(store)


def _remaining_s(context: Context, limit_s: float) -> Callable[[], float]:
    """Until Lambda ends the invocation, or the coordinator gives it up, whichever comes first."""
    beyond_s = max(0.0, context.get_remaining_time_in_millis() / 1000 - limit_s)
    return lambda: context.get_remaining_time_in_millis() / 1000 - beyond_s
