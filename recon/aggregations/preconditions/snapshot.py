"""The landed files as one transaction sees them, by source and window; details are read again only where the versions changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from recon.database.tables import FILES
from recon.intake.sources.names import NamePattern

ALL = "all"
"""The scope of a definition with ``per: all``."""
DELIVERED = sa.func.coalesce(FILES.c.delivered_at, FILES.c.received_at)
"""When a file was last delivered, changed or not, as SQL."""
_NAMED_MAX = 500
"""Windows or sources that a statement names."""
_COLUMNS = ("source", "window")


class Version(NamedTuple):
    """One landed file. ``number``: of its row in ``files``; ``text``: see ``version``. ``bytes``: as received."""

    number: int
    text: str
    name: str
    window: str
    rows: int
    bytes: int


def version(number: int, landings: int) -> str:
    """A file's version: the number of its row in ``files``, ``17``; with how often it landed, unless that was once, ``17.2``."""
    return str(number) if landings == 1 else f"{number}.{landings}"


_ID, _LANDINGS = (sa.cast(FILES.c[name], sa.Text) for name in ("id", "landings"))
_VERSION = sa.case((FILES.c.landings == 1, _ID), else_=_ID + "." + _LANDINGS)
"""``version`` as SQL."""


def joined(versions: Iterable[str]) -> str:
    """The versions as they are stored: ascending, with commas between."""
    return ",".join(sorted(versions, key=_number))


def split(text: str) -> list[str]:
    """The versions that ``joined`` has joined."""
    return text.split(",") if text else []


def _number(text: str) -> int:
    return int(text.partition(".")[0])


def _in_order(text: str) -> str:
    """Joined versions in whatever order a database gives them, mostly the right one, as ``joined`` writes them."""
    if "." in text:
        return joined(text.split(","))
    numbers = [*map(int, text.split(","))]
    ascending = sorted(numbers)
    return text if numbers == ascending else ",".join(map(str, ascending))


@dataclass
class Files:
    """The landed files of one reconciliation. It may be kept from one transaction to the next: ``look`` reads all versions anew, and
    details are kept while they are the same versions."""

    reconciliation: str
    _raw: dict[tuple[str, str], str] = field(default_factory=dict)
    _joined: dict[tuple[str, str], str] = field(default_factory=dict)
    _versions: dict[str, dict[str, str]] = field(default_factory=dict)
    _details: dict[tuple[str, str], tuple[str, tuple[Version, ...]]] = field(default_factory=dict)
    _came: dict[str, dict[str, datetime]] = field(default_factory=dict)

    def look(self, connection: sa.Connection) -> None:
        """Reads the versions of every source and window, in one statement."""
        query = (
            sa.select(FILES.c.source, FILES.c.window, sa.func.aggregate_strings(_VERSION, ","))
            .where(FILES.c.reconciliation == self.reconciliation, FILES.c.state == "landed", FILES.c.window.is_not(None))
            .group_by(FILES.c.source, FILES.c.window)
        )
        before, self._versions = self._raw, {}
        self._raw = {(source, window): text for source, window, text in connection.execute(query).fetchall()}
        joined_before = self._joined
        self._joined = {key: joined_before[key] if before.get(key) == text else _in_order(text) for key, text in self._raw.items()}
        for (source, window), versions in self._joined.items():
            self._versions.setdefault(source, {})[window] = versions
        self._details = {key: kept for key, kept in self._details.items() if self._joined.get(key) == kept[0]}
        self._came = {}

    def windows(self, source: str) -> Mapping[str, str]:
        """Window → its versions of a source, as ``joined`` writes them."""
        return self._versions.get(source, {})

    def details(self, connection: sa.Connection, source: str, windows: Iterable[str], pattern: str | None = None) -> Sequence[Version]:
        """The files of windows, in order of their numbers. ``pattern``: only files whose names match."""
        wanted = [window for window in windows if window in self.windows(source)]
        self.prepare(connection, [(source, window) for window in wanted])
        if len(wanted) == 1 and pattern is None:
            return self._details[source, wanted[0]][1]
        found = [version for window in wanted for version in self._details[source, window][1]]
        if pattern is not None:
            named = NamePattern(pattern)
            found = [version for version in found if named.match(version.name) is not None]
        return sorted(found)

    def prepare(self, connection: sa.Connection, windows: Iterable[tuple[str, str]]) -> None:
        """Reads the details of (source, window) where the versions have changed since they were read: in one statement for each window, or
        for each source, whichever are fewer."""
        wanted = [key for key in dict.fromkeys(windows) if key in self._joined and key not in self._details]
        by = min((0, 1), key=lambda at: len({key[at] for key in wanted}))
        groups: dict[str, list[str]] = {}
        for key in wanted:
            groups.setdefault(key[by], []).append(key[1 - by])
        for one, others in groups.items():
            for at in range(0, len(others), _NAMED_MAX):
                self._read(connection, (_COLUMNS[by], one), (_COLUMNS[1 - by], others[at : at + _NAMED_MAX]))
        for key in wanted:
            self._details.setdefault(key, (self._joined[key], ()))

    def came(self, connection: sa.Connection, source: str, pattern: str | None = None) -> dict[str, datetime]:
        """Name of a landed file → when it was last delivered, changed or not. ``pattern``: only files whose names match."""
        if source not in self._came:
            here = (FILES.c.reconciliation == self.reconciliation, FILES.c.state == "landed", FILES.c.source == source)
            query = sa.select(FILES.c.name, sa.func.max(DELIVERED)).where(*here).group_by(FILES.c.name)
            self._came[source] = {row[0]: row[1] for row in connection.execute(query)}
        if pattern is None:
            return self._came[source]
        named = NamePattern(pattern)
        return {name: at for name, at in self._came[source].items() if named.match(name) is not None}

    def _read(self, connection: sa.Connection, one: tuple[str, str], others: tuple[str, Sequence[str]]) -> None:
        """Reads the files whose column ``one`` is a value, and whose column ``others`` is one of several."""
        columns = [FILES.c[name] for name in ("id", "landings", "name", "source", "window", "kept", "size")]
        here = [FILES.c.reconciliation == self.reconciliation, FILES.c.state == "landed"]
        here += [FILES.c[one[0]] == one[1], FILES.c[others[0]].in_(others[1])]
        found: dict[tuple[str, str], list[Version]] = {}
        for number, landings, name, source, window, kept, size in connection.execute(sa.select(*columns).where(*here)).fetchall():
            found.setdefault((source, window), []).append(Version(number, version(number, landings), name, window, kept or 0, size))
        for key, versions in found.items():
            self._details[key] = (self._joined[key], tuple(sorted(versions)))
