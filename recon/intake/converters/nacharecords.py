"""The records of a NACHA file, a block of lines at a time, each with its batch and its file; and the totals of batches and files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recon.intake.converters.lines import Lines, digits

WIDTH = 94
FILE, BATCH, ENTRY, ADDENDA, BATCH_END, FILE_END = (ord(kind) for kind in "156789")
_KNOWN = (FILE, BATCH, ENTRY, ADDENDA, BATCH_END, FILE_END)
_LEFT_OUT, _UNREADABLE = 0, 1
_HASH_MODULUS = 10**10


@dataclass
class Totals:
    """Figures of a batch or a file; amounts in cents."""

    entries: int = 0
    hash: int = 0
    debits: int = 0
    credits: int = 0

    def add(self, other: Totals) -> None:
        self.entries += other.entries
        self.hash = (self.hash + other.hash) % _HASH_MODULUS
        self.debits += other.debits
        self.credits += other.credits

    def __str__(self) -> str:
        return f"{self.entries:,} entries, hash {self.hash}, debits {_money(self.debits)}, credits {_money(self.credits)}"


def _money(cents: int) -> str:
    return f"{cents // 100:,}.{cents % 100:02}"


@dataclass
class Place:
    """Where the reader is. ``batch`` and ``file``: how many batches have begun, and how many files have ended; ``open``: whether a batch
    has begun and not ended. ``header``: the text of the last batch header."""

    batch: int = 0
    file: int = 0
    open: bool = False
    header: str = ""


class Records:
    """The records of a block. Continues from ``place``, which it moves on.

    numpy arrays, one element a line: ``kind`` (the record's type; 0: padding or blank), ``batch``, ``file`` (as in ``Place``), ``inside``
    (a batch), ``is_entry``, ``is_addenda``, ``problems``, ``header`` (position in ``headers``), ``cents``, ``bank`` (routing number),
    ``is_credit``, ``readable`` (an entry without problem)."""

    def __init__(self, lines: Lines, place: Place) -> None:
        import numpy as np

        self.lines, self.table = lines, lines.table(WIDTH)
        self.problems = lines.problems()
        self.kind = self._kinds()
        begins, files_ended = self.kind == BATCH, np.cumsum(self.kind == FILE_END)
        self.batch = place.batch + np.cumsum(begins)
        self.file = place.file + files_ended - (self.kind == FILE_END)
        self.borders = np.flatnonzero(np.isin(self.kind, (FILE, BATCH, BATCH_END, FILE_END)))
        self.inside = self._inside(place.open) & ~begins
        self.is_entry, self.is_addenda = (self.kind == ENTRY) & self.inside, (self.kind == ADDENDA) & self.inside
        self.headers = [place.header, *(lines.text[row].as_py().rstrip("\n") for row in np.flatnonzero(begins).tolist())]
        self.header = np.cumsum(begins)
        self._read_entries()
        place.batch, place.file, place.header = int(self.batch[-1]), place.file + int(files_ended[-1]), self.headers[-1]
        place.open = bool(begins[self.borders[-1]]) if len(self.borders) else place.open

    def _kinds(self) -> Any:
        import numpy as np

        kind = self.table[:, 0].copy()
        kind[self.lines.blank | (self.table == ord("9")).all(axis=1)] = _LEFT_OUT
        for row in np.flatnonzero((self.lines.lengths > WIDTH) & (kind != _LEFT_OUT)).tolist():
            if self.lines.text[row].as_py()[WIDTH:].strip():
                self.problems[row] = f"more than {WIDTH} characters"
        kind[(self.problems != None) & (kind != _LEFT_OUT)] = _UNREADABLE  # noqa: E711
        return kind

    def _inside(self, opened: bool) -> Any:
        """Whether the last border before each line is the beginning of a batch."""
        import numpy as np

        last = np.searchsorted(self.borders, np.arange(self.lines.count))  # the number of borders before each line
        return np.concatenate([[opened], self.kind[self.borders] == BATCH])[last]

    def _read_entries(self) -> None:
        import numpy as np

        code, has_code = digits(self.table, 2, 3)
        self.cents, has_cents = digits(self.table, 30, 39)
        self.bank, has_bank = digits(self.table, 4, 11)
        self.is_credit = np.isin(code % 10, (1, 2, 3, 4))
        known = has_code & (code % 10 > 0) & (code >= 20) & (code < 60)
        of_advices = np.array([header[50:53] == "ADV" for header in self.headers])[self.header]
        self.readable = self.is_entry & known & has_bank & has_cents & ~of_advices
        for wrong, reason in (
            (of_advices, "an entry of an ADV batch, whose fields are at other characters; send it in another format"),
            (~known, "the transaction code (characters 2-3) is not known"),
            (~has_bank, "the routing number (characters 4-11) is not of digits"),
            (~has_cents, "the amount (characters 30-39) is not of digits"),
        ):
            if (wrong & self.is_entry).any():
                self.problems[self.is_entry & wrong & (self.problems == None)] = reason  # noqa: E711

    def others(self) -> Any:
        """Which lines are neither entries and their addenda nor structure; they get a problem."""
        import numpy as np

        unknown = ~np.isin(self.kind, (*_KNOWN, _LEFT_OUT))
        outside = np.isin(self.kind, (ENTRY, ADDENDA, BATCH_END)) & ~self.inside
        orphans = self.is_addenda & (self.owners() < 0)
        self.problems[unknown & (self.problems == None)] = "no record of a NACHA file (1, 5, 6, 7, 8 or 9)"  # noqa: E711
        self.problems[outside] = "a record outside a batch: the batch header (5) before it is missing"
        self.problems[orphans] = "an addenda record (7) without its entry (6)"
        return unknown | outside | orphans

    def owners(self) -> Any:
        """The line of the entry of each addenda record, by position in the block; -1 where there is none, and for other lines."""
        import numpy as np

        position = np.arange(self.lines.count)
        last = np.maximum.accumulate(np.where(self.is_addenda | (self.kind == _LEFT_OUT), -1, position))
        return np.where(self.is_addenda & (last >= 0) & self.is_entry[last], last, -1)

    def segments(self) -> list[Totals]:
        """The totals of the entries between borders: before the first, after it, …, after the last."""
        import numpy as np

        edges = [0, *self.borders.tolist(), self.lines.count]
        counted = ((self.kind == ENTRY) | (self.kind == ADDENDA)) & self.inside
        credits = np.where(self.readable & self.is_credit, self.cents, 0)
        debits = np.where(self.readable & ~self.is_credit, self.cents, 0)
        columns = (counted, np.where(self.readable, self.bank, 0), debits, credits)
        sums = [np.concatenate([[0], np.cumsum(column, dtype=np.int64)])[edges] for column in columns]
        figures = np.diff(np.stack(sums), axis=1).T.tolist()
        return [Totals(entries, bank % _HASH_MODULUS, debit, credit) for entries, bank, debit, credit in figures]


def declared_totals(line: str, first: int, widths: tuple[int, int]) -> Totals | None:
    """The totals of a control record: the count at character ``first``, of ``widths[0]`` digits, then the hash of 10 and two amounts of
    ``widths[1]``; None if they are not digits."""
    parts, place = [], first - 1
    for width in (widths[0], 10, widths[1], widths[1]):
        parts.append(line[place : place + width])
        place += width
    if not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return Totals(*map(int, parts))
