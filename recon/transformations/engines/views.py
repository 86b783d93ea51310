"""Relations that are computed when they are asked for: written before the statement that names them, as a chain of WITH.

An engine's own views would be planned anew at the making of each, so that 50 on top of one another cost seconds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from recon.transformations.engines.late import Late, Rows, named, words

NAME = re.compile(r"\w+")
"""What may be the name of a relation."""
Select = str | Late | Rows


class Views:
    """SELECTs by the names of their relations."""

    def __init__(self) -> None:
        self._selects: dict[str, Select] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._selects

    def __iter__(self) -> Iterator[str]:
        return iter(self._selects)

    def is_late(self, name: str) -> bool:
        """Whether the view computes columns of rows that it takes from another relation."""
        return isinstance(self._selects.get(name), Late)

    def add(self, name: str, select: Select) -> None:
        self._selects[name] = select

    def take(self, name: str) -> Select:
        """Removes a view, and returns its SELECT."""
        return self._selects.pop(name)

    def behind(self, statement: str, ordered: str = "") -> Mapping[str, str]:
        """The views that a statement needs, each after those that it needs itself, with what is read of them. ``ordered``: the one whose
        rows are sorted by their numbers before columns are computed."""
        listed: list[str] = []
        self._collect(words(statement), listed)
        found: dict[str, str] = {}
        readers = [statement]
        for name in reversed(listed):
            columns = [named(text) for text in readers if name in words(text)]
            if columns:
                all_of = None if None in columns else frozenset[str]().union(*(one for one in columns if one is not None))
                select = self._selects[name]
                found[name] = select if isinstance(select, str) else select.sql(all_of, name == ordered)
                readers.append(found[name])
        return dict(reversed(found.items()))

    def _collect(self, sources: frozenset[str], listed: list[str]) -> None:
        """Adds the views among ``sources`` and behind them, each after those that it needs."""
        for name in sorted(sources & self._selects.keys()):
            if name not in listed:
                select = self._selects[name]
                self._collect(words(select) if isinstance(select, str) else select.sources, listed)
                listed.append(name)

    def over(self, statement: str, ordered: str = "") -> str:
        """The SELECT with all that it needs before it."""
        before = ", ".join(f"{name} AS NOT MATERIALIZED ({select})" for name, select in self.behind(statement, ordered).items())
        return f"WITH {before} {statement}" if before else statement
