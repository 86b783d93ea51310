"""camt.053: opening balance + booked entries = closing balance; entities are not read."""

from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path

import pytest
from converted import convert
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.errors import WrongInput

SPACE = 'xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"'


def balance(code: str, cents: int) -> str:
    sign = "CRDT" if cents >= 0 else "DBIT"
    kind = f"<Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp>"
    return f'<Bal>{kind}<Amt Ccy="EUR">{Decimal(abs(cents)).scaleb(-2)}</Amt><CdtDbtInd>{sign}</CdtDbtInd></Bal>'


def entry(cents: int, status: str = "BOOK", details: str = "") -> str:
    sign = "CRDT" if cents >= 0 else "DBIT"
    amount = f'<Amt Ccy="EUR">{Decimal(abs(cents)).scaleb(-2)}</Amt>'
    return f"<Ntry>{amount}<CdtDbtInd>{sign}</CdtDbtInd><Sts><Cd>{status}</Cd></Sts><BookgDt><Dt>2026-11-01</Dt></BookgDt>{details}</Ntry>"


def statement(number: int, entries: list[str], opening: int, closing: int, summary: str = "") -> str:
    account = "<Acct><Id><IBAN>DE89370400440532013000</IBAN></Id><Ccy>EUR</Ccy></Acct>"
    return f"<Stmt><Id>S{number}</Id>{account}{balance('OPBD', opening)}{balance('CLBD', closing)}{summary}{''.join(entries)}</Stmt>"


def summary(totals: str) -> str:
    return f"<TxsSummry><TtlNtries>{totals}</TtlNtries></TxsSummry>"


def document(*statements: str, before: str = "") -> bytes:
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?>{before}<Document {SPACE}><BkToCstmrStmt>{"".join(statements)}</BkToCstmrStmt></Document>'
    )
    return text.encode()


DETAILS = (
    "<NtryDtls><TxDtls><Refs><EndToEndId>E1</EndToEndId></Refs><RltdPties><Cdtr><Nm>Landlord</Nm></Cdtr></RltdPties>"
    "<RmtInf><Ustrd>Rent</Ustrd><Ustrd>November</Ustrd></RmtInf></TxDtls>"
    "<TxDtls><Refs><EndToEndId>E2</EndToEndId></Refs></TxDtls></NtryDtls><AddtlNtryInf>info</AddtlNtryInf>"
)


def test_an_entry_is_a_row_with_the_details_of_its_transactions(tmp_path: Path) -> None:
    content = document(statement(1, [entry(-25050, details=DETAILS), entry(55), entry(700, "PDNG")], 100_000, 75_005))
    found = convert(tmp_path, content, "camt053")
    assert (found.problems, [control.ties for control in found.controls]) == ({}, [True])
    first = found.dicts[0]
    assert (first["account"], first["statement"], first["currency"], first["amount"]) == ("DE89370400440532013000", "S1", "EUR", "-250.50")
    assert (first["end_to_end_id"], first["counterparty"], first["remittance"]) == ("E1\nE2", "Landlord", "Rent\nNovember")
    assert (first["booking_date"], first["status"], first["information"], first["transactions"]) == ("2026-11-01", "BOOK", "info", "2")
    assert [row["amount"] for row in found.dicts] == ["-250.50", "0.55", "7.00"]
    assert found.raw[2].startswith("<Ntry")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (statement(1, [entry(55)], 0, 56), "statement S1 of account DE89370400440532013000 does not tie: closing balance declared 0.56"),
        (statement(1, [entry(55)], 0, 55).replace("OPBD", "XXXX"), "no opening balance (OPBD or PRCD)"),
        (statement(1, [entry(55)], 0, 55).replace("CLBD", "XXXX"), "no closing balance (CLBD)"),
        (statement(1, [entry(55), entry(0)], 0, 55, summary("<NbOfNtries>3</NbOfNtries>")), "entries declared 3, its rows give 2"),
        (statement(1, [entry(55), entry(-5)], 0, 50, summary("<Sum>0.61</Sum>")), "sum of entries declared 0.61, its rows give 0.60"),
        (statement(1, [entry(55), entry(1).replace("0.01", "1e-2")], 0, 56), "declared 0.56, its rows give 0.55 and 1 unreadable entries"),
    ],
)  # fmt: skip
def test_a_statement_that_does_not_tie_is_rejected_alone(tmp_path: Path, content: str, says: str) -> None:
    found = convert(tmp_path, document(content, statement(2, [entry(55)], 0, 55)), "camt053")
    assert says in found.problems[1]
    assert [row["statement"] for row in found.dicts] == ["S2"]


