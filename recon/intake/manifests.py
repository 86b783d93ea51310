"""Manifests: the complete list of a window's files at one revision, stored once under the revision's number."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from recon.errors import Damaged
from recon.model.windows import Grid, name_of
from recon.storage import documents, layout, numbered, sealing
from recon.storage.port import NotFound, ObjectStore
from recon.storage.sealing import sealed, unsealed

CORRECTION = "correction-"
"""The prefix of the names of correction files."""


@dataclass(frozen=True)
class LandedFile:
    """One file of a window. ``name``: as landed. ``digest``: SHA-256. ``path``: of its bytes in the store. ``expect``: totals that the
    sender declared. ``reason`` and ``by``: of a correction, why it was made and by which user. ``origin``: of a source's clean file, the
    received file: source, file, digest, rows and rejected rows."""

    name: str
    digest: str
    bytes: int
    path: str
    expect: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    by: str = ""
    origin: dict[str, Any] = field(default_factory=dict)

    @property
    def declared_rows(self) -> int | None:
        """The number of rows that the sender declared; None where there is none, or it is no number of rows."""
        rows = self.expect.get("rows")
        return rows if isinstance(rows, int) and not isinstance(rows, bool) and rows >= 0 else None


@dataclass(frozen=True)
class Manifest:
    """One revision of a window. ``cause``: land, replace, unland, correct, close or replay. ``expected``: the number of files expected
    when the window was closed, None where none was configured.

    ``previous``: digest of the previous manifest, "" in the first one; None in stores of format 3. ``digest``: of the bytes of this
    manifest, which are stored with a seal."""

    window: str
    revision: int
    files: tuple[LandedFile, ...]
    closed: bool
    cause: str
    reason: str = ""
    by: str = ""
    time: str = ""
    expected: int | None = None
    previous: str | None = None
    digest: str = ""

    def to_json(self) -> bytes:
        body = {**self.__dict__, "files": [file.__dict__ for file in self.files]}
        body.pop("digest")
        return sealed(body, indent=1)

    @property
    def short(self) -> bool:
        """Whether the window is closed with fewer files than expected."""
        return self.closed and self.expected is not None and len(self.received) < self.expected

    @property
    def received(self) -> tuple[LandedFile, ...]:
        """The files that senders landed: all but the corrections."""
        return tuple(file for file in self.files if not file.reason)


def operator() -> str:
    """The name of the user that the process runs as. It never comes from an argument or from $LOGNAME and $USER, which anyone can set."""
    try:
        import pwd
    except ImportError:  # Windows has only the environment
        return getpass.getuser()
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container may run as a number without a name
        return f"uid {os.geteuid()}"


def read_manifest(store: ObjectStore, window: datetime, revision: int | None = None) -> Manifest | None:
    """The newest manifest of a window, or that of ``revision``; None if no file ever landed there. Raises Damaged, and NotFound for a
    ``revision`` that does not exist."""
    path = numbered.newest(store, layout.manifests(window)) if revision is None else layout.manifest(window, revision)
    return manifest_of(path, store.get(path)) if path else None


def committed_manifest(store: ObjectStore, grid: Grid, window: str, revision: int) -> Manifest:
    """The manifest of a committed revision. Raises Damaged, also where it is gone."""
    try:
        return manifest_of(path := layout.manifest(grid.parse(window), revision), store.get(path))
    except NotFound:
        raise Damaged(f"window {window}: the manifest of revision {revision} is gone; restore it from a copy of the store") from None


def manifest_of(path: str, body: bytes) -> Manifest:
    """A manifest from its bytes. Raises Damaged."""
    with documents.damaged(path, documents.RESTORE):
        return replace(documents.checked(unsealed(body), Manifest), digest=sealing.digest_of(body))


def landed_windows(store: ObjectStore) -> dict[str, int]:
    """Window name → newest revision, for every window that has a manifest, in order of time."""
    newest: dict[str, int] = {}
    for path in store.list(layout.EVENTS):
        folder, _, rest = path[len(layout.EVENTS) :].partition("/")
        if rest.startswith("manifests/"):
            start = datetime.strptime(folder, "%Y-%m-%dT%H%MZ").replace(tzinfo=UTC)
            newest[name_of(start)] = numbered.number_of(path)
    return newest
