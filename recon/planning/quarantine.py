"""Quarantine: windows whose revision could not be processed, each with the reason, for whoever asks later."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from recon.errors import Damaged
from recon.storage import layout
from recon.storage.port import AlreadyExists, ObjectStore


@dataclass(frozen=True)
class Quarantined:
    """Why a revision of a window could not be processed, and since when."""

    window: str
    revision: int
    reason: str
    time: str


def put(store: ObjectStore, window: datetime, name: str, revision: int, rules: str, reason: str) -> None:
    """Keeps the reason; the same one again changes nothing."""
    digest = hashlib.sha256(reason.encode()).hexdigest()[:16]
    body = {"window": name, "revision": revision, "reason": reason, "time": datetime.now(UTC).isoformat(timespec="seconds")}
    with contextlib.suppress(AlreadyExists):
        store.put_new(f"{layout.quarantine_of(window, revision, rules)}{digest}.json", [json.dumps(body, indent=1).encode()])


def windows(store: ObjectStore) -> frozenset[str]:
    """Names of the windows that have a reason at all, of whichever revision."""
    return frozenset(layout.window_name(path[len(layout.QUARANTINE) :].partition("/")[0]) for path in store.list(layout.QUARANTINE))


def read(store: ObjectStore, window: datetime, revision: int, rules: str) -> Quarantined | None:
    """The newest reason that was found for this revision by these rules, None if there is none."""
    prefix = layout.quarantine_of(window, revision, rules)
    found = [_read(store, path) for path in store.list(layout.quarantine(window)) if path.startswith(prefix)]
    return max(found, key=lambda one: one.time, default=None)


def _read(store: ObjectStore, path: str) -> Quarantined:
    try:
        return Quarantined(**json.loads(store.get(path)))
    except (ValueError, TypeError) as error:
        raise Damaged(f"{path}: damaged ({error}); delete it, and the next run finds the reason anew") from None