def test_sums_have_all_their_digits(tmp_path: Path) -> None:
    large, small = f"{10**17}", "0.00000000000000001"
    entries = [entry(100).replace(">1.00<", f">{amount}<") for amount in (large, small)]
    for declared, ties in ((f"{large}.00000000000000001", True), (large, False)):
        content = document(statement(1, entries, 0, 100, summary(f"<Sum>{declared}</Sum>")).replace(">1.00<", f">{declared}<"))
        assert [control.ties for control in convert(tmp_path, content, "camt053").controls] == [ties] * 2


def test_a_comment_does_not_cut_a_value(tmp_path: Path) -> None:
    parts = statement(1, [entry(12355)], 0, 12355).replace("123.55", "123.<!-- x -->5<?x y?>5").replace("BOOK", "BO<!-- x -->OK")
    found = convert(tmp_path, document(parts), "camt053")
    assert (found.problems, [(row["amount"], row["status"]) for row in found.dicts]) == ({}, [("123.55", "BOOK")])


def test_a_number_of_entries_that_is_no_number_does_not_tie(tmp_path: Path) -> None:
    found = convert(tmp_path, document(statement(1, [entry(55)], 0, 55, summary("<NbOfNtries>²</NbOfNtries>"))), "camt053")
    assert "number of entries declared unreadable, its rows give 1" in found.problems[1]


def test_an_entry_without_a_readable_amount_is_a_reject(tmp_path: Path) -> None:
    found = convert(tmp_path, document(statement(1, [entry(1).replace("CRDT", "X")], 0, 0)), "camt053")
    assert found.problems == {1: "an entry whose amount '0.01' X can't be read"}


ENTITY = '<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/passwd"><!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (document(statement(1, [entry(55, details="<X>&e;&b;</X>")], 0, 55), before=ENTITY), r"line \d+: a document type"),
        (document(statement(1, [entry(55)], 0, 55))[:-30], "not well-formed XML"),
        (b"<Document/>", "the XML has no statement"),
        (b"k,v\n", "not well-formed XML"),
        (b"", "the file is empty"),
    ],
)  # fmt: skip
def test_what_is_damaged_or_could_harm_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(WrongInput, match=f"received: {says}"):
        convert(tmp_path, content, "camt053")


@settings(max_examples=60, deadline=None)
@given(
    statements=st.lists(st.lists(st.integers(-(10**14), 10**14), max_size=4), min_size=1, max_size=3), opening=st.integers(-(10**9), 10**9)
)
def test_what_was_written_is_read_and_ties(statements: list[list[int]], opening: int) -> None:
    content = document(*(statement(n, [entry(cents) for cents in each], opening, opening + sum(each)) for n, each in enumerate(statements)))
    with tempfile.TemporaryDirectory() as folder:
        found = convert(Path(folder), content, "camt053")
    assert (found.problems, [control.ties for control in found.controls]) == ({}, [True] * len(statements))
    assert [(row["statement"], Decimal(row["amount"] or "") * 100) for row in found.dicts] == [
        (f"S{n}", cents) for n, each in enumerate(statements) for cents in each
    ]


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_damaged_file_gives_rows_or_an_error_with_its_name(data: st.DataObject) -> None:
    content = bytearray(document(statement(1, [entry(-25050, details=DETAILS), entry(55)], 100_000, 75_005)))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        try:
            convert(Path(folder), bytes(content), "camt053")
        except WrongInput as error:
            assert str(error).startswith("received: ")  # noqa: PT017
