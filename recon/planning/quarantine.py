"""Quarantine: the reasons why a window's revision could not be processed."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from recon.storage import documents, layout
from recon.storage.port import AlreadyExists, ObjectStore


@dataclass(frozen=True)
class Quarantined:
    """Why a revision of a window could not be processed; ``time``: since when (ISO 8601)."""

    window: str
    revision: int
    reason: str
    time: str


def put(store: ObjectStore, window: datetime, name: str, revision: int, judged_by: str, reason: str) -> None:
    """Stores the reason; the same reason again changes nothing. ``judged_by``: of the configuration."""
    digest = hashlib.sha256(reason.encode()).hexdigest()[:16]
    path = f"{layout.quarantine_of(window, revision, judged_by)}{digest}.json"
    with contextlib.suppress(AlreadyExists):
        found = Quarantined(name, revision, reason, datetime.now(UTC).isoformat(timespec="seconds"))
        documents.put(store, path, found, **documents.INDENTED)


def windows(store: ObjectStore) -> frozenset[str]:
    """Names of the windows with a reason for any revision."""
    return frozenset(layout.window_name(path[len(layout.QUARANTINE) :].partition("/")[0]) for path in store.list(layout.QUARANTINE))


def read(store: ObjectStore, window: datetime, revision: int, judged_by: str) -> Quarantined | None:
    """The newest reason for this revision by these rules, limits and treatment of rejects, None if there is none: after a change of one of
    them the window is processed again."""
    prefix = layout.quarantine_of(window, revision, judged_by)
    paths = (path for path in store.list(layout.quarantine(window)) if path.startswith(prefix))
    found = (documents.read(store, path, Quarantined, "delete it, and the next run finds the reason anew") for path in paths)
    return max(found, key=lambda reason: reason.time, default=None)
