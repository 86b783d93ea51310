"""BAI2: accounts, groups and the file tie to their control records; one that does not is rejected alone."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from converted import Converted, convert
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.errors import WrongInput

SAMPLE = """01,BANK,US,261101,0600,1,80,,2/
02,US,BANK,1,261101,0600,USD,2/
03,0975312468,,010,500000,,,190,70000000,4,0/
88,100,50/
16,165,1500000,1,DD1620,,DEALER PAYMENTS
16,475,12345,V,261102,0930,BREF,CREF,CHECK 17, PAID/
88,second line
16,399,5,D,2,0,3,1,2,,,/
49,72012400,7/
03,77,JPY/
16,195,9,Z/
49,9,3/
98,72012409,2,12/
99,72012409,1,14/
"""


def test_a_transaction_is_a_row_with_its_continuations(tmp_path: Path) -> None:
    found = convert(tmp_path, SAMPLE.encode(), "bai2")
    assert (found.problems, [control.ties for control in found.controls]) == ({}, [True] * 4)
    columns = ("account", "currency", "type_code", "direction", "amount", "funds_type", "bank_reference", "customer_reference", "text")
    assert [tuple(row[column] for column in columns) for row in found.dicts] == [
        ("0975312468", "USD", "165", "credit", "15000.00", "1", "DD1620", None, "DEALER PAYMENTS"),
        ("0975312468", "USD", "475", "debit", "123.45", "V", "BREF", "CREF", "CHECK 17, PAID,second line"),
        ("0975312468", "USD", "399", "credit", "0.05", "D", None, None, None),
        ("77", "JPY", "195", "credit", "9", "Z", None, None, None),
    ]
    assert [(row.line, row.span) for row in found.rows] == [(5, 1), (6, 2), (8, 1), (11, 1)]
    assert found.dicts[0]["as_of_date"] == "261101"


@pytest.mark.parametrize(
    ("old", "new", "good", "says"),
    [
        ("16,165,1500000", "16,165,1500001", 1, "does not tie: total, records declared 72012400, 7, its rows give 72012401, 7"),
        ("49,72012400,7", "49,72012401,7", 1, "does not tie: total, records declared 72012401, 7, its rows give 72012400, 7"),
        ("16,399,5,D,2,0,3,1,2,,,/\n", "", 1, "does not tie: total, records declared 72012400, 7, its rows give 72012395, 6"),
        ("98,72012409,2,12", "98,72012409,3,12", 0, "group US does not tie: total, parts, records declared 72012409, 3, 12"),
        ("99,72012409,1,14", "99,72012408,1,14", 0, "file 1 does not tie"),
        ("99,72012409,1,14/\n", "", 0, "file 1: no control record; send the whole file again"),
        ("16,165,1500000,", "16,165,15x,", 1, "account 0975312468 does not tie"),
    ],
)  # fmt: skip
def test_what_does_not_tie_is_rejected_with_both_figures(tmp_path: Path, old: str, new: str, good: int, says: str) -> None:
    found = convert(tmp_path, SAMPLE.replace(old, new).encode(), "bai2")
    assert len(found.good) == good
    assert any(says in reason for reason in found.problems.values())
    assert sum(not control.ties for control in found.controls) == 1


def test_what_is_no_record_is_a_reject_by_its_line(tmp_path: Path) -> None:
    found = convert(tmp_path, SAMPLE.replace("49,9,3/\n", "49,9,3/\n17,1/\n16,195,1/\n").encode(), "bai2")
    assert found.problems[13] == "no record of a BAI2 file, '17'"
    assert found.problems[14] == "a transaction (16) outside an account (03)"


@pytest.mark.parametrize("code", ["²", "1" * 5000])
def test_a_type_code_that_is_no_number_is_a_reject(code: str, tmp_path: Path) -> None:
    found = convert(tmp_path, SAMPLE.replace("16,165,", f"16,{code},").replace(",D,2,", ",D,²,").encode(), "bai2")
    assert found.problems[5].startswith(f"a transaction (16) whose type {code[:20]!r}")


@pytest.mark.parametrize(
    ("content", "says"), [(b"", "the file is empty"), (b"k,v\n", r"line 1: it does not begin with a file header \(01\)")]
)
def test_what_is_no_bai2_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(WrongInput, match=f"received: {says}"):
        convert(tmp_path, content, "bai2")


def converted(text: str) -> Converted:
    with tempfile.TemporaryDirectory() as folder:
        return convert(Path(folder), text.encode(), "bai2")


def written(groups: list[list[list[tuple[int, list[str]]]]]) -> str:
    lines, file_total = ["01,B,U,261101,0600,1,,,2/"], 0
    for number, accounts in enumerate(groups):
        begin, group_total = len(lines), 0
        lines.append(f"02,U,B{number},1,261101,0600,USD,2/")
        for account, transactions in enumerate(accounts):
            start, total = len(lines), 10
            lines.append(f"03,A{account},,010,10,,/")
            for cents, texts in transactions:
                lines.append(f"16,475,{cents},0,,R,{texts[0] if texts else '/'}")
                lines += [f"88,{text}" for text in texts[1:]]
                total += cents
            lines.append(f"49,{total},{len(lines) + 1 - start}/")
            group_total += total
        lines.append(f"98,{group_total},{len(accounts)},{len(lines) + 1 - begin}/")
        file_total += group_total
    lines.append(f"99,{file_total},{len(groups)},{len(lines) + 1}/")
    return "\n".join(lines)


TRANSACTIONS = st.tuples(st.integers(0, 10**12), st.lists(st.sampled_from(["x", "a, b", "ü"]), max_size=3))


@settings(max_examples=80, deadline=None)
@given(groups=st.lists(st.lists(st.lists(TRANSACTIONS, max_size=3), max_size=3), max_size=3))
def test_what_was_written_is_read_and_ties(groups: list[list[list[tuple[int, list[str]]]]]) -> None:
    found = converted(written(groups))
    assert found.problems == {}
    assert [control.ties for control in found.controls] == [True] * (sum(len(accounts) + 1 for accounts in groups) + 1)
    assert [(row["amount"], row["text"]) for row in found.dicts] == [
        (f"{cents // 100}.{cents % 100:02}", "\n".join(texts) or None)
        for accounts in groups
        for transactions in accounts
        for cents, texts in transactions
    ]


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_damaged_file_gives_rows_or_an_error_and_loses_no_transaction(data: st.DataObject) -> None:
    text = list(SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from(list(",/\n019xÄ\0-")))
    content = "".join(text)
    try:
        found = converted(content)
    except WrongInput as error:
        assert str(error).startswith("received: ")  # noqa: PT017
    else:
        lines = {number for number, line in enumerate(content.split("\n"), 1) if line.startswith("16,")}
        assert lines <= {row.line for row in found.rows}
