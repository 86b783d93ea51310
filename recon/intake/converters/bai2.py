"""BAI2 cash reports: a row is a transaction (record 16) with its continuations (88).

Control totals of accounts (49), groups (98) and the file (99) tie: the sum of amounts and the number of records. The package bai2 is not
used: it reads a whole file into objects, without lines, and stops at the first total that does not tie.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
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
USUAL = re.compile(
    r"16,([0-9]{1,18}),([0-9]{1,18}),([^,/\n\rVSD]?),([^,/\n\r]*),([^,/\n\r]*),((?:[^\n\r]*[^\n\r/ ])?)\n"
    r"(?:88,((?:[^\n\r]*[^\n\r/ ])?)\n)?(?=[0-79][0-9],|8[0-79],)"
)
"""Transactions as nearly all banks write them, up to the next record: type, amount, funds type, references, text, and the text of one
continuation. Read so, a row takes two thirds of the time."""
_IS_USUAL = "16,"  # which no code of a file is
_CODE = re.compile(r"[0-9]{1,18}\Z")
_ENDS = {"49": "account", "98": "group", "99": "file"}


@dataclass
class _Level:
    """A file, group or account. ``sum``: of its amounts, ``before``: records of the file before it; ``stated`` and ``stated_records``: its
    sum and its records by the control records of its parts, so that a part that does not tie is rejected alone. ``parts``: accounts of a
    group, groups of a file."""

    key: tuple[str, int] = ("", 0)
    name: str = ""
    open: bool = False
    sum: int = 0
    stated: int = 0
    before: int = 0
    stated_records: int = 0
    parts: int = 0


@dataclass
class _State:
    """``records``: physical records so far. ``innermost``: the level that has the next record; ``groups``: the keys of all open levels."""

    file: _Level = field(default_factory=_Level)
    group: _Level = field(default_factory=_Level)
    account: _Level = field(default_factory=_Level)
    count: int = 0
    currency: str = ""
    group_currency: str = ""
    header: tuple[str, str, str] = ("", "", "")  # as-of date, time, originator
    records: int = 0
    innermost: _Level | None = None
    groups: tuple[object, ...] = ()

    def regroup(self) -> None:
        """After a level began or ended."""
        opened = [level for level in (self.account, self.group, self.file) if level.open]
        self.innermost, self.groups = opened[0] if opened else None, tuple(level.key for level in opened)


class BAI2Rows(TextFile):
    """``amount`` is without a sign, with the decimals of its currency; ``direction`` is credit or debit by the type code, else null."""

    def __init__(self, received: Received, declared: Sequence[str] | None, limits: Limits, scratch: Path | None = None) -> None:
        super().__init__(received, limits)
        self.names: Sequence[str] = NAMES
        self._scratch = scratch
        require_names(self.name, "a BAI2 file", NAMES, declared or ())
        if not self.head.lstrip().startswith("01,"):
            raise WrongInput(f"{self.name}: line 1: it does not begin with a file header (01); is it a BAI2 file?")

    def batches(self) -> Iterator[Any]:
        return tied_batches(self._events(), len(NAMES), self.controls, self._scratch)

    def _events(self) -> Iterator[Row | Tie]:
        state = _State()
        line = 0
        for line, span, count, code, fields in self._records():
            state.records += count
            if state.innermost is not None:
                state.innermost.stated_records += count
            if code == _IS_USUAL and state.account.open:
                yield self._usual(state, line, span, fields)
            elif code in ("16", _IS_USUAL):
                yield self._transaction(state, line, span, fields)
            elif code == "01":
                yield from self._leave(state, line, ("account", "group", "file"))
                self._begin(state, "file", fields[4:5], count)
            elif code == "02":
                yield from self._leave(state, line, ("account", "group"))
                self._begin(state, "group", fields[0:1], count)
                state.group_currency = (fields[5:6] or [""])[0] or "USD"
                state.header = ((fields[3:4] or [""])[0], (fields[4:5] or [""])[0], (fields[1:2] or [""])[0])
            elif code == "03":
                yield from self._leave(state, line, ("account",))
                self._begin(state, "account", fields[0:1], count)
                state.currency = (fields[1:2] or [""])[0] or state.group_currency
                yield from self._summaries(state, line, span, fields[2:])
            elif code in _ENDS:
                yield from self._end(state, line, span, code, fields)
            else:
                yield Row(line, span, (), f"no record of a BAI2 file, {code[:20]!r}", state.groups)
        yield from self._leave(state, line, ("account", "group", "file"))

    def _begin(self, state: _State, kind: str, name: list[str], count: int) -> None:
        state.count += 1
        above = {"account": state.group, "group": state.file}.get(kind)
        if above is not None:
            above.stated_records -= count  # its own control record counts it
        level = _Level((kind, state.count), (name or [""])[0], True, before=state.records - count, stated_records=count)
        setattr(state, kind, level)
        state.regroup()

    def _leave(self, state: _State, line: int, kinds: Sequence[str]) -> Iterator[Tie]:
        """Ends what has no control record."""
        for kind in kinds:
            level: _Level = getattr(state, kind)
            if level.open:
                subject = f"{kind} {level.name}"
                control = Control(f"line {line:,}, {subject}", "control record", "missing", f"{level.sum}")
                yield Tie(level.key, subject, control, "no control record; send the whole file again")
                self._close(state, kind, level.sum, state.records - level.before)

    def _summaries(self, state: _State, line: int, span: int, fields: list[str]) -> Iterator[Row]:
        """Adds up the amounts of an account's summary fields: type code, amount, number of items, funds type, …"""
        place, wrong = 0, ""
        while place < len(fields):
            code, amount = fields[place], (fields[place + 1 : place + 2] or [""])[0]
            if amount and not _AMOUNT.match(amount):
                wrong = wrong or amount
            elif amount and code:
                state.account.sum += int(amount)
                state.account.stated += int(amount)
            place += 3
            place += 1 + _funds(fields, place)
        if wrong:
            yield Row(line, span, (), f"a summary amount that can't be read, {wrong[:40]!r}", state.groups)

    def _transaction(self, state: _State, line: int, span: int, fields: list[str]) -> Row:
        if not state.account.open:
            return Row(line, span, (), "a transaction (16) outside an account (03)", state.groups)
        code, amount, funds = [*fields[:3], "", "", ""][:3]
        if not _CODE.match(code) or not _AMOUNT.match(amount or "0"):
            return Row(line, span, (), f"a transaction (16) whose type {code[:20]!r} or amount {amount[:40]!r} can't be read", state.groups)
        more = _funds(fields, 2)
        bank, customer = [*fields[3 + more : 5 + more], "", ""][:2]
        values = self._values(state, code, int(amount or 0), funds, (bank, customer, ",".join(fields[5 + more :])))
        return Row(line, span, values, None, state.groups)

    def _usual(self, state: _State, line: int, span: int, fields: Sequence[str]) -> Row:
        code, amount, funds, bank, customer, text, more = fields
        values = self._values(state, code, int(amount), funds, (bank, customer, text if more is None else f"{text}\n{more}"))
        return Row(line, span, values, None, state.groups)

    def _values(self, state: _State, code: str, cents: int, funds: str, texts: tuple[str, str, str]) -> tuple[str | None, ...]:
        account = state.account
        account.sum += cents
        account.stated += cents
        bank, customer, text = texts
        return (
            account.name,
            state.currency,
            *state.header,
            code,
            _direction(code),
            _decimal(cents, state.currency),
            funds or None,
            bank.strip() or None,
            customer.strip() or None,
            text.strip() or None,
        )

    def _end(self, state: _State, line: int, span: int, code: str, fields: list[str]) -> Iterator[Row | Tie]:
        kind = _ENDS[code]
        level: _Level = getattr(state, kind)
        if not level.open:
            yield Row(line, span, (), f"a control record ({code}) of no {kind}", state.groups)
            return
        yield from self._leave(state, line, {"account": (), "group": ("account",), "file": ("account", "group")}[kind])
        counted = state.records - level.before
        expected = [level.sum, counted] if kind == "account" else [level.sum, level.parts, counted]
        declared = [int(text) if _AMOUNT.match(text.strip()) else None for text in fields]
        total, records = [*declared[:1], None][0], declared[len(expected) - 1] if len(declared) >= len(expected) else None
        same = total in (level.sum, level.stated) and records in (counted, level.stated_records)
        same = same and (kind == "account" or declared[1] == level.parts)
        what = "total, records" if kind == "account" else "total, parts, records"
        shown, figures = ", ".join(fields), ", ".join(map(str, expected))
        subject = f"{kind} {level.name}"
        yield Tie(level.key, subject, Control(f"line {line:,}, {subject}", what, shown, shown if same else figures))
        self._close(state, kind, level.sum if total is None else total, counted if records is None else records)

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
        state.regroup()

    def _records(self) -> Iterator[tuple[int, int, int, str, Any]]:
        """Line, span, physical records, code and fields of each record with its continuations: after a slash they go on with the next
        field, else with the same text. The code of a usual transaction is ``_IS_USUAL``, and its fields are those of ``USUAL``."""
        begun = last = count = size = 0  # begun: the record's line, 0 where none waits for its continuations
        parts: list[str] = []
        for first, block in self.line_blocks():
            text, place, line = block.decode("utf-8"), 0, first
            while place < len(text):
                if text.startswith("16,", place):
                    if begun:
                        yield begun, last - begun + 1, count, *_split(parts)
                        begun = 0
                    if (found := USUAL.match(text, place)) is not None:
                        count = 1 if found[7] is None else 2
                        yield line, count, count, _IS_USUAL, found.groups()
                        place, line = found.end(), line + count
                        continue
                end = text.index("\n", place)
                written = text[place:end].rstrip("\r ")
                if begun and written.startswith("88,"):
                    before = parts[-1]
                    parts[-1:] = [before[:-1], ",", written[3:]] if before.endswith("/") else [before, "\n", written[3:]]
                    last, count, size = line, count + 1, size + len(written)
                    if size > self.limits.line:
                        raise line_too_long(self.name, begun, self.limits.line)
                elif written:
                    if begun:
                        yield begun, last - begun + 1, count, *_split(parts)
                    begun, last, count, size, parts = line, line, 1, 0, [written]
                place, line = end + 1, line + 1
        if begun:
            yield begun, last - begun + 1, count, *_split(parts)


def _split(parts: list[str]) -> tuple[str, list[str]]:
    """Code and fields of a record."""
    code, *fields = "".join(parts).removesuffix("/").split(",")
    return code, fields


def _funds(fields: list[str], place: int) -> int:
    """The fields that follow the funds type at ``place`` and belong to it."""
    kind = (fields[place : place + 1] or [""])[0]
    if kind == "V":
        return 2
    if kind == "S":
        return 3
    if kind == "D":
        count = (fields[place + 1 : place + 2] or [""])[0]
        return 1 + 2 * int(count) if count.isdecimal() and len(count) < 5 else 1
    return 0


@lru_cache(1024)
def _direction(code: str) -> str | None:
    return "credit" if 100 <= int(code) < 400 else "debit" if 400 <= int(code) < 700 else None


def _decimal(cents: int, currency: str) -> str:
    places = 0 if currency in _WITHOUT_DECIMALS else 3 if currency in _THREE_DECIMALS else 2
    if not places:
        return str(cents)
    digits = f"{abs(cents):0{places + 1}}"
    return f"{'-' if cents < 0 else ''}{digits[:-places]}.{digits[-places:]}"
