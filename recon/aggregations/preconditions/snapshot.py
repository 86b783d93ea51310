"""The landed files as one transaction sees them, by source and window; details are read again only where the versions changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
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


@dataclass(frozen=True)
class Contents:
    """The landed files of a scope. ``text``: their versions, joined. ``rows``, ``bytes``: of all, clean and as received. ``read``: returns
    the names, in the order of the versions; most scopes never ask for them."""

    text: str
    rows: int
    bytes: int
    read: Callable[[], Sequence[str]]

    @property
    def count(self) -> int:
        return self.text.count(",") + 1 if self.text else 0

    @cached_property
    def versions(self) -> list[str]:
        return split(self.text)

    @cached_property
    def names(self) -> Sequence[str]:
        return self.read()


class _Read(NamedTuple):
    """What was read of a window's files, in the order of its versions ``text``."""

    text: str
    names: Sequence[str]
    rows: Sequence[int]
    bytes: Sequence[int]


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
    names are kept while they are those of the same versions."""

    reconciliation: str
    _raw: dict[tuple[str, str], str] = field(default_factory=dict)
    _joined: dict[tuple[str, str], str] = field(default_factory=dict)
    _sums: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    _versions: dict[str, dict[str, str]] = field(default_factory=dict)
    _files: dict[tuple[str, str], _Read] = field(default_factory=dict)
    _came: dict[str, dict[str, datetime]] = field(default_factory=dict)

    def look(self, connection: sa.Connection) -> None:
        """Reads the versions of every source and window, in one statement."""
        sums = (sa.func.coalesce(sa.func.sum(FILES.c[name]), 0) for name in ("kept", "size"))
        query = (
            sa.select(FILES.c.source, FILES.c.window, sa.func.aggregate_strings(_VERSION, ","), *sums)
            .where(FILES.c.reconciliation == self.reconciliation, FILES.c.state == "landed", FILES.c.window.is_not(None))
            .group_by(FILES.c.source, FILES.c.window)
        )
        found = connection.execute(query).fetchall()
        before, self._versions = self._raw, {}
        self._raw = {(source, window): text for source, window, text, _, _ in found}
        self._sums = {(source, window): (int(rows), int(received)) for source, window, _, rows, received in found}
        joined_before = self._joined
        self._joined = {key: joined_before[key] if before.get(key) == text else _in_order(text) for key, text in self._raw.items()}
        for (source, window), versions in self._joined.items():
            self._versions.setdefault(source, {})[window] = versions
        self._files = {key: kept for key, kept in self._files.items() if self._joined.get(key) == kept.text}
        self._came = {}

    def windows(self, source: str) -> Mapping[str, str]:
        """Window → its versions of a source, as ``joined`` writes them."""
        return self._versions.get(source, {})

    def contents(self, connection: sa.Connection, source: str, windows: Iterable[str], pattern: str | None = None) -> Contents:
        """The files of windows. ``pattern``: only those whose names match."""
        keys = [(source, window) for window in windows if (source, window) in self._joined]
        if pattern is not None:
            named = NamePattern(pattern)
            files = [file for file in self._each(connection, keys) if named.match(file[1]) is not None]
            sums = sum(file[2] for file in files), sum(file[3] for file in files)
            return Contents(",".join(file[0] for file in files), *sums, lambda: [file[1] for file in files])
        text = self._joined[keys[0]] if len(keys) == 1 else joined(one for key in keys for one in split(self._joined[key]))
        rows, received = (sum(self._sums[key][at] for key in keys) for at in (0, 1))
        return Contents(text, rows, received, lambda: self._names(connection, keys))

    def _names(self, connection: sa.Connection, keys: Sequence[tuple[str, str]]) -> Sequence[str]:
        if len(keys) != 1:
            return [file[1] for file in self._each(connection, keys)]
        self.prepare(connection, keys)
        return self._files[keys[0]].names

    def _each(self, connection: sa.Connection, keys: Sequence[tuple[str, str]]) -> list[tuple[str, str, int, int]]:
        """Version, name, rows and bytes of each file of some windows, in order of the versions."""
        self.prepare(connection, keys)
        found = [file for read in map(self._files.__getitem__, keys) for file in zip(split(read.text), *read[1:], strict=True)]
        return sorted(found, key=lambda file: _number(file[0])) if len(keys) > 1 else found

    def prepare(self, connection: sa.Connection, windows: Iterable[tuple[str, str]]) -> None:
        """Reads names and sizes of (source, window) where the versions have changed since they were read: in one statement for each window,
        or for each source, whichever are fewer."""
        wanted = [key for key in dict.fromkeys(windows) if key in self._joined and key not in self._files]
        by = min((0, 1), key=lambda at: len({key[at] for key in wanted}))
        groups: dict[str, list[str]] = {}
        for key in wanted:
            groups.setdefault(key[by], []).append(key[1 - by])
        for one, others in groups.items():
            for at in range(0, len(others), _NAMED_MAX):
                self._read(connection, (_COLUMNS[by], one), (_COLUMNS[1 - by], others[at : at + _NAMED_MAX]))

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
        array = sa.func.json_group_array if connection.dialect.name == "sqlite" else sa.func.json_agg
        arrays = [array(FILES.c[name]) for name in ("name", "kept", "size")]
        query = sa.select(FILES.c.source, FILES.c.window, sa.func.aggregate_strings(_VERSION, ","), *arrays)
        here = [FILES.c.reconciliation == self.reconciliation, FILES.c.state == "landed"]
        here += [FILES.c[one[0]] == one[1], FILES.c[others[0]].in_(others[1])]
        for source, window, text, *columns in connection.execute(query.where(*here).group_by(FILES.c.source, FILES.c.window)).fetchall():
            names, kept, sizes = (json.loads(column) if isinstance(column, str) else column for column in columns)
            read = _Read(text, names, [rows or 0 for rows in kept], sizes)
            self._files[source, window] = read if text == self._joined[source, window] else _sorted(read)


def _sorted(read: _Read) -> _Read:
    """The same in the order of the versions."""
    files = sorted(zip(split(read.text), *read[1:], strict=True), key=lambda file: _number(file[0]))
    texts, *columns = zip(*files, strict=True)
    return _Read(",".join(texts), *columns)
