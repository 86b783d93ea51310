"""Stages that are carried out elsewhere: what is asked of a cluster and what it answers, as objects of the store.

    steps/<attempt>/asked.json the configuration with its logic, the stage, the range
    steps/<attempt>/answer.json figures per window that only whoever did it knows, its report, its error

Results do not travel here: a stage's work is in the store once it is done, whoever did it and whether or not anybody waits for it.
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

if TYPE_CHECKING:
    from recon.config import Config

_AGAIN = "run the same again"


class _AnswerBody(BaseModel):
    numbers: dict[str, dict[str, Any]]
    report: dict[str, Any]
    error: list[str] | None


class _Time(BaseModel):
    time: str


KEPT = timedelta(days=7)
"""How long what was asked and answered stays where nobody came back for it."""


def ask(store: ObjectStore, config: Config, asked: StageRequest) -> str:
    """Puts what is asked into the store. Returns its attempt."""
    attempt = layout.new_attempt()
    body = {**kept_rules.kept_with_settings(config), "rules": config.rules_version, "time": datetime.now(UTC).isoformat(), **asdict(asked)}
    documents.put(store, layout.asked(attempt), body, ensure_ascii=False)
    return attempt


def read_asked(store: ObjectStore, at: str, attempt: str) -> tuple[Config, StageRequest]:
    """What was asked, and by which configuration, for a store that is at the location ``at``.

    Raises WrongUsage where nothing was asked, and where the rules mean something else here."""
    path = layout.asked(attempt)
    try:
        raw = store.get(path)
    except NotFound:
        raise WrongUsage(f"{path}: nothing was asked there; whoever asked has taken it back") from None
    body = documents.parsed(path, raw, dict[str, Any], _AGAIN)
    with documents.damaged(path, _AGAIN):
        asked = StageRequest(body["stage"], body["first"], body["last"], dict(body["todo"]))
        config = kept_rules.unpacked(path, body, at)
    if config.rules_version != body["rules"]:
        raise WrongUsage(
            f"the rules of version {body['rules']} give {config.rules_version} here: another version of Recon or of the logic's package is "
            "installed on the cluster; write its package anew ('python -m recon.cli.spark package') and install the same"
        )
    return config, asked


def answer(store: ObjectStore, attempt: str, told: StageResult) -> None:
    """Puts the answer; of several that did the same work the first one is read."""
    body = {"numbers": told.numbers, "report": told.report, "error": _named(told.error)}
    with suppress(AlreadyExists):
        documents.put(store, layout.answer(attempt), body)


def read_answer(store: ObjectStore, attempt: str) -> StageResult | None:
    """None where it has not answered. Raises Damaged."""
    try:
        body = documents.read(store, layout.answer(attempt), _AnswerBody, _AGAIN)
    except NotFound:
        return None
    return StageResult(body.numbers, body.report, _raised(body.error))


def forget(store: ObjectStore, attempt: str) -> None:
    """Removes what was asked and answered, once it was read."""
    for path in (layout.answer(attempt), layout.asked(attempt)):
        store.delete(path)


def sweep(store: ObjectStore, now: datetime) -> int:
    """Removes what was asked ``KEPT`` ago or before, for which nobody came back. Returns how many objects."""
    swept = 0
    attempts: dict[str, list[str]] = {}
    for path in store.list(layout.STEPS):
        attempts.setdefault(path.split("/")[1], []).append(path)
    for attempt, paths in attempts.items():
        try:
            asked = datetime.fromisoformat(documents.read(store, layout.asked(attempt), _Time, _AGAIN).time)
        except (NotFound, Damaged, ValueError):
            asked = datetime.min.replace(tzinfo=UTC)  # an answer that came after it was forgotten
        if asked < now - KEPT:
            for path in paths:
                store.delete(path)
            swept += len(paths)
    return swept


def _named(error: ReconError | None) -> list[str] | None:
    return None if error is None else [type(error).__name__, str(error)]


def _raised(told: list[str] | None) -> ReconError | None:
    """The error by its class in recon.errors; what has none there (an error that nobody foresaw) is a ReconError."""
    if told is None:
        return None
    kind = getattr(errors, told[0], None)
    return (kind if isinstance(kind, type) and issubclass(kind, ReconError) else ReconError)(told[1])
