"""What every converter gives: the columns of a received file, its rows as batches of exact text, and the control totals that it carries.

A batch is an Arrow record batch of

    line BIGINT, span INTEGER   where a row is: see ``Conversion.place``; unique and ascending within a file
    problem VARCHAR             why the row is a reject, with the next step; null where nothing is wrong. ``DELETED``: kept aside
    t0, t1, … VARCHAR           one per name, as written in the file; null where there is no value

Rows with a problem may have nulls for all values. Rows + problems are all that a file has: a converter leaves out blank lines, headers and
the format's own structure (batch headers, trailers), nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

DELETED = "marked as deleted in the file"
"""The problem of a dBase record that its program has deleted: counted and kept aside, no reject."""


@dataclass(frozen=True)
class Received:
    """A file as received, unpacked and decoded. ``name``: its own name, for patterns. ``path``: local; decompressed, and UTF-8 without a
    byte order mark if the format is text. ``parent``: the archive that it was a member of; archives in archives are joined by "/"."""

    name: str
    path: Path
    parent: str | None = None

    @property
    def shown(self) -> str:
        """The name for messages, with its archive."""
        return f"{self.parent}/{self.name}" if self.parent else self.name


@dataclass(frozen=True)
class Control:
    """A control total that the format carries. ``where``: its place, such as "line 502, batch 1". ``what``: the figures, such as "entries,
    hash, debits, credits". ``declared``: as the file says; ``computed``: from its rows."""

    where: str
    what: str
    declared: str
    computed: str

    @property
    def ties(self) -> bool:
        return self.declared == self.computed


class Conversion(Protocol):
    """An opened file. ``batches`` and ``raw`` each read it from the beginning, in bounded memory."""

    @property
    def names(self) -> Sequence[str]:
        """The columns in order: of the header, declared, or of the format. A header may have empty and repeated names."""
        ...

    @property
    def controls(self) -> Sequence[Control]:
        """Complete after ``batches`` was read to its end. Rows of a batch that does not tie have a problem that names both figures."""
        ...

    def batches(self) -> Iterator[Any]:
        """Record batches; see the module. Raises WrongInput where nothing can be said of the rows that follow."""
        ...

    def raw(self, lines: Any, spans: Any) -> Iterator[Any]:
        """Arrow tables of line BIGINT, raw VARCHAR: the original text of the rows at ``lines`` (numpy, ascending), as JSON of its cells
        where a row is no text. Cut at 64 KiB."""
        ...

    def place(self, line: int) -> str:
        """Where a row is, for people: "line 7", "row 7 of sheet 'North'", "record 7"."""
        ...
