"""How far the revisions of a window have come, so that no number is given twice even where the newest manifest was lost.

A manifest may be gone after a partial restore. Its number must not be used again: the timeline would take the new files for processed.
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
"""Files, whether the window was closed, and how many files it was expected to hold then."""


class _Certificate(BaseModel):
    """What is read here of a certificate."""

    revision: int
    files: list[dict[str, Any]]
    state: str
    expected_files: int | None = None


_timelines: WeakKeyDictionary[ObjectStore, Timeline] = WeakKeyDictionary()
"""One for each store, so that only the first look reads more than the entries that came since."""


def committed(store: ObjectStore, window: datetime) -> int:
    """The committed revision of a window, 0 if there is none."""
    return _timelines.setdefault(store, Timeline(store)).head().revision(name_of(window))


def known(store: ObjectStore, window: datetime) -> int:
    """The newest revision of which anything but its manifest bears witness: all of it is written after the manifest."""
    return max(
        committed(store, window),
        _certified(store, window),
        _numbers(store, layout.stateless_of(window)),
        _numbers(store, layout.quarantine(window)),
    )


def waits(store: ObjectStore, window: datetime, revision: int) -> bool:
    """Whether a revision is still to be processed: it is neither committed nor set aside as one that could not be."""
    return revision > max(committed(store, window), _numbers(store, layout.quarantine(window)))


def files_of(store: ObjectStore, window: datetime, revision: int) -> Listed | None:
    """What a manifest that is gone listed: name, digest, bytes and path of each file, whether the window was closed, and how many files
    were expected then. None where
    neither a finished reduction nor a certificate tells, or the bytes of a file are gone."""
    told = _reduced(store, window, revision) or _in_certificate(store, window, revision)
    if told is None:
        return None
    found, files = _landed(store, window), []
    for file in told[0]:
        path = found.get(str(file["digest"])[:16])
        if path is None:
            return None
        files.append({"name": file["name"], "digest": file["digest"], "bytes": file["bytes"], "path": path})
    return files, told[1], told[2]


def _certified(store: ObjectStore, window: datetime) -> int:
    path = numbered.newest(store, layout.certificates(window))
    try:
        return documents.read(store, path, _Certificate, documents.RESTORE).revision if path else 0
    except (NotFound, Damaged):
        return 0  # 'recon verify' names a damaged one


def _numbers(store: ObjectStore, prefix: str) -> int:
    """The highest revision that names below ``prefix`` begin with."""
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
    """The first 16 characters of a digest → where the bytes lie."""
    below = layout.landed_files(window)
    return {path[len(below) :][:16]: path for path in store.list(below)}
