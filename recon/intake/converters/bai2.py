"""BAI2 cash reports: a row is a transaction (record 16) with its continuations (88).

Control totals of accounts (49), groups (98) and the file (99) tie: the sum of amounts and the number of records. The package bai2 is not
used: it reads a whole file into objects, without lines, and stops at the first total that does not tie.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
    "currency",
    "as_of_date",
    "as_of_time",
    "originator",
    "type_code",
    "direction",
    "amount",
    "funds_type",
    "bank_reference",
    "customer_reference",
    "text",
)
_WITHOUT_DECIMALS = frozenset(
    ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF")
)
_THREE_DECIMALS = frozenset(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"))
_AMOUNT = re.compile(r"[+-]?[0-9]{1,18}\Z")
_ENDS = {"49": "account", "98": "group", "99": "file"}


@dataclass
class _Level:
    """A file, group or account. ``sum``: of its amounts, ``records``: of its records; ``stated`` and ``stated_records``: the same by the
    control records of its parts, so that a part that does not tie is rejected alone. ``parts``: accounts of a group, groups of a file."""

    key: tuple[str, int] = ("", 0)
    name: str = ""
    open: bool = False
    sum: int = 0
    stated: int = 0
    records: int = 0
    stated_records: int = 0
    parts: int = 0


@dataclass
class _State:
    file: _Level = field(default_factory=_Level)
    group: _Level = field(default_factory=_Level)
    account: _Level = field(default_factory=_Level)
    count: int = 0
    currency: str = ""
    group_currency: str = ""
    header: tuple[str, str, str] = ("", "", "")  # as-of date, time, originator


class BAI2Rows(TextFile):
    """``amount`` is without a sign, with the decimals of its currency; ``direction`` is credit or debit by the type code, else null."""

    def __init__(self, received: Received, declared: Sequence[str] | None, limits: Limits) -> None:
        super().__init__(received, limits)
        self.names: Sequence[str] = NAMES
        require_names(self.name, "a BAI2 file", NAMES, declared or ())
        if not self.head.lstrip().startswith("01,"):
            raise WrongInput(f"{self.name}: line 1: it does not begin with a file header (01); is it a BAI2 file?")

    def batches(self) -> Iterator[Any]:
        return tied_batches(self._events(), self._events(), len(NAMES), self.controls)

    def _events(self) -> Iterator[Row | Tie]:
        state = _State()
        line = 0
        for line, span, count, code, fields in self._records():
            self._count(state, count)
            if code == "01":
                yield from self._leave(state, line, ("account", "group", "file"))
                state.file = self._begun(state, "file", fields[4:5], count)
            elif code == "02":
                yield from self._leave(state, line, ("account", "group"))
                state.group = self._begun(state, "group", fields[0:1], count)
                state.group_currency = (fields[5:6] or [""])[0] or "USD"
                state.header = ((fields[3:4] or [""])[0], (fields[4:5] or [""])[0], (fields[1:2] or [""])[0])
            elif code == "03":
                yield from self._leave(state, line, ("account",))
                state.account = self._begun(state, "account", fields[0:1], count)
                state.currency = (fields[1:2] or [""])[0] or state.group_currency
                yield from self._summaries(state, line, span, fields[2:])
            elif code == "16":
                yield self._transaction(state, line, span, fields)
            elif code in _ENDS:
                yield from self._end(state, line, span, code, fields)
            else:
                yield Row(line, span, (), f"no record of a BAI2 file, {code[:20]!r}", self._groups(state))
        yield from self._leave(state, line, ("account", "group", "file"))

    def _count(self, state: _State, count: int) -> None:
        """Adds physical records to all that is open."""
        opened = [level for level in (state.account, state.group, state.file) if level.open]
        for place, level in enumerate(opened):
            level.records += count
            level.stated_records += count if place == 0 else 0

    def _begun(self, state: _State, kind: str, name: list[str], count: int) -> _Level:
        state.count += 1
        above = {"account": state.group, "group": state.file}.get(kind)
        if above is not None:
            above.stated_records -= count  # its own control record counts it
        return _Level((kind, state.count), (name or [""])[0], True, records=count, stated_records=count)

    def _groups(self, state: _State) -> tuple[object, ...]:
        return tuple(level.key for level in (state.account, state.group, state.file) if level.open)

    def _leave(self, state: _State, line: int, kinds: Sequence[str]) -> Iterator[Tie]:
        """Ends what has no control record."""
        for kind in kinds:
            level: _Level = getattr(state, kind)
            if level.open:
                subject = f"{kind} {level.name}"
                control = Control(f"line {line:,}, {subject}", "control record", "missing", f"{level.sum}")
                yield Tie(level.key, subject, control, "no control record; send the whole file again")
                self._close(state, kind, level.sum, level.records)

    def _summaries(self, state: _State, line: int, span: int, fields: list[str]) -> Iterator[Row]:
        """Adds up the amounts of an account's summary fields: type code, amount, number of items, funds type, …"""
        place, wrong = 0, ""
        while place < len(fields):
            code, amount = fields[place], (fields[place + 1 : place + 2] or [""])[0]
            if amount and not _AMOUNT.match(amount):
                wrong = wrong or amount
            elif amount and code:
                self._add(state, int(amount))
            place += 3
            place += 1 + _funds(fields, place)
        if wrong:
            yield Row(line, span, (), f"a summary amount that can't be read, {wrong[:40]!r}", self._groups(state))

    def _add(self, state: _State, amount: int) -> None:
        state.account.sum += amount
        state.account.stated += amount

    def _transaction(self, state: _State, line: int, span: int, fields: list[str]) -> Row:
        if not state.account.open:
            return Row(line, span, (), "a transaction (16) outside an account (03)", self._groups(state))
        code, amount, funds = [*fields[:3], "", "", ""][:3]
        if not code.isdigit() or not _AMOUNT.match(amount or "0"):
            return Row(
                line, span, (), f"a transaction (16) whose type {code[:20]!r} or amount {amount[:40]!r} can't be read", self._groups(state)
            )
        cents = int(amount or 0)
        self._add(state, cents)
        more = _funds(fields, 2)
        bank, customer = [*fields[3 + more : 5 + more], "", ""][:2]
        text = ",".join(fields[5 + more :])
        direction = "credit" if 100 <= int(code) < 400 else "debit" if 400 <= int(code) < 700 else None
        values = (state.account.name, state.currency, *state.header, code, direction, _decimal(cents, state.currency), funds or None)
        rest = (bank.strip() or None, customer.strip() or None, text.strip() or None)
        return Row(line, span, (*values, *rest), None, self._groups(state))

    def _end(self, state: _State, line: int, span: int, code: str, fields: list[str]) -> Iterator[Row | Tie]:
        kind = _ENDS[code]
        level: _Level = getattr(state, kind)
        if not level.open:
            yield Row(line, span, (), f"a control record ({code}) of no {kind}", self._groups(state))
            return
        yield from self._leave(state, line, {"account": (), "group": ("account",), "file": ("account", "group")}[kind])
        expected = [level.sum, level.records] if kind == "account" else [level.sum, level.parts, level.records]
        declared = [int(text) if _AMOUNT.match(text.strip()) else None for text in fields]
        total, records = [*declared[:1], None][0], declared[len(expected) - 1] if len(declared) >= len(expected) else None
        same = total in (level.sum, level.stated) and records in (level.records, level.stated_records)
        same = same and (kind == "account" or declared[1] == level.parts)
        what = "total, records" if kind == "account" else "total, parts, records"
        shown, figures = ", ".join(fields), ", ".join(map(str, expected))
        subject = f"{kind} {level.name}"
        yield Tie(level.key, subject, Control(f"line {line:,}, {subject}", what, shown, shown if same else figures))
        self._close(state, kind, level.sum if total is None else total, level.records if records is None else records)

    def _close(self, state: _State, kind: str, stated: int, stated_records: int) -> None:
        """Ends a level, and adds it to the one above, by its records and by its control record."""
        level: _Level = getattr(state, kind)
        above = {"account": state.group, "group": state.file}.get(kind)
        if above is not None:
            above.sum += level.sum
            above.stated += stated
            above.stated_records += stated_records
            above.parts += 1
        level.open = False

    def _records(self) -> Iterator[tuple[int, int, int, str, list[str]]]:
        """Line, span, physical records, code and fields of each record with its continuations."""
        begun: _Record | None = None
        for first, block in self.line_blocks():
            for line, raw in enumerate(block.decode("utf-8").split("\n")[:-1], first):
                text = raw.rstrip("\r ")
                if not text:
                    continue
                if text.startswith("88,") and begun is not None:
                    begun.add(line, text[3:])
                    if begun.size > self.limits.line:
                        raise line_too_long(self.name, begun.line, self.limits.line)
                    continue
                if begun is not None:
                    yield begun.split()
                begun = _Record(line, [text])
        if begun is not None:
            yield begun.split()


