"""The index worker as a Lambda function: ``recon.serving.workers.lambda_handler.handler``.

The environment names the store and the table that the function serves, RECON_STORE and RECON_TABLE; other events are refused. Logs contain
share, attempt and outcome; never another part of an event, nor a part of a record.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from typing import Any, Protocol

from recon.errors import ReconError
from recon.serving.workers.worker import Load, event_of, loading, log_share, serve, store_of
from recon.storage.port import ObjectStore
from recon.telemetry import logs

logs.set_up()
_LOG = logging.getLogger("recon.workers")


class Context(Protocol):
    """Of one invocation, as Lambda gives it."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int: ...


def handler(event: object, context: Context) -> dict[str, Any]:
    """Serves one event and returns its outcome.

    Does not raise for a refused event or a failed share, which the store records: Lambda would invoke the function again."""
    try:
        request = event_of(event, os.environ)
        store, load = _opened(request.store, request.table)
        with logs.continued(request.log, share=request.share, attempt=request.attempt):
            served = serve(store, request, load, _remaining_s(context, request.limit_s), f"lambda-{context.aws_request_id}")
            log_share(served)
    except ReconError as error:
        logs.complain(_LOG, f"refused or cut short: {error}", "recon worker: ")
        return {"outcome": "refused", "reason": str(error)}
    if not logs.on():
        print(f"recon worker: share {served.share}, attempt {served.attempt}: {served.outcome} after {served.rows} rows")
    return asdict(served)


@cache
def _opened(location: str, table: str) -> tuple[ObjectStore, Load]:
    """Opened once for all invocations of this instance: connections stay open, and clients renew their credentials."""
    store = store_of(location, os.environ)
    return store, loading(store)


def _remaining_s(context: Context, limit_s: float) -> Callable[[], float]:
    """Seconds until Lambda ends the invocation or the coordinator revokes the attempt, whichever comes first."""
    beyond_s = max(0.0, context.get_remaining_time_in_millis() / 1000 - limit_s)
    return lambda: context.get_remaining_time_in_millis() / 1000 - beyond_s
