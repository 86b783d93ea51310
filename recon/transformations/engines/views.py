"""Relations that are computed when they are asked for: written before the statement that names them, as a chain of WITH.

An engine's own views would be planned anew at the making of each, so that 50 on top of one another cost seconds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

NAME = re.compile(r"\w+")
"""What may be the name of a relation."""
_TEXT = re.compile(r"'(?:[^']|'')*'")
"""A text in a statement, which is no name."""


class Views:
    """SELECTs by the names of their relations."""

    def __init__(self) -> None:
        self._selects: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._selects

    def __iter__(self) -> Iterator[str]:
        return iter(self._selects)

    def add(self, name: str, select: str) -> None:
        self._selects[name] = select

    def take(self, name: str) -> str:
        """Removes a view, and returns its SELECT."""
        return self._selects.pop(name)

    def behind(self, statement: str) -> Mapping[str, str]:
        """The views that a statement needs, each after those that it needs itself."""
        found: dict[str, str] = {}

        def collect(text: str) -> None:
            for name in NAME.findall(_TEXT.sub("''", text)):
                if name in self._selects and name not in found:
                    collect(self._selects[name])
                    found.setdefault(name, self._selects[name])

        collect(statement)
        return found

    def over(self, statement: str) -> str:
        """The SELECT with all that it needs before it."""
        before = ", ".join(f"{name} AS NOT MATERIALIZED ({select})" for name, select in self.behind(statement).items())
        return f"WITH {before} {statement}" if before else statement
