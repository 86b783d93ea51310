"""Relations whose columns are computed, and whose rows are looked up, where a statement reads them.

A statement gets only what it names: a sort moves no column that can be computed behind it, a count computes none, and a look-up that
nothing is taken of is not made. The engine's planning grows with what is named, not with the table's width."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from recon.transformations.operations.table import ROW

_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\w+")
"""A text, a quoted name, or a word."""
_ALL = re.compile(r"SELECT \*|\w\.\*")


@lru_cache(maxsize=1 << 16)
def words(sql: str) -> frozenset[str]:
    """What may be the name of a relation or of its column."""
    return frozenset(token for token in _TOKEN.findall(sql) if token[0] not in "'\"")


def named(sql: str) -> frozenset[str] | None:
    """The columns that a statement may read; None: all."""
    return None if _ALL.search(sql) else words(sql)


@dataclass(frozen=True)
class Late:
    """The rows of the relation ``core`` and its columns ``real``, and ``columns`` that are computed of a row alone: name → SQL, which names
    columns of the core and earlier ones."""

    core: str
    real: tuple[str, ...]
    columns: Mapping[str, str]

    def more(self, columns: Mapping[str, str]) -> Late:
        """With further columns. One that is another is named as that one by those behind it."""
        same = {name: sql for name, sql in self.columns.items() if sql.isidentifier()}
        found = dict(self.columns)
        for name, sql in columns.items():
            found[name] = _TOKEN.sub(lambda token: same.get(token[0], token[0]), sql) if same else sql
            if found[name] in found or found[name] in self._real:
                same[name] = found[name]
        return Late(self.core, self.real, found)

    @cached_property
    def _real(self) -> frozenset[str]:
        return frozenset(self.real)

    @cached_property
    def _levels(self) -> dict[str, int]:
        """The least number of layers in which each column can be computed."""
        found: dict[str, int] = {}
        for name, sql in self.columns.items():
            found[name] = 1 + max((found.get(word, 0) for word in words(sql)), default=0)
        return found

    @property
    def depth(self) -> int:
        return max(self._levels.values(), default=0)

    @property
    def sources(self) -> frozenset[str]:
        return frozenset([self.core])

    def __str__(self) -> str:
        return self.sql(None)

    def sql(self, needed: frozenset[str] | None, ordered: bool = False) -> str:
        """SELECT of the columns that are needed; ``ordered``: by the rows' numbers, before anything is computed.

        A column is computed as late as it can be, and given up once nothing needs it."""
        wanted = [name for name in (*self.real, *self.columns) if needed is None or name in needed]
        numbered = needed is None or ROW in needed or not wanted
        top = 1 + max((self._levels.get(name, 0) for name in wanted), default=0)
        uses = {name: [top] for name in wanted}
        placed: dict[str, int] = {}
        for name in reversed(list(self.columns)):
            if name in uses:
                placed[name] = min(uses[name]) - 1
                for word in words(self.columns[name]):
                    if word in self.columns or word in self._real:
                        uses.setdefault(word, []).append(placed[name])
        last = {name: max(levels) for name, levels in uses.items()}
        real = [name for name in self.real if name in last]
        source = self.core
        if ordered:
            source = f"(SELECT {', '.join([ROW, *real])} FROM {self.core} ORDER BY {ROW})"
        for level in range(1, top):
            kept = [name for name in real if last[name] > level]
            kept += [name for name, place in placed.items() if place < level < last[name]]
            made = [f"{self.columns[name]} AS {name}" for name, place in placed.items() if place == level]
            source = f"(SELECT {', '.join([*([ROW] if numbered else []), *kept, *made])} FROM {source})"
        if top > 1:
            return source[1:-1]
        return f"SELECT {', '.join([*([ROW] if numbered else []), *real])} FROM {source}"


@dataclass(frozen=True)
class Rows:
    """Rows of the relation ``base``, called t, with its columns ``real`` and ``added`` ones, name → SQL. ``join``: by which each row has
    exactly one beside it. ``where``: which rows there are. ``number``: SQL of their new numbers."""

    base: str
    real: tuple[str, ...]
    added: Mapping[str, str]
    join: str = ""
    where: str = ""
    number: str = f"t.{ROW}"

    @property
    def sources(self) -> frozenset[str]:
        return words(self.join) | {self.base}

    def __str__(self) -> str:
        return self.sql(None)

    def sql(self, needed: frozenset[str] | None, ordered: bool = False) -> str:
        """As that of ``Late``."""
        added = [f"{sql} AS {name}" for name, sql in self.added.items() if needed is None or name in needed]
        parts = [*(f"t.{name}" for name in self.real if needed is None or name in needed), *added]
        numbered = needed is None or ROW in needed or ordered or not parts
        if numbered:
            parts.insert(0, f"{self.number} AS {ROW}")
        joined = self.join if added or (numbered and self.number != f"t.{ROW}") else ""
        where = f" WHERE {self.where}" if self.where else ""
        return f"SELECT {', '.join(parts)} FROM {self.base} t{joined}{where}{f' ORDER BY {ROW}' if ordered else ''}"
