"""SWIFT MT940: a row is a statement line (:61:) with its information (:86:). Opening balance + lines = closing balance.

mt-940 has the patterns of the fields. Cutting the file into fields is done here, since the library reads a file at once, without the
lines, and leaves out what it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from recon.config.settings import Limits
from recon.errors import WrongInput
from recon.intake.converters.port import Control, Received
from recon.intake.converters.text import TextFile
from recon.intake.converters.tied import EXACT, Row, Tie, tied_batches
from recon.intake.files.formats import line_too_long
from recon.intake.files.inspect import require_names

NAMES = (
    "account",
    "statement",
    "reference",
    "currency",
    "value_date",
    "entry_date",
    "mark",
    "amount",
    "type",
    "customer_reference",
    "bank_reference",
    "extra_details",
    "details",
)
_FIELD = re.compile(r":([0-9]{2}[A-Z]?|NS):(.*)", re.DOTALL)
_STRUCTURE = {"13", "13D", "20", "21", "25", "25P", "28", "28C", "34F", "60F", "60M", "62F", "62M", "64", "65", "90C", "90D", "NS"}
_END = re.compile(r"-\s*\Z|-\}|\{[1-5]:")
"""What ends a field, besides the next one: the end of the message, or the next message's first block."""
_ENVELOPE = re.compile(r"(\{[1-5]:.*|-\s*|-\}(\{.*)?|\s*)\Z", re.DOTALL)
"""Lines around messages: blocks of SWIFT, and the end of a message."""
_END_MARKS = ("-", "{")
_NEGATIVE = ("D", "RC")
PARTS = (
    "year",
    "month",
    "day",
    "entry_month",
    "entry_day",
    "status",
    "amount",
    "id",
    "customer_reference",
    "bank_reference",
    "extra_details",
)
"""Of a statement line, by their names in the library's pattern."""
USUAL = re.compile(
    r"([0-9]{2})([0-9]{2})([0-9]{2})(?:([0-9]{2})([0-9]{2}))?(R?[CD])[A-Z]?((?=[0-9,]{1,15}[A-Z])[0-9]+,[0-9]*)([A-Z][A-Z0-9 ]{3})"
    r"([^\n/]{0,16})(?://([^\n]{0,23}))?(?:\n([^\n]*))?\Z"
)
"""Statement lines as nearly all banks write them: the groups are those of ``PARTS``, the same as by the library's pattern, at a sixth of
its time."""


@dataclass
class _Statement:
    number: int
    reference: str = ""
    account: str = ""
    page: str = ""
    opening: tuple[Decimal, str] | None = None
    closing: tuple[Decimal, str] | None = None
    total: Decimal = field(default_factory=Decimal)
    unreadable: int = 0

    def tie(self, line: int) -> Tie:
        subject = f"statement {self.page or self.reference} of account {self.account}"
        missing = "no opening balance (:60F:)" if self.opening is None else "no closing balance (:62F:)" if self.closing is None else None
        opening, closing = (self.opening or (Decimal(0), ""))[0], self.closing or (Decimal(0), "")
        total = EXACT.add(opening, self.total)
        computed = f"{total:f} {closing[1]}" + f" and {self.unreadable} unreadable lines" * bool(self.unreadable)
        declared = "missing" if missing else f"{closing[0]:f} {closing[1]}"
        if declared != computed and not missing and not self.unreadable and closing[0] == total:
            computed = declared  # 1.0 and 1.00
        return Tie(self.number, subject, Control(f"line {line:,}, {subject}", "closing balance", declared, computed), missing)


