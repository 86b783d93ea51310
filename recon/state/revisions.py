"""The newest revision of a window, from all objects that name it, so that no number is used twice even where the newest manifest is lost.

A manifest may be missing after a partial restore. If its number were used again, the timeline would take the new files for processed.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import BaseModel

from recon.errors import Damaged
from recon.model.windows import name_of
from recon.state import reduced
from recon.state.timeline import Timeline
from recon.storage import documents, layout, numbered
from recon.storage.port import NotFound, ObjectStore

_NUMBERED = re.compile(r"(\d{6,})-")

Listed = tuple[list[dict[str, Any]], bool, int | None]
"""Files, whether the window was closed, and the number of files expected then."""


class _Certificate(BaseModel):
    """What is read here of a certificate."""

    revision: int
    files: list[dict[str, Any]]
    state: str
    expected_files: int | None = None


_timelines: WeakKeyDictionary[ObjectStore, Timeline] = WeakKeyDictionary()
"""One for each store, so that only the first call reads more than the newest entries."""


def committed(store: ObjectStore, window: datetime) -> int:
    """The committed revision of a window, 0 if there is none."""
    return _timelines.setdefault(store, Timeline(store)).head().revision(name_of(window))


def known(store: ObjectStore, window: datetime) -> int:
    """The newest revision that any object other than its manifest names. All of them are written after the manifest."""
    return max(
        committed(store, window),
        _certified(store, window),
        _numbers(store, layout.stateless_of(window)),
        _numbers(store, layout.quarantine(window)),
    )


def waits(store: ObjectStore, window: datetime, revision: int) -> bool:
    """Whether a revision is neither committed nor in quarantine."""
    return revision > max(committed(store, window), _numbers(store, layout.quarantine(window)))


def files_of(store: ObjectStore, window: datetime, revision: int) -> Listed | None:
    """The content of a lost manifest: name, digest, bytes and path of each file, whether the window was closed, and the number of files
    expected then. None where neither a finished reduction nor a certificate has it, or the bytes of a file are gone."""
    listed = _reduced(store, window, revision) or _in_certificate(store, window, revision)
    if listed is None:
        return None
    found, files = _landed(store, window), []
    for file in listed[0]:
        path = found.get(str(file["digest"])[:16])
        if path is None:
            return None
        files.append({"name": file["name"], "digest": file["digest"], "bytes": file["bytes"], "path": path})
    return files, listed[1], listed[2]


def _certified(store: ObjectStore, window: datetime) -> int:
    path = numbered.newest(store, layout.certificates(window))
    try:
        return documents.read(store, path, _Certificate, documents.RESTORE).revision if path else 0
    except (NotFound, Damaged):
        return 0  # 'recon verify' names a damaged one


def _numbers(store: ObjectStore, prefix: str) -> int:
    """The highest revision at the beginning of the names below ``prefix``."""
    matches = (_NUMBERED.match(path[len(prefix) :]) for path in store.list(prefix))
    return max((int(match[1]) for match in matches if match), default=0)


def _reduced(store: ObjectStore, window: datetime, revision: int) -> Listed | None:
    attempt = f"{layout.stateless_of(window)}{revision:06d}-"
    for path in store.list(layout.stateless_of(window)):
        if path.startswith(attempt) and path.endswith(f"/{reduced.FIGURES}") and store.get(path) != reduced.SWEPT:
            try:
                figures = reduced.read(store, path.removesuffix(reduced.FIGURES))
            except Damaged:
                continue
            return figures.files, figures.closed, figures.expected
    return None


def _in_certificate(store: ObjectStore, window: datetime, revision: int) -> Listed | None:
    for path in reversed(list(store.list(layout.certificates(window)))):
        with suppress(NotFound, Damaged):
            certificate = documents.read(store, path, _Certificate, documents.RESTORE)
            if certificate.revision == revision:
                return certificate.files, certificate.state == "CLOSED", certificate.expected_files
    return None


def _landed(store: ObjectStore, window: datetime) -> dict[str, str]:
    """The first 16 characters of a digest → the path of the bytes."""
    below = layout.landed_files(window)
    return {path[len(below) :][:16]: path for path in store.list(below)}
