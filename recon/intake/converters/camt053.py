"""Bank statements of ISO 20022 (camt.053; camt.052 and camt.054 too): a row is an entry (Ntry).

Opening balance + booked entries = closing balance."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from recon.config.settings import Limits
from recon.errors import WrongInput
from recon.intake.converters.port import Control, Received
from recon.intake.converters.text import not_empty
from recon.intake.converters.tied import EXACT, Row, Tie, tied_batches
from recon.intake.converters.xmlstream import elements, elements_at, local, steps, text_at
from recon.intake.files.inspect import require_names
from recon.intake.files.raw import raw_table, shown

NAMES = (
    "account",
    "statement",
    "currency",
    "amount",
    "status",
    "booking_date",
    "value_date",
    "entry_reference",
    "servicer_reference",
    "end_to_end_id",
    "counterparty",
    "remittance",
    "code",
    "information",
    "transactions",
)
_AMOUNT = re.compile(r"[0-9]{1,18}(\.[0-9]{1,17})?\Z")
_STATEMENTS = ("Stmt", "Rpt", "Ntfctn")
_TAGS = (*_STATEMENTS, "Acct", "Bal", "TxsSummry", "Ntry")
_STEPS = steps(
    (
        "Amt",
        "CdtDbtInd",
        "Sts/Cd",
        "BookgDt/Dt",
        "BookgDt/DtTm",
        "ValDt/Dt",
        "ValDt/DtTm",
        "NtryRef",
        "AcctSvcrRef",
        "NtryDtls/TxDtls/Refs/EndToEndId",
        *(f"NtryDtls/TxDtls/RltdPties/{party}/{name}" for party in ("Dbtr", "Cdtr") for name in ("Nm", "Pty/Nm")),
        "NtryDtls/TxDtls/RmtInf/Ustrd",
        "BkTxCd/Domn/Cd",
        "BkTxCd/Domn/Fmly/Cd",
        "BkTxCd/Domn/Fmly/SubFmlyCd",
        "BkTxCd/Prtry/Cd",
        "AddtlNtryInf",
    )
)
"""What is read of an entry."""


@dataclass
class _Statement:
    number: int
    id: str = ""
    account: str = ""
    currency: str = ""
    balances: list[tuple[str, Decimal, str]] = field(default_factory=list)  # type, amount, its text
    summary: Any = None
    booked: Decimal = field(default_factory=Decimal)
    total: Decimal = field(default_factory=Decimal)
    entries: int = 0
    unreadable: int = 0

    @property
    def subject(self) -> str:
        return f"statement {self.id} of account {self.account}"

    def ties(self, kind: str) -> Iterator[Tie]:
        opening = next((each for code in ("OPBD", "PRCD", "ITBD") for each in self.balances if each[0] == code), None)
        closing = next(
            (each for code in ("CLBD", "ITBD") for each in reversed(self.balances) if each[0] == code and each is not opening), None
        )
        if kind == "Stmt" or (opening and closing):
            missing = None if opening and closing else f"no {'closing balance (CLBD)' if opening else 'opening balance (OPBD or PRCD)'}"
            amount = EXACT.add(opening[1] if opening else Decimal(0), self.booked)
            yield self._tie("closing balance", closing[1] if closing else None, amount, missing)
        if self.summary is not None:
            count, total = text_at(self.summary, "TtlNtries", "NbOfNtries"), text_at(self.summary, "TtlNtries", "Sum")
            if count is not None:
                yield self._tie("number of entries", Decimal(count) if count.isdecimal() else None, Decimal(self.entries), None)
            if total is not None:
                yield self._tie("sum of entries", Decimal(total) if _AMOUNT.match(total) else None, self.total, None)

    def _tie(self, what: str, declared: Decimal | None, computed: Decimal, missing: str | None) -> Tie:
        rest = f" and {self.unreadable} unreadable entries" * bool(self.unreadable)
        same = declared is not None and declared == computed and not rest
        shown_as = "missing" if missing else "unreadable" if declared is None else f"{declared:f}"
        control = Control(self.subject, what, shown_as, shown_as if same else f"{computed:f}{rest}")
        return Tie(self.number, self.subject, control, missing)


class Camt053Rows:
    """A line is the number of an entry in the file. ``amount`` is signed: negative for DBIT. The details of an entry's transactions are
    joined by line feeds."""

    def __init__(self, received: Received, declared: Sequence[str] | None, limits: Limits, scratch: Path | None = None) -> None:
        self.name, self._received, self._limits = received.shown, received, limits
        self.controls: list[Control] = []
        self.names: Sequence[str] = NAMES
        self._scratch = scratch
        require_names(self.name, "a camt.053 file", NAMES, declared or ())
        not_empty(received)
        if next(self._elements(_STATEMENTS), None) is None:
            raise WrongInput(f"{self.name}: the XML has no statement (Stmt), report (Rpt) or notification (Ntfctn); is it a camt.053 file?")

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            with self._received.path.open("rb") as stream:
                yield stream
        except OSError as error:
            raise WrongInput(f"{self.name}: can't be read: {error.strerror}") from None

    def _elements(self, tags: Sequence[str]) -> Iterator[tuple[str, Any]]:
        with self._opened() as stream:
            yield from elements(self.name, stream, tags)

    def batches(self) -> Iterator[Any]:
        return tied_batches(self._events(), len(NAMES), self.controls, self._scratch)

    def _events(self) -> Iterator[Row | Tie]:
        statement, statements, entries = _Statement(0), 0, 0
        for event, element in self._elements(_TAGS):
            kind = local(element)
            if kind in _STATEMENTS:
                if event == "end":
                    yield from statement.ties(kind)
                else:
                    statements += 1
                    statement = _Statement(statements)
            elif event == "end" and local(element.getparent()) in _STATEMENTS:
                statement.id = statement.id or text_at(element.getparent(), "Id") or ""
                if kind == "Ntry":
                    entries += 1
                    yield _entry(element, entries, statement)
                else:
                    _take(element, kind, statement)

    def raw(self, lines: Any, spans: Any) -> Iterator[Any]:
        import numpy as np
        from lxml import etree

        wanted, number = iter(lines.tolist()), 0
        line = next(wanted, None)
        for event, element in self._elements(("Ntry",)):
            if line is None:
                return
            counted = event == "end" and local(element.getparent()) in _STATEMENTS
            number += counted
            if counted and number == line:
                yield raw_table(np.array([line], np.int64), [shown(etree.tostring(element, encoding="utf-8", with_tail=False))])
                line = next(wanted, None)

    def place(self, line: int) -> str:
        return f"entry {line}"


def _take(element: Any, kind: str, statement: _Statement) -> None:
    """Takes on what an element below a statement says of it."""
    if kind == "Acct":
        statement.account = text_at(element, "Id", "IBAN") or text_at(element, "Id", "Othr", "Id") or ""
        statement.currency = text_at(element, "Ccy") or ""
    elif kind == "TxsSummry":
        statement.summary = deepcopy(element)
    elif kind == "Bal":
        amount = text_at(element, "Amt") or ""
        if _AMOUNT.match(amount):
            sign = -1 if text_at(element, "CdtDbtInd") == "DBIT" else 1
            code = text_at(element, "Tp", "CdOrPrtry", "Cd") or ""
            statement.balances.append((code, EXACT.multiply(sign, Decimal(amount)), amount))


def _entry(element: Any, number: int, statement: _Statement) -> Row:
    found = elements_at(element, _STEPS)
    statement.entries += 1
    amount, direction = _one(found, "Amt") or "", _one(found, "CdtDbtInd")
    if not _AMOUNT.match(amount) or direction not in ("CRDT", "DBIT"):
        statement.unreadable += 1
        return Row(
            number, 1, (), f"an entry whose amount {amount[:40]!r} {direction or 'without CdtDbtInd'} can't be read", (statement.number,)
        )
    status = _one(found, "Sts/Cd") or _one(found, "Sts")
    signed = f"-{amount}" if direction == "DBIT" else amount
    statement.total = EXACT.add(statement.total, Decimal(amount))
    if status in (None, "BOOK"):
        statement.booked = EXACT.add(statement.booked, Decimal(signed))
    party = "Dbtr" if direction == "CRDT" else "Cdtr"
    values = (
        statement.account,
        statement.id,
        found["Amt"][0].get("Ccy") or statement.currency,
        signed,
        status,
        _one(found, "BookgDt/Dt") or _one(found, "BookgDt/DtTm"),
        _one(found, "ValDt/Dt") or _one(found, "ValDt/DtTm"),
        _one(found, "NtryRef"),
        _one(found, "AcctSvcrRef"),
        _all(found, "NtryDtls/TxDtls/Refs/EndToEndId"),
        _all(found, f"NtryDtls/TxDtls/RltdPties/{party}/Nm") or _all(found, f"NtryDtls/TxDtls/RltdPties/{party}/Pty/Nm"),
        _all(found, "NtryDtls/TxDtls/RmtInf/Ustrd"),
        _code(found),
        _one(found, "AddtlNtryInf"),
        str(len(found.get("NtryDtls/TxDtls", ()))),
    )
    return Row(number, 1, values, None, (statement.number,))


def _one(found: dict[str, list[Any]], path: str) -> str | None:
    """The first text at ``path``."""
    for element in found.get(path, ()):
        if text := (element.text or "").strip():
            return str(text)
    return None


def _all(found: dict[str, list[Any]], path: str) -> str | None:
    """The texts at ``path`` of all transactions of an entry."""
    elements = found.get(path)
    return ("\n".join(text for element in elements if (text := (element.text or "").strip())) or None) if elements else None


def _code(found: dict[str, list[Any]]) -> str | None:
    if "BkTxCd" not in found:
        return None
    domain = [_one(found, path) for path in ("BkTxCd/Domn/Cd", "BkTxCd/Domn/Fmly/Cd", "BkTxCd/Domn/Fmly/SubFmlyCd")]
    return "/".join(filter(None, domain)) or _one(found, "BkTxCd/Prtry/Cd")
