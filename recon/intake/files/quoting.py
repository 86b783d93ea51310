"""Splits delimited text into records with strict quoting, since the parser after it is lenient.

A quoted field ends with a quote before the delimiter or the line end. If it does not, the line on which its record begins is rejected
alone, and the next line begins a record. So an open quote swallows no other row.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from recon.errors import WrongInput
from recon.intake.files.formats import BOM, BOM_INSIDE, BROKEN, line_too_long, matches

OPEN_QUOTE = "a quoted field that does not end at a delimiter or line end; close its quote, or double the quotes inside it"
CARRIAGE_RETURN = "a carriage return outside quotes; quote the field, or end the line with a line feed"

PLACEHOLDER = b"x\n"
"""Replaces a faulty line, so that the parser counts a record there."""


@dataclass(frozen=True)
class Dialect:
    """How delimited text is written. ``delimiter``: one ASCII character. ``quotes``: whether a field may be in double quotes; otherwise a
    quote is a character like any other. ``header``: whether the first record has the columns' names. ``skip``: physical lines before it."""

    delimiter: str = ","
    quotes: bool = True
    header: bool = True
    skip: int = 0

    def fields(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """The fields of each record, by Python's lenient parser. For headers only."""
        return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE)


class Records:
    """Blocks of complete records for a parser.

    ``faults``: line → why it is no record; the parser gets ``PLACEHOLDER`` there. Blank lines between records, and lines that the dialect
    skips, are left out: ``lines_of`` returns a record's line in the file. ``line_feeds``: the number given to the parser. ``broken``:
    whether ``BROKEN`` occurred.
    """

    def __init__(self, name: str, source: Iterator[bytes], dialect: Dialect, longest: int) -> None:
        self.name, self.dialect = name, dialect
        self.faults: dict[int, str] = {}
        self.line_feeds = 0
        self.broken = False
        self._source, self._longest = source, longest
        self._grammar = _Grammar(dialect)
        self._left_out = dialect.skip  # skipped and blank lines so far
        self._skips: list[tuple[int, int]] = []  # (line as the parser counts, blank lines left out before it)
        self._skipped = dialect.skip  # those before the lines of the last call of ``lines_of``

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        for block in self._after_skipped():
            self.broken = self.broken or BROKEN.encode() in block
            rest = yield from self._given(rest + block, final=False)
        if rest:
            yield from self._given(rest if rest.endswith(b"\n") else rest + b"\n", final=True)

    def _after_skipped(self) -> Iterator[bytes]:
        """The blocks after the lines that the dialect skips."""
        left = self.dialect.skip
        for block in self._source:
            while left and block:
                feed = block.find(b"\n") + 1
                left -= bool(feed)
                block = block[feed:] if feed else b""
            if block:
                yield block

    def lines_of(self, lines: Any) -> Any:
        """Lines of the file for lines as the parser counts them (ascending, and after those of the last call)."""
        import numpy as np

        places = np.array([line for line, _ in self._skips], np.int64)
        counts = np.concatenate([[0], np.cumsum([count for _, count in self._skips], dtype=np.int64)])
        found = lines + self._skipped + counts[np.searchsorted(places, lines, side="right")]
        done = int(np.searchsorted(places, lines[-1], side="right"))
        self._skipped += int(counts[done])
        del self._skips[:done]
        return found

    def _given(self, text: bytes, final: bool) -> Generator[bytes, None, bytes]:
        """Yields the records of ``text``; returns the rest, which may become a record with the next block."""
        cut = self._grammar.clean_to(text)
        if cut and len(text) <= self._longest:
            yield self._counted(text[:cut])
            return text[cut:]
        position, parts = 0, []
        while position < len(text):
            end = self._grammar.records_to(text, position, self._longest)
            if end > position:
                parts.append(self._counted(text[position:end]))
            elif (end := self._grammar.blanks_to(text, position)) > position:
                self._skips.append((self.line_feeds + 1, blank := text.count(b"\n", position, end)))
                self._left_out += blank
            else:
                feed = text.find(b"\n", position)
                if (feed if feed >= 0 else len(text)) - position > self._longest:
                    raise self._too_long()
                within = not final and len(text) - position <= self._longest
                if feed < 0 or (within and self._grammar.may_go_on(text, position)):
                    break
                self.faults[self.line_feeds + self._left_out + 1] = self._grammar.fault(text[position : feed + 1])
                parts.append(self._counted(PLACEHOLDER))
                end = feed + 1
            position = end
        if parts:
            yield b"".join(parts)
        return text[position:]

    def _counted(self, part: bytes) -> bytes:
        self.line_feeds += part.count(b"\n")
        return part

    def _too_long(self) -> WrongInput:
        line = self.line_feeds + self._left_out + 1
        return line_too_long(self.name, line, self._longest)


