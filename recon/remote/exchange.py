"""Requests to a cluster and their results, as objects of the store.

    steps/<attempt>/asked.json the configuration with its logic, the stage, the range
    steps/<attempt>/answer.json figures per window that only the cluster knows, its report, its error

The stage's output is not in the result: it is in the store once the stage is done, whether or not a caller still waits.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from recon import errors
from recon.errors import Damaged, ReconError, WrongUsage
from recon.stages.request import StageRequest, StageResult
from recon.state import kept_rules
from recon.storage import documents, layout
from recon.storage.port import AlreadyExists, NotFound, ObjectStore
from recon.telemetry import logs

if TYPE_CHECKING:
    from recon.config import Config

_AGAIN = "run the same again"


class _ResultBody(BaseModel):
    numbers: dict[str, dict[str, Any]]
    report: dict[str, Any]
    error: list[str] | None


class _Time(BaseModel):
    time: str


KEPT = timedelta(days=7)
"""How long a request and its result stay if no caller reads the result."""


def put_request(store: ObjectStore, config: Config, request: StageRequest, attempt: str = "") -> str:
    """Puts a request into the store. ``attempt``: its id, by default a new one. Returns it."""
    attempt = attempt or layout.new_attempt()
    body = {
        **kept_rules.kept_with_settings(config),
        "rules": config.rules_version,
        "time": datetime.now(UTC).isoformat(),
        **asdict(request),
        "log": logs.carried(),
    }
    documents.put(store, layout.asked(attempt), body, ensure_ascii=False)
    return attempt


def read_request(store: ObjectStore, at: str, attempt: str) -> tuple[Config, StageRequest]:
    """The request and its configuration, for a store at the location ``at``.

    Raises WrongUsage if there is no request, and if the rules have another version here."""
    path = layout.asked(attempt)
    try:
        raw = store.get(path)
    except NotFound:
        raise WrongUsage(f"{path}: there is no such request; its caller has removed it") from None
    body = documents.parsed(path, raw, dict[str, Any], _AGAIN)
    with documents.damaged(path, _AGAIN):
        manifest, log = body.get("manifest", ""), dict(body.get("log", {}))
        request = StageRequest(body["stage"], body["first"], body["last"], dict(body["todo"]), manifest, log)
        config = kept_rules.unpacked(path, body, at)
    if config.rules_version != body["rules"]:
        raise WrongUsage(
            f"the rules of version {body['rules']} give {config.rules_version} here: another version of Recon or of the logic's package is "
            "installed on the cluster; write its package anew ('python -m recon.cli.spark package') and install the same"
        )
    return config, request


def put_result(store: ObjectStore, attempt: str, result: StageResult) -> None:
    """Puts the result. If several workers did the same request, the first result is read."""
    body = {"numbers": result.numbers, "report": result.report, "error": _error_to_json(result.error)}
    with suppress(AlreadyExists):
        documents.put(store, layout.answer(attempt), body)


def read_result(store: ObjectStore, attempt: str) -> StageResult | None:
    """None if there is no result yet. Raises Damaged."""
    try:
        body = documents.read(store, layout.answer(attempt), _ResultBody, _AGAIN)
    except NotFound:
        return None
    return StageResult(body.numbers, body.report, _error_of(body.error))


def remove(store: ObjectStore, attempt: str) -> None:
    """Removes a request and its result."""
    for path in (layout.answer(attempt), layout.asked(attempt)):
        store.delete(path)


def sweep_requests(store: ObjectStore, now: datetime) -> int:
    """Removes requests that are older than ``KEPT``, with their results. Returns the number of objects."""
    swept = 0
    attempts: dict[str, list[str]] = {}
    for path in store.list(layout.STEPS):
        attempts.setdefault(path.split("/")[1], []).append(path)
    for attempt, paths in attempts.items():
        try:
            time = datetime.fromisoformat(documents.read(store, layout.asked(attempt), _Time, _AGAIN).time)
        except (NotFound, Damaged, ValueError):
            time = datetime.min.replace(tzinfo=UTC)  # a result that arrived after its request was removed
        if time < now - KEPT:
            for path in paths:
                store.delete(path)
            swept += len(paths)
    return swept


def _error_to_json(error: ReconError | None) -> list[str] | None:
    return None if error is None else [type(error).__name__, str(error)]


def _error_of(body: list[str] | None) -> ReconError | None:
    """An instance of the named class of recon.errors; a ReconError for an unexpected error."""
    if body is None:
        return None
    kind = getattr(errors, body[0], None)
    return (kind if isinstance(kind, type) and issubclass(kind, ReconError) else ReconError)(body[1])
