"""Loads one share: the same code for a local process and the Lambda function.

    python -m recon.serving.workers.worker       # serves the event on stdin, one line of JSON

The event names store, table, plan, share and attempt.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from recon.errors import ReconError, WrongUsage
from recon.metering.usage import Tally, Usage, counted, tally_of, to_counts
from recon.serving.workers.attempts import Attempt, AttemptId, Revoked
from recon.serving.workers.plans import ShareBody, read_plan, rows_of
from recon.storage import layout
from recon.storage.open import open_store
from recon.storage.port import NotFound, ObjectStore
from recon.telemetry import logs

STORE, TABLE = "RECON_STORE", "RECON_TABLE"
"""Environment variables: the store that a worker serves, or ``s3://bucket/prefix/*`` for all below a prefix; and the table, with its
successors, whose names begin with its name."""
KMS_KEY = "RECON_KMS_KEY"
"""Environment variable: s3.kms_key of the configuration."""
S3_RETRY_S = 20.0
EVENT_LENGTH_MAX = 4_096
PIECE_ROWS_FIRST = 500
PIECE_S = 10.0
"""Target duration of a piece, or the margin if that is less: a dead worker has lost one piece at most, and a live one stops in time."""
MARGIN_S_MAX = 10.0

_LOG = logging.getLogger("recon.workers")
_ATTEMPT = re.compile(r"[0-9a-f]{16}\Z")
_NAMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")

Outcome = Literal["done", "too_late", "given_away", "handed_back", "failed"]


class Load(Protocol):
    """Loads rows of a share into the table and returns counts. Calls ``beat`` now and then and does not catch its errors. Loading the same
    rows again changes nothing."""

    def __call__(self, share: ShareBody, beat: Callable[[], None]) -> Mapping[str, float]: ...


class OutOfTime(ReconError):
    """The deadline is near: the worker hands back the rest of its share."""


@dataclass(frozen=True)
class Event:
    """The request to a worker. The share itself is in the plan, so an event can only name planned work.

    ``beat_s``: seconds between two heartbeats. ``limit_s``: seconds after which the worker hands back the rest; the deadline of a Lambda
    counts, too. ``log``: the fields of the coordinator's logs, see recon.telemetry.logs."""

    store: str
    table: str
    plan: int
    share: str
    attempt: str
    beat_s: float = 15.0
    limit_s: float = 600.0
    log: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        # A function of an earlier version knows no logs.
        return json.dumps({name: value for name, value in asdict(self).items() if name != "log" or value})


@dataclass(frozen=True)
class ShareResult:
    """The outcome of an event. ``rows``: rows of the share, from its first on, that are in the table."""

    share: str
    attempt: str
    outcome: Outcome
    rows: int = 0
    reason: str = ""


def event_of(body: object, environment: Mapping[str, str]) -> Event:
    """The event, for the store and table of the environment. Raises WrongUsage, without the event's content, for any other."""
    if not isinstance(body, Mapping):
        raise WrongUsage("event: it is not a JSON object; index workers are started by 'recon run'")
    known = {name: body[name] for name in Event.__dataclass_fields__ if name in body}
    texts = all(isinstance(known.get(name), str) for name in ("store", "table", "share", "attempt"))
    numbers = all(_is_seconds(known.get(name, 1.0)) for name in ("beat_s", "limit_s"))
    plan, log = known.get("plan"), isinstance(known.get("log", {}), Mapping)
    if len(known) != len(body) or not texts or not numbers or not log or not isinstance(plan, int) or isinstance(plan, bool):
        raise WrongUsage("event: expected store, table, plan, share, attempt, beat_s and limit_s; this worker and its coordinator differ")
    event = Event(**known)
    for variable in (STORE, TABLE):
        if not environment.get(variable):
            raise WrongUsage(f"{variable}: it is not set; name in it what this worker serves")
    successor = re.fullmatch(re.escape(environment[TABLE]) + r"(-[0-9a-f]{16})?", event.table)
    if not _serves(environment[STORE].rstrip("/"), event.store.rstrip("/")) or successor is None:
        raise WrongUsage(f"event: it is for another store or table than this worker's {STORE} and {TABLE}; invoke the function of that one")
    if not (_ATTEMPT.match(event.attempt) and _NAMED.match(event.share) and 0 <= event.plan < 10**12):
        raise WrongUsage("event: plan, share or attempt has a form that no coordinator makes")
    return event


def _serves(served: str, store: str) -> bool:
    below = served.removesuffix("*")
    return store == served or (served.endswith("/*") and store.startswith(below) and store != below and ".." not in store)


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 86_400


