"""Mistakes in ``sources/NAME.yaml`` are found when it is read, and named with line and field; not by the first file that arrives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sources_site import site


@pytest.mark.parametrize(
    ("account", "extra", "says"),
    [
        ("pattern: '(?=a)a'", "", "columns.account.pattern: '(?=a)a' is no regular expression"),
        ("min: x, type: 'decimal(5,2)'", "", "columns.account.min: 'x' is no decimal(5,2)"),
        ("max: 2026-13-01, type: date", "", "columns.account.max: '2026-13-01' is no date"),
        ("required: true", "drop: 'a;b'", "drop: 'a;b' has the delimiter in it"),
        ("required: true", "trailer: {prefix: 'Sum;'}", "trailer: 'Sum;' has the delimiter in it"),
        ("required: true", "expect: {files: [{name: x, from: '2026-13-01'}]}", "'2026-13-01' is no day; write it as 2026-11-01"),
    ],
)
def test_a_mistake_is_named_with_line_and_field(tmp_path: Path, account: str, extra: str, says: str) -> None:
    (error,) = site(tmp_path, account, extra).intake().broken.values()
    assert re.match(r".*bank\.yaml:\d+: ", str(error))
    assert says in str(error)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("format: csv", "bank.yaml:2: format: 'csv' is not one of 'delimited', 'fixed'"),
        ("format: delimited", "bank.yaml:2: format.header: is missing; write whether the first row names the columns"),
        ("{}", "bank.yaml: format: is missing; write what its files are, such as format: {kind: delimited, header: true} for CSV"),
    ],
)
def test_a_format_that_is_missing_or_not_known_says_what_to_write(tmp_path: Path, written: str, says: str) -> None:
    made = site(tmp_path, "required: true", "")
    (tmp_path / "sources" / "bank.yaml").write_text("files: 'bank_{day}.csv'\n" + ("" if written == "{}" else written + "\n"))
    (error,) = made.intake().broken.values()
    assert says in str(error)