@dataclass
class _Record:
    """A record with its continuations: after a slash they go on with the next field, else with the same text."""

    line: int
    parts: list[str]
    last: int = 0
    count: int = 1
    size: int = 0

    def add(self, line: int, text: str) -> None:
        self.parts += [",", text] if self.parts[-1].endswith("/") else ["\n", text]
        self.parts[-3] = self.parts[-3].removesuffix("/")
        self.last, self.count, self.size = line, self.count + 1, self.size + len(text)

    def split(self) -> tuple[int, int, int, str, list[str]]:
        self.parts[-1] = self.parts[-1].removesuffix("/")
        code, *fields = "".join(self.parts).split(",")
        return self.line, max(self.last - self.line, 0) + 1, self.count, code, fields


def _funds(fields: list[str], place: int) -> int:
    """The fields that follow the funds type at ``place`` and belong to it."""
    kind = (fields[place : place + 1] or [""])[0]
    if kind == "V":
        return 2
    if kind == "S":
        return 3
    if kind == "D":
        count = (fields[place + 1 : place + 2] or [""])[0]
        return 1 + 2 * int(count) if count.isdigit() and len(count) < 5 else 1
    return 0


def _decimal(cents: int, currency: str) -> str:
    places = 0 if currency in _WITHOUT_DECIMALS else 3 if currency in _THREE_DECIMALS else 2
    sign, digits = "-" * (cents < 0), str(abs(cents)).rjust(places + 1, "0")
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"