def serve(
    store: ObjectStore,
    event: Event,
    load: Load,
    remaining_s: Callable[[], float],
    worker: str = "",
    piece_s: float = PIECE_S,
) -> ShareResult:
    """Loads the share of an event, or as much of it as the time allows. ``remaining_s``: until the deadline, Lambda's or the event's.

    Errors of loading are recorded in the store. Raises only errors that prevent this record."""
    folder = layout.plan(event.table, event.plan)
    try:
        share = read_plan(store, folder).shares[event.share]
    except (NotFound, KeyError):
        return ShareResult(event.share, event.attempt, "too_late", reason="its plan is finished and gone, or has no such share")
    attempt = Attempt(store, AttemptId(folder, event.share, event.attempt), event.beat_s, worker=worker)
    try:
        attempt.claim()
        try:
            margin_s = min(MARGIN_S_MAX, remaining_s() / 10)
            _go_through(share, attempt, load, _deadline(attempt, remaining_s, margin_s), min(piece_s, margin_s))
        except OutOfTime as stopped:
            attempt.hand_back(str(stopped))
            return ShareResult(event.share, event.attempt, "handed_back", attempt.rows, str(stopped))
        except Revoked:
            raise
        except Exception as error:
            attempt.fail(error)
            return ShareResult(event.share, event.attempt, "failed", attempt.rows, type(error).__name__)
        return ShareResult(event.share, event.attempt, "done" if attempt.finish() else "too_late", attempt.rows)
    except Revoked as revoked:
        return ShareResult(event.share, event.attempt, "given_away", attempt.rows, str(revoked))


def _deadline(attempt: Attempt, remaining_s: Callable[[], float], margin_s: float) -> Callable[[], None]:
    """A heartbeat that also checks the deadline, with a margin for handing back."""

    def beat() -> None:
        if remaining_s() <= margin_s:  # on a slow machine both may be 0
            raise OutOfTime(f"the time limit was near after {attempt.rows} rows")
        attempt.beat()

    return beat


def _go_through(share: ShareBody, attempt: Attempt, load: Load, beat: Callable[[], None], piece_s: float) -> None:
    """Continues after the rows of earlier attempts, piece by piece, each of about ``piece_s`` seconds."""
    size = PIECE_ROWS_FIRST
    while attempt.rows < rows_of(share):
        beat()
        first = int(share["first"]) + attempt.rows
        end, start = min(first + size, int(share["end"])), time.monotonic()
        for name, count in load({**share, "first": first, "end": end}, beat).items():
            attempt.counts[name] = attempt.counts.get(name, 0) + count
        attempt.rows += end - first
        # At most twice the size: the first piece also opens connections.
        size = max(1, min(2 * size, int(size * piece_s / max(time.monotonic() - start, 1e-3))))


def main(load: Load | None = None) -> int:
    """Serves the event on stdin in a process of its own. Returns the exit status: 0 unless the share failed."""
    try:
        with _complaining():
            event = event_of(json.loads(sys.stdin.read(EVENT_LENGTH_MAX)), os.environ)
        end = time.monotonic() + event.limit_s
        logs.set_up()
        with logs.continued(event.log, share=event.share, attempt=event.attempt), _complaining():
            store = store_of(event.store, os.environ)
            served = serve(store, event, load or loading(store), lambda: end - time.monotonic(), f"process-{os.getpid()}")
            log_share(served)
    except ReconError as error:
        return error.exit_status
    except ValueError:
        logs.complain(_LOG, "stdin holds no event; index workers are started by 'recon run'", "recon worker: ")
        return 2
    print(json.dumps(asdict(served)))
    return 1 if served.outcome == "failed" else 0


@contextmanager
def _complaining() -> Iterator[None]:
    """Reports an error of the block on standard error, and raises it."""
    try:
        yield
    except ReconError as error:
        logs.complain(_LOG, str(error), "recon worker: ")
        raise


def log_share(served: ShareResult) -> None:
    """A line for the log of the worker, where logs are JSON."""
    if logs.on():
        _LOG.info("share %s: %s after %d rows", served.share, served.outcome, served.rows)


def store_of(location: str, environment: Mapping[str, str]) -> ObjectStore:
    """The store of a worker. S3 requests are retried for less time than elsewhere: a silent worker is revoked."""
    from recon.config.settings import S3Settings

    settings = S3Settings(kms_key=environment.get(KMS_KEY) or None).retrying(S3_RETRY_S)
    return open_store(location, Path.cwd(), settings, Tally())


def loading(store: ObjectStore) -> Load:
    """Loads rows into the index table. Its counts include its requests, and on Lambda its memory and time."""
    from recon.serving.dynamodb import open_client
    from recon.serving.load import load_share
    from recon.serving.shares import Share

    tally = tally_of(store) or Tally()
    tables = open_client(meter=tally)

    def load(share: ShareBody, beat: Callable[[], None]) -> Mapping[str, float]:
        start, before = time.monotonic(), tally.so_far()
        loaded = load_share(store, tables, Share.from_json(dict(share)), beat)
        used = tally.so_far() - before + _on_lambda(time.monotonic() - start, os.environ)
        return {**{name: count for name, count in loaded.to_json().items() if name != "share"}, **to_counts(used)}

    return load


def _on_lambda(seconds: float, environment: Mapping[str, str]) -> Usage:
    """Lambda's usage for the time, by the function's memory; nothing elsewhere."""
    memory_mb = int(environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE") or 0)
    return counted("lambda", "gb_millisecond", math.ceil(seconds * 1000 * memory_mb / 1024))


if __name__ == "__main__":
    sys.exit(main())
