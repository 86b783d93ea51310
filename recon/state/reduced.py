"""Reduced windows in the store: one folder for each attempt at a window's revision, complete once its figures exist."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from recon.errors import Damaged
from recon.model.totals import Totals
from recon.storage import documents, layout, parquet
from recon.storage.parquet_parts import local_part
from recon.storage.port import NotFound, ObjectStore
from recon.storage.scratch import local_copy
from recon.storage.sealing import digest_of

ARTIFACTS = "artifacts.parquet"
EVENTS = "events.parquet"
SET_ASIDE = "set_aside.parquet"
FIGURES = "figures.json"
SWEPT = b'{"swept": true}'
"""Put in place of the figures of an unfinished attempt that was swept, so that it can no longer be finished."""


@dataclass(frozen=True)
class Figures:
    """The counts and totals of one reduced revision. rows in = accepted + duplicates + rejected, and the same for money."""

    window: str
    revision: int
    rules: str
    folder: str
    files: list[dict[str, Any]]
    keys: int
    arrived: Totals
    accepted: Totals
    duplicates: Totals
    rejected: Totals
    conflicting: int
    """Duplicates within the window whose values differ from those of the row that counts."""
    two_keys: int = 0
    """Event ids that the window holds under more than one key."""
    unreadable: dict[str, int] = field(default_factory=dict)
    """Per control total, the number of rejected rows whose amount could not be read and is in no total."""
    without_amount: dict[str, int] = field(default_factory=dict)
    """Per control total, the number of accepted rows whose amount is empty or absent and is in no total."""
    measures: dict[str, str | int] = field(default_factory=dict)
    """Totals of the sum and count measures over the accepted events."""
    unusual: dict[str, Any] = field(default_factory=dict)
    """Accepted events that no measure counts, and those dated outside the window: see recon.engines.duckdb.unusual."""
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each Parquet file of the folder."""
    cause: str = ""
    reason: str = ""
    closed: bool = True
    expected: int | None = None
    """The number of files expected when the window was closed; None while it is open, or where none is configured."""
    received: int | None = None
    """The number of files that senders landed, without corrections. None in figures of earlier versions."""
    short: bool = False
    """Whether the window was closed with fewer files than expected."""
    manifest: str = ""
    """Digest of the manifest that was reduced."""
    stored: str = ""
    """Digest of the figures as they were read; it is not stored."""

    @property
    def content(self) -> str:
        """What the revision holds, in hex: the same for a replay of the same files by the same rules. "" without digests of files."""
        if not self.digests:
            return ""
        return hashlib.sha256(json.dumps([self.rules, sorted(self.digests.items())]).encode()).hexdigest()[:16]

    @property
    def source_rejected(self) -> int:
        """The number of rows that sources rejected before their files landed; they are not among the arrived rows."""
        return sum(int(file.get("origin", {}).get("rejected", 0)) for file in self.files)

    def to_json(self) -> dict[str, Any]:
        body = {name: value.to_json() if isinstance(value, Totals) else value for name, value in self.__dict__.items()}
        body.pop("stored")
        return body

    def body(self) -> bytes:
        """The figures as they are stored."""
        return documents.encoded(self.to_json(), **documents.INDENTED)

    @property
    def digest(self) -> str:
        """The digest of the stored figures."""
        return self.stored or digest_of(self.body())

    @staticmethod
    def from_json(raw: dict[str, Any]) -> Figures:
        totals = {name: Totals.from_json(raw[name]) for name in ("arrived", "accepted", "duplicates", "rejected")}
        return Figures(**{**raw, **totals})


def find(store: ObjectStore, window: datetime, revision: int, rules: str) -> Figures | None:
    """The finished reduction of a window's revision, or of a run of an aggregation, by these rules, None if there is none. All attempts are
    equal."""
    attempt = layout.stateless_by(window, revision, rules)
    for path in store.list(attempt[: attempt.rindex("/") + 1]):
        if path.startswith(attempt) and path.endswith("/" + FIGURES) and store.get(path) != SWEPT:
            return read(store, path[: -len(FIGURES)])
    return None


def read(store: ObjectStore, folder: str) -> Figures:
    """The figures of a finished folder. Raises NotFound, and Damaged."""
    raw = store.get(folder + FIGURES)
    with documents.damaged(folder + FIGURES, "run 'recon replay' for its window"):
        return replace(Figures.from_json(json.loads(raw)), stored=digest_of(raw))


def local_file(store: ObjectStore, folder: str, name: str, scratch: Path) -> Path:
    """A Parquet file of a finished folder as a local file. Raises Damaged where it is gone."""
    with _named_if_gone(folder, name):
        return local_copy(store, folder + name, scratch)


def local_keys(
    store: ObjectStore, folder: str, name: str, scratch: Path, bounds: tuple[int, int] | None, columns: Collection[str] | None = None
) -> Path:
    """As ``local_file``, with the row groups of bounds[0] ≤ hi < bounds[1] only, all without bounds: see recon.storage.parquet_parts."""
    first, end = bounds or (0, 1 << 64)
    with _named_if_gone(folder, name):
        return local_part(store, folder + name, scratch, parquet.Values("hi", first, end - 1), columns)


@contextmanager
def _named_if_gone(folder: str, name: str) -> Iterator[None]:
    try:
        yield
    except NotFound:
        raise gone(folder, name) from None


def gone(folder: str, name: str) -> Damaged:
    """The error where a file of a finished folder is missing."""
    return Damaged(f"{folder}{name}: gone from the store; run 'recon replay' for its window")


@dataclass(frozen=True)
class WindowFiles(Mapping[str, Path]):
    """One Parquet file of each window as a local file. ``folders``: window → folder. A file is copied only when it is asked for, as
    few of many committed windows are ever read. ``bounds``: only row groups of bounds[0] ≤ hi < bounds[1] are copied."""

    store: ObjectStore
    scratch: Path
    folders: Mapping[str, str]
    name: str
    bounds: tuple[int, int] | None = field(default=None, kw_only=True)

    def __getitem__(self, window: str) -> Path:
        return local_keys(self.store, self.folders[window], self.name, self.scratch, self.bounds)

    def __iter__(self) -> Iterator[str]:
        return iter(self.folders)

    def __len__(self) -> int:
        return len(self.folders)
