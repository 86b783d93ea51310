"""Columns that are computed beside the others of a table: what looks at other rows sorts and moves few columns, not all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from recon.transformations.operations.table import ROW, Column

NARROW = 8
"""Columns of a table up to which moving all of them costs no more than joining."""


@dataclass(frozen=True)
class Beside:
    """The columns of ``base``, and ``added`` ones: SQL of each over ``base``, ``… AS name``."""

    base: str
    added: tuple[str, ...]

    @property
    def names(self) -> set[str]:
        return {sql.rpartition(" AS ")[2] for sql in self.added}

    def more(self, added: Iterable[str]) -> Beside | None:
        """With further columns; None where they are computed from those that are already beside."""
        listed = list(added)
        if any(set(re.findall(r"\w+", sql)) & self.names for sql in listed):
            return None
        return Beside(self.base, (*self.added, *listed))

    @property
    def narrow(self) -> str:
        """SELECT of the rows' numbers and the added columns alone."""
        return f"SELECT {ROW}, {', '.join(self.added)} FROM {self.base}"

    def joined(self, columns: Iterable[Column], narrow: str) -> str:
        """SELECT of columns of both. ``narrow``: the relation of the added ones."""
        names = self.names
        parts = [f"{'w' if sql in names else 't'}.{sql}" for column in columns for sql in column.sql]
        return f"SELECT t.{ROW}, {', '.join(parts)} FROM {self.base} t JOIN {narrow} w ON w.{ROW} = t.{ROW}"
