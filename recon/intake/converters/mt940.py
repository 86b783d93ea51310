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
from functools import cached_property
from typing import Any

from recon.config.settings import Limits
from recon.errors import WrongInput
from recon.intake.converters.port import Control, Received
from recon.intake.converters.text import TextFile
from recon.intake.converters.tied import Row, Tie, tied_batches
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
_NEGATIVE = ("D", "RC")


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
        computed = f"{opening + self.total:f} {closing[1]}" + f" and {self.unreadable} unreadable lines" * bool(self.unreadable)
        declared = "missing" if missing else f"{closing[0]:f} {closing[1]}"
        if declared != computed and not missing and not self.unreadable and closing[0] == opening + self.total:
            computed = declared  # 1.0 and 1.00
        return Tie(self.number, subject, Control(f"line {line:,}, {subject}", "closing balance", declared, computed), missing)


class MT940Rows(TextFile):
    """``amount`` is signed: negative for D and RC."""

    def __init__(self, received: Received, declared: Sequence[str] | None, limits: Limits) -> None:
        super().__init__(received, limits)
        self.names: Sequence[str] = NAMES
        require_names(self.name, "an MT940 file", NAMES, declared or ())
        if not re.search(r"^:20:", self.head, re.MULTILINE):
            raise WrongInput(f"{self.name}: the first MiB has no statement (:20:); is it an MT940 file?")

    def batches(self) -> Iterator[Any]:
        return tied_batches(self._events(), self._events(), len(NAMES), self.controls)

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
        begun: tuple[int, int, str, list[str]] | None = None
        size = 0
        for first, block in self.line_blocks():
            for line, raw in enumerate(block.decode("utf-8").split("\n")[:-1], first):
                text = raw.removesuffix("\r")
                found = _FIELD.match(text)
                if begun is not None and (found or _END.match(text)):
                    yield begun[0], begun[1], begun[2], "\n".join(begun[3])
                    begun = None
                if found:
                    begun, size = (line, 1, found[1], [found[2]]), 0
                elif begun is not None:
                    begun[3].append(text)
                    begun = (begun[0], line - begun[0] + 1, begun[2], begun[3])
                    size += len(text)
                    if size > self.limits.line:
                        raise line_too_long(self.name, begun[0], self.limits.line)
                elif not _ENVELOPE.match(text):
                    yield line, 1, "", text
        if begun is not None:
            yield begun[0], begun[1], begun[2], "\n".join(begun[3])

    @cached_property
    def _tags(self) -> tuple[Any, Any]:
        from mt940 import tags

        return tags.Statement().re, tags.BalanceBase().re

    def _row(self, statement: _Statement | None, line: int, span: int, text: str, details: str) -> Row:
        if statement is None:
            return Row(line, span, (), "a statement line (:61:) before the first statement (:20:)")
        found = self._tags[0].match(text.strip())
        parts = {name: value or "" for name, value in found.groupdict().items()} if found else {}
        day = _day(parts)
        amount = _amount(parts)
        if day is None or amount is None:
            statement.unreadable += 1
            return Row(line, span, (), f"a statement line (:61:) that can't be read, {text[:40]!r}", (statement.number,))
        mark = parts["status"].upper()
        statement.total += -Decimal(amount) if mark in _NEGATIVE else Decimal(amount)
        values = (
            statement.account,
            statement.page,
            statement.reference,
            statement.opening[1] if statement.opening else None,
            day,
            (parts["entry_month"] + parts["entry_day"]).strip() or None,
            mark,
            f"-{amount}" if mark in _NEGATIVE else amount,
            parts["id"] or None,
            parts["customer_reference"].strip() or None,
            parts["bank_reference"].strip() or None,
            parts["extra_details"].strip() or None,
            details.strip() or None,
        )
        return Row(line, span, values, None, (statement.number,))

    def _balance(self, text: str) -> tuple[Decimal, str] | None:
        found = self._tags[1].match(text.strip())
        parts = {name: value or "" for name, value in found.groupdict().items()} if found else {}
        amount = _amount(parts)
        if amount is None or found is None or text.strip()[found.end() :]:
            return None
        return (-Decimal(amount) if parts["status"].upper() == "D" else Decimal(amount)), parts["currency"]


def _day(parts: dict[str, str]) -> str | None:
    try:
        return date(2000 + int(parts["year"]), int(parts["month"]), int(parts["day"])).isoformat()
    except (KeyError, ValueError):
        return None


def _amount(parts: dict[str, str]) -> str | None:
    """The amount with a decimal point; None if it is no number."""
    text = parts.get("amount", "")
    whole, comma, part = text.partition(",")
    if not whole.isdigit() or (part and not part.isdigit()) or not whole.isascii() or not comma:
        return None
    return f"{whole}.{part}" if part else whole
