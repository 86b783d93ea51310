"""NACHA: each batch ties to its control record; a batch that does not is rejected, alone, with both figures."""

from __future__ import annotations

import gzip
import tempfile
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest
from converted import Converted, convert
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.errors import WrongInput
from recon.intake.converters import nacha

REAL = Path(__file__).parents[2] / "data" / "ach" / "PPD-200-batches-100000-entries.ach.gz"


@pytest.fixture(scope="module")
def real() -> bytes:
    return gzip.decompress(REAL.read_bytes())


def test_the_200_controls_of_a_real_file_tie(tmp_path: Path, real: bytes) -> None:
    found = convert(tmp_path, real, "nacha")
    assert [control.ties for control in found.controls] == [True] * 201
    assert len(found.good) == len(found.rows) == 100_199
    assert sum(Decimal(row["amount"] or "") for row in found.dicts) == Decimal("201233987.66")
    assert {row["direction"] for row in found.dicts} == {"credit"}
    assert found.dicts[0] | {"trace": "121042880000001", "amount": "1000000.00", "individual_name": "Wade Arnold"} == found.dicts[0]
    assert found.raw[3] == real.splitlines()[2].decode()


def test_one_changed_digit_rejects_exactly_that_batch_and_names_both_figures(tmp_path: Path, real: bytes) -> None:
    lines = real.splitlines(keepends=True)
    begins = [number for number, line in enumerate(lines) if line.startswith(b"5")]
    start, end = begins[56], begins[57]
    changed = bytearray(lines[start + 1])
    changed[38] = ord("7") if changed[38] != ord("7") else ord("8")  # the amount's last digit
    content = b"".join([*lines[: start + 1], bytes(changed), *lines[start + 2 :]])
    found = convert(tmp_path, content, "nacha")
    entries = [number + 1 for number in range(start, end) if lines[number].startswith(b"6")]
    assert sorted(found.problems) == entries
    assert [control.ties for control in found.controls].count(False) == 1
    wrong = next(control for control in found.controls if not control.ties)
    (reason,) = set(found.problems.values())
    assert wrong.declared != wrong.computed
    assert wrong.declared in reason
    assert wrong.computed in reason


# A writer in plain Python.


@dataclass
class Entry:
    code: int
    bank: int
    cents: int
    name: str = "Ann"
    addenda: list[str] = field(default_factory=list)

    def lines(self, number: int) -> list[str]:
        flag = int(bool(self.addenda))
        first = f"6{self.code:02}{self.bank:08}4{'acct':17}{self.cents:010}{'id':15}{self.name:22}{'':2}{flag}{number:015}"
        return [first, *(f"705{text:80}{place:04}{number:07}" for place, text in enumerate(self.addenda, 1))]


def control(entries: list[Entry], width: int) -> str:
    count = sum(1 + len(entry.addenda) for entry in entries)
    debits = sum(entry.cents for entry in entries if entry.code % 10 >= 5)
    credits = sum(entry.cents for entry in entries if entry.code % 10 < 5)
    return f"{count:0{width}}{sum(entry.bank for entry in entries) % 10**10:010}{debits:012}{credits:012}"


def written(batches: list[list[Entry]]) -> list[str]:
    lines = [f"101 {231380104:09} {121042882:09}2605081505A094101{'Bank':23}{'Us':23}{'':8}"]
    for number, entries in enumerate(batches, 1):
        lines.append(f"5200{'Zürich AG':16}{'':20}{'1210428820':10}PPD{'PAY':10}{'':6}260508   112104288{number:07}")
        for place, entry in enumerate(entries):
            lines += entry.lines(number * 1000 + place)
        lines.append(f"8200{control(entries, 6)}{'1210428820':10}{'':25}12104288{number:07}")
    every = [entry for entries in batches for entry in entries]
    lines.append(f"9{len(batches):06}{(len(lines) + 10) // 10:06}{control(every, 8)}{'':39}")
    assert {len(line) for line in lines} == {94}
    return lines + ["9" * 94] * (-len(lines) % 10)