class _Grammar:
    """Patterns of records, over bytes."""

    def __init__(self, dialect: Dialect) -> None:
        self._quotes = dialect.quotes
        delimiter, quote = rf"\x{ord(dialect.delimiter):02x}", '"' if dialect.quotes else ""
        plain = rf"[^{quote}{delimiter}\r\n][^{delimiter}\r\n]*"
        quoted = r'"[^"]*+(?:""[^"]*+)*+"|' if quote else ""
        field = f"(?:{quoted}{plain}+|)"
        record = rf"(?!\r?\n|{BOM.decode()}){field}(?:{delimiter}{field})*+\r?\n".encode()
        self._record, self._records = re.compile(record), re.compile(b"(?:" + record + b")++")
        self._blanks = re.compile(rb"(?:\r?\n)++")
        begun = r'"[^"]*+(?:""[^"]*+)*+"?\r?|' if quote else ""
        self._begun = re.compile(rf"(?:{field}{delimiter})*+(?:{begun}{plain}+\r?|\r?)\Z".encode())
        # For RE2, which takes a third of the time for a block.
        simple = rf'(?:"(?:[^"]|"")*"|{plain})?' if quote else f"(?:{plain})?"
        self._clean = rf"\A(?:{simple}(?:{delimiter}{simple})*\r?\n)*\z"
        self._bare_return = re.compile(rb"\r(?!\n)")

    def clean_to(self, text: bytes) -> int:
        """The end of complete records without blank lines, found without matching each record; 0 where each record must be matched."""
        if text.startswith((b"\n", b"\r\n", BOM)) or any(odd in text for odd in (b"\n\n", b"\n\r\n", b"\n" + BOM)):
            return 0
        cut = text.rfind(b"\n") + 1
        if not self._quotes or b'"' not in text:
            return cut if b"\r" not in text or text.count(b"\r", 0, cut) == text.count(b"\r\n", 0, cut) else 0
        odd = text.count(b'"', 0, cut) % 2
        while cut and odd:  # the last line feed is inside quotes: cut before the line that opens them
            before = text.rfind(b"\n", 0, text.rfind(b'"', 0, cut)) + 1
            odd = (odd + text.count(b'"', before, cut)) % 2
            cut = before
        return cut if cut and matches(self._clean, text[:cut]) else 0

    def records_to(self, text: bytes, position: int, longest: int) -> int:
        """The end of the records that begin at ``position``, none of them longer than ``longest``; ``position`` if none does."""
        several = len(text) - position <= longest
        found = (self._records if several else self._record).match(text, position)
        return found.end() if found and (several or found.end() - position <= longest) else position

    def blanks_to(self, text: bytes, position: int) -> int:
        """The end of the blank lines that begin at ``position``."""
        found = self._blanks.match(text, position)
        return found.end() if found else position

    def may_go_on(self, text: bytes, position: int) -> bool:
        """Whether more text can complete a record that begins at ``position``."""
        return self._begun.match(text, position) is not None

    def fault(self, line: bytes) -> str:
        """Why a record cannot begin with this line."""
        if line.startswith(BOM):
            return BOM_INSIDE
        if (not self._quotes or b'"' not in line) and self._bare_return.search(line):
            return CARRIAGE_RETURN
        return OPEN_QUOTE