class MT940Rows(TextFile):
    """``amount`` is signed: negative for D and RC."""

    def __init__(self, received: Received, declared: Sequence[str] | None, limits: Limits, scratch: Path | None = None) -> None:
        super().__init__(received, limits)
        self.names: Sequence[str] = NAMES
        self._scratch = scratch
        require_names(self.name, "an MT940 file", NAMES, declared or ())
        if not re.search(r"^:20:", self.head, re.MULTILINE):
            raise WrongInput(f"{self.name}: the first MiB has no statement (:20:); is it an MT940 file?")

    def batches(self) -> Iterator[Any]:
        return tied_batches(self._events(), len(NAMES), self.controls, self._scratch)

    def _events(self) -> Iterator[Row | Tie]:
        statement: _Statement | None = None
        number, last = 0, 0
        pending: tuple[int, int, str, str] | None = None  # line, span, :61:, :86:
        for line, span, tag, text in self._fields():
            last = line
            if pending is not None and (tag != "86" or pending[3]):
                yield self._row(statement, *pending)
                pending = None
            if tag == "20":
                if statement is not None:
                    yield statement.tie(line - 1)
                number += 1
                statement = _Statement(number, text.strip())
            elif tag == "86":
                if pending is not None:
                    pending = (pending[0], line + span - pending[0], pending[2], text)
            elif tag == "61":
                pending = (line, span, text, "")
            elif tag not in _STRUCTURE or statement is None:
                if statement is not None:
                    statement.unreadable += 1
                yield Row(line, span, (), f"no field of MT940 in a statement (:{tag}:)" if tag else "text outside a field of MT940")
            else:
                yield from self._structure(statement, line, span, tag, text)
        if pending is not None:
            yield self._row(statement, *pending)
        if statement is not None:
            yield statement.tie(last)

    def _structure(self, statement: _Statement, line: int, span: int, tag: str, text: str) -> Iterator[Row]:
        """Takes on what a field says of its statement; a balance that can't be read is a row with a problem."""
        if tag in ("25", "25P"):
            statement.account = " ".join(text.split())
        elif tag in ("28", "28C"):
            statement.page = text.strip()
        elif tag[:2] in ("60", "62"):
            balance = self._balance(text)
            if balance is None:
                yield Row(line, span, (), f"a balance (:{tag}:) that can't be read, {text[:40]!r}", (statement.number,))
            elif tag[:2] == "60":
                statement.opening = statement.opening or balance
            else:
                statement.closing = balance

    def _fields(self) -> Iterator[tuple[int, int, str, str]]:
        """Line, span, tag and text of each field. A line outside a field has the tag ""."""
        begun, tag, parts, size = 0, "", [""], 0  # begun: the field's line, 0 outside fields
        line = 0
        for first, block in self.line_blocks():
            for line, text in enumerate(_lines(block), first):
                mark = text[:1]
                found = _FIELD.match(text) if mark == ":" else None
                if begun and (found or (mark in _END_MARKS and _END.match(text))):
                    yield begun, line - begun, tag, parts[0] if len(parts) == 1 else "\n".join(parts)
                    begun = 0
                if found:
                    begun, tag, parts, size = line, found[1], [found[2]], 0
                elif begun:
                    parts.append(text)
                    size += len(text) + 1
                    if size > self.limits.line:
                        raise line_too_long(self.name, begun, self.limits.line)
                elif not _ENVELOPE.match(text):
                    yield line, 1, "", text
        if begun:
            yield begun, line - begun + 1, tag, "\n".join(parts)

    @cached_property
    def _tags(self) -> tuple[Any, Any]:
        from mt940 import tags

        return tags.Statement().re, tags.BalanceBase().re

    def _row(self, statement: _Statement | None, line: int, span: int, text: str, details: str) -> Row:
        if statement is None:
            return Row(line, span, (), "a statement line (:61:) before the first statement (:20:)")
        parts = self._parts(text.strip())
        day, amount = (_day(*parts[:3]), _amount(parts[6])) if parts else (None, None)
        if parts is None or day is None or amount is None:
            statement.unreadable += 1
            return Row(line, span, (), f"a statement line (:61:) that can't be read, {text[:40]!r}", (statement.number,))
        _, _, _, month, entry_day, mark, _, kind, customer, bank, extra = parts
        mark = mark.upper()
        signed = f"-{amount}" if mark in _NEGATIVE else amount
        statement.total = EXACT.add(statement.total, Decimal(signed))
        values = (
            statement.account,
            statement.page,
            statement.reference,
            statement.opening[1] if statement.opening else None,
            day,
            (month + entry_day).strip() or None,
            mark,
            signed,
            kind or None,
            customer.strip() or None,
            bank.strip() or None,
            extra.strip() or None,
            details.strip() or None,
        )
        return Row(line, span, values, None, (statement.number,))

    def _parts(self, text: str) -> Sequence[str] | None:
        """The parts of a statement line (:61:), "" for one that is not there; None where the line is not one."""
        found = USUAL.match(text)
        if found is not None:
            return found.groups("")
        found = self._tags[0].match(text)
        return None if found is None else [value or "" for value in found.group(*PARTS)]

    def _balance(self, text: str) -> tuple[Decimal, str] | None:
        text = text.strip()
        found = self._tags[1].match(text)
        amount = _amount(found["amount"] or "") if found else None
        if amount is None or found is None or text[found.end() :]:
            return None
        exact = Decimal(amount)
        return EXACT.minus(exact) if (found["status"] or "").upper() == "D" else exact, found["currency"] or ""


def _lines(block: bytes) -> list[str]:
    """Lines without their ends."""
    text = block.decode("utf-8")
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    return text.split("\n")[:-1]


@lru_cache(1024)
def _day(year: str, month: str, day: str) -> str | None:
    try:
        return date(2000 + int(year), int(month), int(day)).isoformat()
    except ValueError:
        return None


def _amount(text: str) -> str | None:
    """The amount with a decimal point; None if it is no number."""
    whole, comma, part = text.partition(",")
    if not whole.isdigit() or (part and not part.isdigit()) or not text.isascii() or not comma:
        return None
    return f"{whole}.{part}" if part else whole