ENTRIES = st.builds(
    Entry,
    code=st.sampled_from([21, 22, 23, 24, 25, 27, 29, 32, 37, 52, 55]),
    bank=st.integers(0, 10**8 - 1),
    cents=st.integers(0, 10**10 - 1),
    name=st.sampled_from(["Ann", "Zoë Ü", "Łukasz", ""]),
    addenda=st.lists(st.sampled_from(["INV 1", "ü  x", "7"]), max_size=3),
)
BATCHES = st.lists(st.lists(ENTRIES, min_size=1, max_size=4), min_size=1, max_size=4)


def converted(lines: list[str], end: str, size: int) -> Converted:
    original = nacha._BLOCK_BYTES
    nacha._BLOCK_BYTES = size
    try:
        with tempfile.TemporaryDirectory() as folder:
            return convert(Path(folder), "".join(line + end for line in lines).encode(), "nacha")
    finally:
        nacha._BLOCK_BYTES = original


@settings(max_examples=40, deadline=None)
@given(batches=BATCHES, end=st.sampled_from(["\n", "\r\n"]), strip=st.booleans(), size=st.sampled_from([95, 200, 1 << 20]))
def test_what_was_written_is_read_and_all_controls_tie(batches: list[list[Entry]], end: str, strip: bool, size: int) -> None:
    lines = written(batches)
    found = converted([line.rstrip() for line in lines] if strip else lines, end, size)
    assert found.problems == {}
    assert [control.ties for control in found.controls] == [True] * (len(batches) + 1)
    expected = [
        (
            f"{number:07}",
            "Zürich AG",
            f"{entry.code}",
            f"{entry.bank:08}4",
            str(Decimal(entry.cents).scaleb(-2)),
            entry.name,
            "\n".join(entry.addenda),
            "credit" if entry.code % 10 < 5 else "debit",
        )
        for number, entries in enumerate(batches, 1)
        for entry in entries
    ]
    columns = ("batch", "company_name", "transaction_code", "routing_number", "amount", "individual_name", "addenda", "direction")
    assert [tuple(row[column] for column in columns) for row in found.dicts] == [
        (*row[:4], f"{Decimal(row[4]):.2f}", *row[5:]) for row in expected
    ]
    assert [[line.rstrip() for line in found.raw[row.line].splitlines()] for row in found.rows] == raw_of(lines)


def raw_of(lines: list[str]) -> list[list[str]]:
    found: list[list[str]] = []
    for line in lines:
        if line[0] == "6":
            found.append([line.rstrip()])
        elif line[0] == "7":
            found[-1].append(line.rstrip())
    return found


@settings(max_examples=60, deadline=None)
@given(batches=BATCHES, data=st.data(), size=st.sampled_from([95, 1 << 20]))
def test_a_changed_digit_of_a_tied_figure_rejects_its_batch_alone(batches: list[list[Entry]], data: st.DataObject, size: int) -> None:
    lines = written(batches)
    numbers = [number for number, line in enumerate(lines) if line[0] in "68"]
    chosen = data.draw(st.sampled_from(numbers))
    place = data.draw(st.integers(29, 38) | st.integers(3, 10) if lines[chosen][0] == "6" else st.integers(4, 43) | st.integers(87, 93))
    digit = data.draw(st.sampled_from([digit for digit in "0123456789x" if digit != lines[chosen][place]]))
    lines[chosen] = lines[chosen][:place] + digit + lines[chosen][place + 1 :]
    found = converted(lines, "\n", size)
    begins = [number for number, line in enumerate(lines) if line[0] == "5"]
    batch = sum(begin < chosen for begin in begins)
    inside = {number + 1 for number, line in enumerate(lines) if line[0] == "6" and sum(begin < number for begin in begins) == batch}
    assert set(found.problems) == inside
    assert [control.ties for control in found.controls] == [number != batch for number in range(1, len(begins) + 2)]


