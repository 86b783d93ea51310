"""MT940: opening balance + statement lines = closing balance, statement by statement."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from converted import Converted, convert
from hypothesis import given, settings
from hypothesis import strategies as st
from mt940 import tags

from recon.errors import WrongInput
from recon.intake.converters import mt940

SAMPLE = """{1:F01BANKDEFFAXXX0000000000}{2:O9400000000000BANKDEFFXXXX00000000000000000000N}{4:
:20:STARTUMS
:25:DE89370400440532013000
:28C:00007/001
:60F:C261031EUR1000,00
:61:2611011101DR250,5NMSCNONREF//B4711
more
:86:005?00RENT?20November
?32Landlord
:61:2611021102C0,55NTRFREF-1
:61:261103RC1,NTRFNONREF
:62F:C261103EUR749,05
:86:closing text
-}
"""


def test_a_line_with_its_information_is_a_row_and_its_amount_signed(tmp_path: Path) -> None:
    found = convert(tmp_path, SAMPLE.encode(), "mt940")
    assert found.problems == {}
    (control,) = found.controls
    assert (control.ties, control.declared) == (True, "749.05 EUR")
    assert [(row.line, row.span) for row in found.rows] == [(6, 4), (10, 1), (11, 1)]
    assert [row["amount"] for row in found.dicts] == ["-250.5", "0.55", "-1"]
    first = found.dicts[0]
    assert (first["account"], first["statement"], first["currency"]) == ("DE89370400440532013000", "00007/001", "EUR")
    assert (first["value_date"], first["entry_date"], first["mark"], first["type"]) == ("2026-11-01", "1101", "D", "NMSC")
    assert (first["customer_reference"], first["bank_reference"], first["extra_details"]) == ("NONREF", "B4711", "more")
    assert first["details"] == "005?00RENT?20November\n?32Landlord"
    assert found.raw[6] == "\n".join(SAMPLE.splitlines()[5:9])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("0,55", "0,56", "closing balance declared 749.05 EUR, its rows give 749.06 EUR"),
        (":60F:C2", ":60F:D2", "closing balance declared 749.05 EUR, its rows give -1250.95 EUR"),
        (":60F:C261031EUR1000,00\n", "", "no opening balance (:60F:)"),
        (":62F:C261103EUR749,05\n", "", "no closing balance (:62F:)"),
        ("C0,55NTRF", "X0,55NTRF", "749.05 EUR, its rows give 748.50 EUR and 1 unreadable lines"),
        (":61:261102", ":61:261340", "749.05 EUR, its rows give 748.50 EUR and 1 unreadable lines"),
    ],
)
def test_a_statement_that_does_not_tie_is_rejected_with_both_figures(tmp_path: Path, old: str, new: str, says: str) -> None:
    content = SAMPLE.replace(old, new) + SAMPLE.replace("00007", "00008")
    found = convert(tmp_path, content.encode(), "mt940")
    assert [control.ties for control in found.controls] == [False, True]
    assert len(found.good) == 3
    assert {row["statement"] for row in found.dicts} == {"00008/001"}
    assert says in found.problems[min(found.problems)]


def test_what_is_no_field_is_a_reject_by_its_line(tmp_path: Path) -> None:
    found = convert(tmp_path, ("-5,00 lost\n" + SAMPLE.replace(":25:", ":99X:what\n:25:").replace("more", "{more")).encode(), "mt940")
    assert found.problems[1] == "text outside a field of MT940"
    assert found.raw[8].splitlines()[1] == "{more"
    assert found.problems[4] == "no field of MT940 in a statement (:99X:)"


@pytest.mark.parametrize(("content", "says"), [(b"", "the file is empty"), (b"k,v\n", r"the first MiB has no statement \(:20:\)")])
def test_what_is_no_mt940_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(WrongInput, match=f"received: {says}"):
        convert(tmp_path, content, "mt940")


def test_a_sum_of_more_digits_than_usual_ties_exactly(tmp_path: Path) -> None:
    lines = [":61:261101C99999999999999,NTRF1", ":61:261101C0,0000000000001NTRF2", *[":61:261101C99999999999999,NTRF3"] * 10]
    text = ":20:R\n:25:A\n:28C:1\n:60F:C261031EUR0,\n{}\n:62F:C261101EUR{}\n".format("\n".join(lines), "{}")
    # A balance has 15 characters, so no balance ties to these lines; the figure in the reason is exact.
    found = convert(tmp_path, text.format("1,").encode(), "mt940")
    assert "its rows give 1099999999999989.0000000000001 EUR" in found.problems[5]


USUAL_LINES = st.from_regex(mt940.USUAL, fullmatch=True).map(str.strip) | st.from_regex(
    r"\A[0-9]{6}([0-9]{4}|[0-9]{2}|    )?R?[CDdc][A-Z]?[ \n]?[0-9,]{1,17}([A-Z][A-Z0-9 ]{3})?[a/\n]{0,18}(//[b/]{0,25})?(\n?c[\n/]*)?"
).map(str.strip)


@settings(max_examples=300, deadline=None)
@given(text=USUAL_LINES)
def test_the_usual_pattern_reads_a_line_as_the_librarys_does(text: str) -> None:
    usual, library = mt940.USUAL.match(text), tags.Statement().re.match(text)
    if usual:
        assert library is not None
        assert usual.groups("") == tuple(value or "" for value in library.group(*mt940.PARTS))


@dataclass
class Line:
    mark: str
    cents: int
    details: list[str] = field(default_factory=list)


def comma(cents: int) -> str:
    return f"{cents // 100},{cents % 100:02}"


def written(statements: list[list[Line]], opening: int) -> str:
    text = ""
    for number, lines in enumerate(statements):
        closing = opening + sum(line.cents if line.mark in ("C", "RD") else -line.cents for line in lines)
        text += f":20:R{number}\n:25:ACC\n:28C:{number}\n:60F:{'C' if opening >= 0 else 'D'}261031EUR{comma(abs(opening))}\n"
        for line in lines:
            text += f":61:261101{line.mark}{comma(line.cents)}NTRFREF\n"
            text += f":86:{chr(10).join(line.details)}\n" if line.details else ""
        text += f":62F:{'C' if closing >= 0 else 'D'}261101EUR{comma(abs(closing))}\n-\n"
    return text


LINES = st.builds(
    Line,
    mark=st.sampled_from(["C", "D", "RC", "RD"]),
    cents=st.integers(0, 10**11),
    details=st.lists(st.sampled_from(["x", "?20ü y", "a:b"]), max_size=2),
)


def converted(text: str) -> Converted:
    with tempfile.TemporaryDirectory() as folder:
        return convert(Path(folder), text.encode(), "mt940")


@settings(max_examples=80, deadline=None)
@given(
    statements=st.lists(st.lists(LINES, max_size=4), min_size=1, max_size=3),
    opening=st.integers(-(10**6), 10**6),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_what_was_written_is_read_and_ties(statements: list[list[Line]], opening: int, end: str) -> None:
    found = converted(written(statements, opening).replace("\n", end))
    assert (found.problems, [control.ties for control in found.controls]) == ({}, [True] * len(statements))
    expected = [(str(n), line) for n, lines in enumerate(statements) for line in lines]
    assert [(row["statement"], row["mark"], Decimal(row["amount"] or ""), row["details"]) for row in found.dicts] == [
        (n, line.mark, Decimal(line.cents if line.mark in ("C", "RD") else -line.cents) / 100, "\n".join(line.details) or None)
        for n, line in expected
    ]


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_damaged_file_gives_rows_or_an_error_and_loses_no_line(data: st.DataObject) -> None:
    text = list(SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from(list(":\n0,DCÄ\0-6")))
    content = "".join(text)
    try:
        found: Any = converted(content)
    except WrongInput as error:
        assert str(error).startswith("received: ")  # noqa: PT017
    else:
        lines = {number for number, line in enumerate(content.split("\n"), 1) if line.startswith(":61:")}
        assert lines <= {row.line for row in found.rows}
