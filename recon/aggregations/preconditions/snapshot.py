"""The landed files as one transaction sees them, by source and window; details are read again only where the versions changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from recon.database.tables import FILES
from recon.intake.sources.names import NamePattern

ALL = "all"
"""The scope of a definition with ``per: all``."""
_WINDOWS_MAX = 500
"""Windows that a statement names; for more it reads all of the source."""


@dataclass(frozen=True)
class Version:
    """One landed file. ``number``: of its row in ``files``; ``text``: the number and how often it landed, ``17.1``. ``bytes``: as
    received."""

    number: int
    text: str
    name: str
    window: str
    rows: int
    bytes: int
    received_at: datetime


def joined(versions: Iterable[str]) -> str:
    """The versions as they are stored: ascending, with commas between."""
    return ",".join(sorted(versions, key=_parts))


def _parts(version: str) -> tuple[int, int]:
    number, _, landing = version.partition(".")
    return int(number), int(landing)


@dataclass
class Files:
    """The landed files of one reconciliation. It may be kept from one transaction to the next: ``look`` reads all versions anew, and
    details are kept while they are the same versions."""

    reconciliation: str
    _raw: dict[tuple[str, str], str] = field(default_factory=dict)
    _joined: dict[tuple[str, str], str] = field(default_factory=dict)
    _versions: dict[str, dict[str, str]] = field(default_factory=dict)
    _details: dict[tuple[str, str], tuple[str, tuple[Version, ...]]] = field(default_factory=dict)

    def look(self, connection: sa.Connection) -> None:
        """Reads the versions of every source and window, in one statement."""
        concat = sa.func.aggregate_strings(sa.cast(FILES.c.id, sa.Text) + "." + sa.cast(FILES.c.landings, sa.Text), ",")
        query = (
            sa.select(FILES.c.source, FILES.c.window, concat)
            .where(FILES.c.reconciliation == self.reconciliation, FILES.c.state == "landed", FILES.c.window.is_not(None))
            .group_by(FILES.c.source, FILES.c.window)
        )
        before, self._versions = self._raw, {}
        self._raw = {(source, window): text for source, window, text in connection.execute(query)}
        joined_before = self._joined
        self._joined = {key: joined_before[key] if before.get(key) == text else joined(text.split(",")) for key, text in self._raw.items()}
        for (source, window), versions in self._joined.items():
            self._versions.setdefault(source, {})[window] = versions
        self._details = {key: kept for key, kept in self._details.items() if self._versions.get(key[0], {}).get(key[1]) == kept[0]}

    def windows(self, source: str) -> Mapping[str, str]:
        """Window → its versions of a source, as ``joined`` writes them."""
        return self._versions.get(source, {})

    def details(self, connection: sa.Connection, source: str, windows: Iterable[str], pattern: str | None = None) -> list[Version]:
        """The files of windows, in order of their numbers. ``pattern``: only files whose names match."""
        wanted = [window for window in windows if window in self.windows(source)]
        self._read(connection, source, [window for window in wanted if (source, window) not in self._details])
        found = [version for window in wanted for version in self._details[source, window][1]]
        if pattern is not None:
            named = NamePattern(pattern)
            found = [version for version in found if named.match(version.name) is not None]
        return sorted(found, key=lambda version: version.number)

    def _read(self, connection: sa.Connection, source: str, windows: list[str]) -> None:
        """Reads the details of windows, in one statement."""
        if not windows:
            return
        columns = [FILES.c[name] for name in ("id", "landings", "name", "window", "kept", "size", "received_at")]
        conditions = [FILES.c.reconciliation == self.reconciliation, FILES.c.state == "landed", FILES.c.source == source]
        if len(windows) <= _WINDOWS_MAX:
            conditions.append(FILES.c.window.in_(windows))
        found: dict[str, list[Version]] = {window: [] for window in windows}
        for number, landings, name, window, kept, size, at in connection.execute(sa.select(*columns).where(*conditions)):
            if window in found:
                found[window].append(Version(number, f"{number}.{landings}", name, window, kept or 0, size, at))
        for window, versions in found.items():
            self._details[source, window] = (self._versions[source][window], tuple(versions))