def small(*changes: tuple[int, str | None]) -> list[str]:
    """Two batches of two entries, with lines (by number) replaced or, for None, left out."""
    lines: list[str | None] = list(written([[Entry(22, 1, 100, addenda=["a"]), Entry(27, 2, 200)], [Entry(22, 3, 300), Entry(22, 4, 400)]]))
    for number, line in changes:
        lines[number - 1] = line
    return [line for line in lines if line is not None]


SECOND = small()[6]


@pytest.mark.parametrize(
    ("lines", "problems", "controls"),
    [
        (small((4, None)), {3: "batch 0000001 does not tie", 4: "batch 0000001 does not tie"}, [False, True, True]),
        (small((6, None)), {3: "batch 0000001 has no control record", 5: "batch 0000001 has no control record"}, [True, True]),
        (small((2, None)), dict.fromkeys((2, 3, 4, 5), "outside a batch") | dict.fromkeys((7, 8), "the file does not tie"), [True, False]),
        (small((11, None)), dict.fromkeys((3, 5, 8, 9), "the file has no control record"), [True, True, False]),
        (small((5, "x" + small()[4][1:])), {3: "batch 0000001 does not tie", 5: "no record of a NACHA file"}, [False, True, True]),
        (small((5, small()[4] + "x")), {3: "batch 0000001 does not tie", 5: "more than 94 characters"}, [False, True, True]),
        (small((7, SECOND[:50] + "ADV" + SECOND[53:])), dict.fromkeys((8, 9), "an entry of an ADV batch"), [True, False, True]),
    ],
)  # fmt: skip
def test_what_is_missing_or_no_record_is_named(tmp_path: Path, lines: list[str], problems: dict[int, str], controls: list[bool]) -> None:
    found = convert(tmp_path, ("\n".join(lines)).encode(), "nacha")
    assert list(found.problems) == list(problems)
    assert [reason for line, reason in problems.items() if reason not in found.problems[line]] == []
    assert [control.ties for control in found.controls] == controls


def test_a_lost_batch_rejects_the_file(tmp_path: Path) -> None:
    found = convert(tmp_path, "\n".join(small(*((number, None) for number in range(7, 11)))).encode(), "nacha")
    (reason,) = set(found.problems.values())
    assert "the file does not tie: its control record has 2 batches, 5 entries" in reason
    assert "its records have 1 batches, 3 entries" in reason


def test_two_files_in_one_tie_each(tmp_path: Path) -> None:
    lines = [line for line in small() if set(line) != {"9"}]
    found = convert(tmp_path, "\n".join(lines * 2).encode(), "nacha")
    assert (len(found.good), [control.ties for control in found.controls]) == (8, [True] * 6)
    assert [row.span for row in found.rows] == [2, 1, 1, 1] * 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"k,v\n", "line 1: it does not begin with a file header"),
        ("".join(small()).encode(), "line 1 has 1,880 characters; expected records of 94"),
    ],
)
def test_what_is_no_nacha_file_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(WrongInput, match=f"received: {says}"):
        convert(tmp_path, content, "nacha")


def test_columns_that_nacha_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="received: a NACHA file has no column 'amonut'; did you mean 'amount'"):
        convert(tmp_path, "\n".join(small()).encode(), "nacha", ["trace", "amonut"])


def test_international_entries_have_their_account_elsewhere(tmp_path: Path) -> None:
    entry = Entry(22, 1, 100)
    lines = written([[entry]])
    lines[1] = lines[1][:50] + "IAT" + lines[1][53:]
    lines[2] = lines[2][:12] + f"{'0007':17}" + lines[2][29:39] + f"{'DE89370400440532013000':35}" + "    00" + lines[2][78:]
    lines[2] = lines[2][:74] + "    " + lines[2][78:]
    found = convert(tmp_path, "\n".join(line[:94] for line in lines).encode(), "nacha")
    assert found.dicts[0] | {"account": "DE89370400440532013000", "individual_name": "", "amount": "1.00"} == found.dicts[0]
