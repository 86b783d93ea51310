"""Lines that are no rows: dropped lines and trailers; repeated values; what counts as a rejected row of a file."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from sources_site import deliver_one, site

from recon.intake.sources.details import rejects

WINDOW = "2026-11-01T00:00Z"
UNREADABLE = "1 without a readable number"


def test_a_row_that_repeats_a_unique_value_is_no_landed_row(tmp_path: Path) -> None:
    r = site(tmp_path, account="required: true, unique: true")
    file = deliver_one(r, "Konto;Betrag\na;1\na;2\nb;3\n")
    assert (file.state, file.rows, file.kept, file.rejected_rows) == ("landed", 3, 2, 1)
    r.close(WINDOW)
    r.run()
    assert {row["key"]: row["total"] for row in r.artifacts().to_pylist()} == {"a": Decimal(1), "b": Decimal(3)}


def test_a_repeated_row_does_not_say_the_window(tmp_path: Path) -> None:
    r = site(tmp_path, account="unique: true", extra="window: {column: account, format: '%Y%m%d'}", window="")
    text = "Konto;Betrag\n20261101;1\n20261101;2\n"
    assert deliver_one(r, text).window == WINDOW


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        ("x;Konto;Betrag\n1;a;1\nSum;1;1\n", ("landed", 1, 1, 0)),  # the first column is not among those that are kept
        ("Konto;Betrag\na;1\nSum;1;1,00\n", ("landed", 1, 1, 0)),  # more fields than the rows
        ('Konto;Betrag\na;1\n"Sum";"1"\n', ("landed", 1, 1, 0)),  # in quotes
        ("Konto;Betrag\na;1\n-- note\nSum;1\n", ("landed", 2, 1, 1)),  # a dropped line is no row
        ("Konto;Betrag\na;1\na;b;c\nSum;2\n", ("landed", 2, 1, 1)),  # a ragged row is
        ("Konto;Betrag\na;1\n-- note\nSum;2\n", ("rejected", 2, 1, 1)),
    ],
)
def test_a_trailer_is_found_by_the_beginning_of_its_line_and_counts_rows_alone(
    tmp_path: Path, text: str, figures: tuple[str, int, int, int]
) -> None:
    file = deliver_one(site(tmp_path, extra='trailer: {prefix: Sum, rows: 2}\ndrop: "--"'), text)
    assert (file.state, file.rows, file.kept, file.rejected_rows) == figures, file.reason


@pytest.mark.parametrize(
    ("amounts", "declared", "reason"),
    [
        (("10000000000000000000", "0.000000001"), "10000000000000000000.000000001", None),
        (("0.0000000004", "0.0000000004"), "0", "the rows have 0 and 2 without a readable number"),
        (("4e-10", "1"), "1", "the rows have 1 and 1 without a readable number"),
        (("0.5000000000000", "1"), "1.5", None),
    ],
)
def test_a_sum_of_a_trailer_is_not_rounded(tmp_path: Path, amounts: tuple[str, ...], declared: str, reason: str | None) -> None:
    r = site(tmp_path, extra="trailer: {prefix: Sum, sums: {amount: 2}}")
    rules = tmp_path / "sources" / "bank.yaml"
    rules.write_text(rules.read_text().replace('"decimal(18,2)", clean: [{decimal: ","}]', '"decimal(38,13)"'))
    file = deliver_one(r, "Konto;Betrag\n" + "".join(f"a;{amount}\n" for amount in amounts) + f"Sum;{declared}\n")
    assert (file.state, reason is None or reason in file.reason) == ("landed" if reason is None else "rejected", True), file.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("n;Konto;Betrag\n1;a;1\n--\nSum;;1,00\n", ""),
        ("n;Konto;Betrag\n1;a;1\n--\nSum;;1,00;;;\n", ""),
        (
            "n;Konto;Betrag\n1;a;1\n1;a\nSum;;1,00\n",
            "line 4: the trailer declares amount 1.00, the rows have 1 and 1 without a readable number",
        ),
    ],
)
def test_a_ragged_row_has_no_readable_number_a_dropped_line_and_a_trailer_are_no_rows(tmp_path: Path, text: str, reason: str) -> None:
    file = deliver_one(site(tmp_path, extra='trailer: {prefix: Sum, sums: {amount: 3}}\ndrop: "--"'), text)
    assert file.reason == reason


def test_a_line_is_dropped_by_its_own_beginning_and_not_by_that_of_another_column(tmp_path: Path) -> None:
    r = site(tmp_path, extra="drop: Sum")
    file = deliver_one(r, "x;Konto;Betrag\n1;Sum of a;1\nSum;b;7\n")
    assert (file.kept, file.rejected_rows) == (1, 1)
    (reject,) = rejects(r.intake(), file)
    assert (reject["line"], reject["reason"]) == (3, "the line begins with 'Sum', which the source drops")


@pytest.mark.parametrize("rule", ["rejects: file", "most_rejects: 0%"])
def test_a_dropped_line_is_no_rejected_row_of_its_file(tmp_path: Path, rule: str) -> None:
    assert deliver_one(site(tmp_path / "a", extra=f'{rule}\ndrop: "--"'), "Konto;Betrag\na;1\n--\n").state == "landed"
    file = deliver_one(site(tmp_path / "b", extra=f'{rule}\ndrop: "--"'), "Konto;Betrag\na;1\n--\na;x\n")
    assert file.state == "rejected"
    assert file.reason.startswith("1 of 2 rows are rejected")
