"""Tables whose columns are computed, and whose rows are looked up, where they are read: which relations they are made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from recon.transformations.engines.late import Late, Rows, words
from recon.transformations.engines.port import Engine
from recon.transformations.operations.port import Kept
from recon.transformations.operations.table import ROW, Table

GROUPS_MAX = 100_000
"""Groups of rows up to which they are numbered."""
NARROW = 8
"""Columns of a relation up to which moving all of them costs no more than joining."""


@dataclass(frozen=True)
class _Around:
    """A relation whose ``added`` columns look at other rows of ``base``, and that is not stored yet. ``known``: what they may name."""

    base: str
    real: tuple[str, ...]
    added: Mapping[str, str]
    known: Mapping[str, str]
    groups: frozenset[tuple[str, ...]]


class LateTables:
    """``sources``: of each relation of the request, those that it is computed from."""

    def __init__(self, engine: Engine, sources: dict[str, set[str]]) -> None:
        self._engine, self._sources = engine, sources
        self._late: dict[str, Late] = {}
        self._around: dict[str, _Around] = {}
        self._rows: dict[str, Rows] = {}

    def __contains__(self, relation: str) -> bool:
        return relation in self._late

    def begin(self, table: Table) -> None:
        """Takes a relation that is there as one without late columns."""
        if table.relation not in self._late:
            self._late[table.relation] = Late(table.relation, tuple(sql for column in table.known for sql in column.sql), {})

    def depth(self, relation: str) -> int:
        """The layers in which its columns are computed."""
        return self._late[relation].depth if relation in self._late else 0

    def make(self, relation: str, kept: Kept) -> None:
        """Makes a relation of another that is known here."""
        late = self._late[kept.source]
        if kept.around:
            self._look_around(relation, kept, late)
            return
        more = late.more(kept.layers) if kept.layers else late
        if late.core in self._around and (kept.join or kept.where or kept.added):
            self.settle(kept.source)
        if kept.join or kept.where or kept.added:
            base = kept.source
            if kept.layers:
                base = self._view(f"w_{relation}", more)
            rows = Rows(base, late.real, dict(kept.added), kept.join, kept.where, kept.number)
            before = self._rows.get(late.core)
            if kept.number != f"t.{ROW}" and before is not None and before.where and not before.join:
                rows = replace(rows, base=before.base)  # the rows that stay are those that have a new number
            self._rows[f"k_{relation}"] = rows
            more = Late(self._view(f"k_{relation}", rows), (*late.real, *rows.added), late.columns)
        self._late[relation] = more
        self._view(relation, more)

    def _look_around(self, relation: str, kept: Kept, late: Late) -> None:
        """Makes columns that look at other rows: together with those before them, where they do not need them."""
        earlier, base, real, added, groups = self._around.get(late.core), kept.source, late.real, dict(kept.added), {kept.groups}
        if earlier is not None:
            named = words(" ".join(added.values()))
            if named & earlier.added.keys() or named & (late.columns.keys() - earlier.known.keys()):
                self.settle(kept.source)
            else:
                base, real, added, groups = earlier.base, earlier.real, {**earlier.added, **added}, {*earlier.groups, *groups}
        core = f"k_{relation}"
        known = earlier.known if earlier is not None and base == earlier.base else late.columns
        self._around[core] = _Around(base, real, added, known, frozenset(groups))
        self._view(core, Rows(base, real, added))
        self._late[relation] = Late(core, (*real, *added), late.columns)
        self._view(relation, self._late[relation])

    def settle(self, relation: str) -> None:
        """Stores the columns of a relation that look at other rows, and nothing else unless it is narrow."""
        core = self._late[relation].core
        around = self._around.pop(core, None)
        if around is None:
            return
        narrow, numbered = len(around.real) <= NARROW, list[str]()
        stored = self._with_groups(Rows(around.base, around.real if narrow else (), around.added), around.groups, numbered)
        beside = f"s_{core}"
        self._engine.drop(core)
        self._engine.make(core if narrow else beside, str(stored), stored=True)
        for relation in numbered:
            self._engine.drop(relation)
        self._sources[core if narrow else beside] = set()
        if narrow:
            return
        joined = {name: f"w.{name}" for name in around.added}
        self._view(core, Rows(around.base, around.real, joined, f" JOIN {beside} w ON w.{ROW} = t.{ROW}"))

    def _with_groups(self, rows: Rows, groups: frozenset[tuple[str, ...]], numbered: list[str]) -> Rows:
        """The rows with the numbers of groups in place of texts, which sort at twice the cost. ``numbered``: gets the relations of the
        groups; none where they are many."""
        for keys in sorted(groups):
            if not any(key.startswith("lower(") for key in keys):
                continue
            name = f"g{len(numbered)}_{rows.base}"
            distinct = ", ".join(f"{key} AS k{at}" for at, key in enumerate(keys))
            select = f"SELECT DISTINCT {distinct} FROM {rows.base} t LIMIT {GROUPS_MAX + 1}"
            self._engine.make(name, f"SELECT row_number() OVER () AS g, * FROM ({select})", stored=True)
            if int(self._engine.totals(name, ["count(*)"])[0]) > GROUPS_MAX:
                self._engine.drop(name)
                continue
            numbered.append(name)
            equal = " AND ".join(f"{key} IS NOT DISTINCT FROM {name}.k{at}" for at, key in enumerate(keys))
            old, new = f"PARTITION BY {', '.join(keys)}", f"PARTITION BY {name}.g"
            added = {column: re.sub(rf"{re.escape(old)}(?= ORDER BY|\))", new, sql) for column, sql in rows.added.items()}
            rows = replace(rows, added=added, join=f"{rows.join} JOIN {name} ON {equal}")
        return rows

    def flatten(self, relation: str) -> None:
        """Stores a relation with all its columns."""
        self._engine.store(relation)
        self._sources[relation] = set()
        del self._late[relation]

    def forget(self, relation: str) -> None:
        """Gives up what is known of a relation."""
        self._late.pop(relation, None)
        self._around.pop(relation, None)
        self._rows.pop(relation, None)

    def _view(self, name: str, select: Late | Rows) -> str:
        self._engine.make(name, select, stored=False)
        self._sources[name] = set(select.sources) & (self._sources.keys())
        return name
