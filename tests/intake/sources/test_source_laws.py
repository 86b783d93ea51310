"""Laws of sources: every row of a delivered file is landed, rejected or superseded, whatever it is and wherever a process dies."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sources_site import RECON

import recon
from recon.api import Reconciliation
from recon.intake import batches
from recon.intake.manifests import read_manifest
from recon.intake.sources import process, receive
from recon.intake.sources.details import rejects
from recon.intake.sources.tracking import Tracking

SOURCE = """
files: "bank_{day}_{part}.csv"
delivery: snapshot
version: part
window: {part: day, format: "%Y%m%d"}
format: {kind: delimited, delimiter: ";", header: true, encoding: cp1252}
columns:
  account: {column: Konto, clean: [trim, upper], required: true}
  amount:
    column: Betrag
    type: decimal(18,2)
    clean: [trim, {blank: "-"}, parentheses, trailing_minus, {thousands: "."}, {decimal: ","}]
    required: true
drop: "Saldo"
"""
WINDOW = "2026-11-01T00:00Z"


def site(folder: Path, source: str = SOURCE) -> Reconciliation:
    (folder / "sources").mkdir(parents=True)
    (folder / "inbox").mkdir()
    (folder / "recon.yaml").write_text(RECON)
    (folder / "sources" / "bank.yaml").write_text(source)
    return recon.open(folder / "recon.yaml")


def put(folder: Path, part: int, rows: list[str]) -> None:
    (folder / "inbox" / f"bank_20261101_{part}.csv").write_bytes("\r\n".join(["Konto;Betrag", *rows]).encode("cp1252"))


def plain(row: str) -> tuple[str, Decimal] | None:
    """The account and amount of a line, by plain Python; None for a reject."""
    fields = row.split(";")
    if row.startswith("Saldo") or len(fields) != 2:
        return None
    account, text = fields[0].strip().upper(), fields[1].strip()
    if text.startswith("(") and text.endswith(")"):
        text = "-" + text[1:-1]
    if text.endswith("-"):
        text = "-" + text[:-1].rstrip()
    if re.fullmatch(r"[+-]?[0-9]{1,3}(\.[0-9]{3})+(,[0-9]+)?", text):
        text = text.replace(".", "")
    text = text.replace(",", ".") if re.fullmatch(r"[+-]?[0-9]*,[0-9]+", text) else text
    if not account or not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)", text):
        return None
    exact = Decimal(text)
    return (account, exact) if exact == round(exact, 2) and abs(exact) < Decimal(10) ** 16 else None


AMOUNTS = st.one_of(
    st.builds(lambda n: f"{n // 100},{n % 100:02}", st.integers(0, 10**9)),
    st.builds(lambda n: f"({n},50)", st.integers(1, 999)),
    st.builds(lambda n: f"{n},00-", st.integers(1, 999)),
    st.builds(lambda n, m: f"{n}.{m:03},25", st.integers(1, 999), st.integers(0, 999)),
    st.sampled_from(["1.234", "12.34", "1,2,3", "-", "", "abc", "1,005", "--1", "( 5 )", "99999999999999999,00", "1.000.000,10"]),
    st.sampled_from([" 7,00 ", "+3,10", "5,1-", ",5", "5,", "1.23,4", "(1.234,00)", "-1.234,5"]),
)
ROWS = st.lists(
    st.one_of(
        st.builds(lambda account, amount: f"{account};{amount}", st.sampled_from(["a1", " b2 ", "Ü3", "-5", ""]), AMOUNTS),
        st.sampled_from(["Saldo;1,00", "Saldo", "a;b;c", "only one", "-5;-5,00"]),
    ),
    min_size=1,
    max_size=25,
)


@settings(deadline=None, max_examples=12)
@given(ROWS)
def test_every_row_is_landed_as_plain_python_cleans_it_or_rejected_with_its_line(rows: list[str]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name) / "site"
        r = site(folder)
        put(folder, 1, rows)
        found = r.deliver(folder / "inbox")
        (file,) = found.files
        expected = [plain(row) for row in rows]
        kept = [row for row in expected if row is not None]
        assert (file.rows, file.kept, file.rejected_rows) == (len(rows), len(kept), len(rows) - len(kept))
        wrong = [(line, raw) for line, (raw, row) in enumerate(zip(rows, expected, strict=True), 2) if row is None]
        assert [(row["line"], row["raw"]) for row in rejects(r.intake(), file)] == wrong
        assert file.state == ("landed" if kept else "rejected")
        if kept:
            r.close(WINDOW)
            r.run()
            totals: dict[str, Decimal] = {}
            for account, amount in kept:
                totals[account] = totals.get(account, Decimal(0)) + amount
            assert {row["key"]: row["total"] for row in r.artifacts().to_pylist()} == totals


@settings(deadline=None, max_examples=4)
@given(st.permutations([1, 2, 3]), st.lists(st.integers(1, 3), max_size=4))
def test_the_newest_version_counts_in_any_order_of_delivery(order: list[int], again: list[int]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name) / "site"
        r = site(folder)
        for part in [*order, *again]:
            put(folder, part, [f"a1;{part},00", f"b{part};1,00"])
            r.deliver(folder / "inbox")
        states = {file.version: file.state for file in r.intake().tracking.files()}
        assert states == {1: "superseded", 2: "superseded", 3: "landed"}
        r.close(WINDOW)
        r.run()
        assert {row["key"]: row["total"] for row in r.artifacts().to_pylist()} == {"A1": Decimal(3), "B3": Decimal(1)}


class Killed(BaseException):
    """A SIGKILL, as far as the process can tell: nothing catches it."""


PLACES: list[tuple[Any, str]] = [
    (Tracking, "add"),
    (Tracking, "move"),
    (Tracking, "note_delivery"),
    (receive, "keep"),
    (batches, "land"),
]


def killing(number: int) -> tuple[list[Any], list[int]]:
    """Patches that end the process at the call ``number`` of any of the places, before it (even) or after it (odd)."""
    calls = [0]

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            at = calls[0] = calls[0] + 1
            if at * 2 == number:
                raise Killed
            result = real(*args, **named)
            if at * 2 + 1 == number:
                raise Killed
            return result

        return call

    return [patch.object(place, name, wrapped(getattr(place, name))) for place, name in PLACES], calls


def test_a_process_that_dies_between_any_two_steps_loses_and_doubles_nothing(tmp_path: Path) -> None:
    number, died = 2, 0
    while True:
        folder = tmp_path / str(number)
        r = site(folder)
        put(folder, 1, ["a1;1,00", "bad;x"])
        r.deliver(folder / "inbox")
        put(folder, 2, ["a1;2,00", "b2;5,00", "bad;x"])
        patches, calls = killing(number)
        for one in patches:
            one.start()
        try:
            r.deliver(folder / "inbox")
        except Killed:
            died += 1
        finally:
            patch.stopall()
        again = recon.open(folder / "recon.yaml")
        again.deliver(folder / "inbox")
        assert [(file.version, file.state) for file in again.intake().tracking.files()] == [(1, "superseded"), (2, "landed")], number
        manifest = read_manifest(again.store(), again.config.grid.parse(WINDOW))
        assert manifest is not None
        assert [(file.origin["file"], file.declared_rows) for file in manifest.files] == [("bank_20261101_2.csv", 2)], number
        if number > calls[0] * 2 + 1:
            break
        number += 1
    assert died >= 10


@pytest.mark.parametrize("failures", [2, 3])
def test_a_failure_that_may_pass_is_tried_three_times(tmp_path: Path, failures: int) -> None:
    r = site(tmp_path / "site")
    put(tmp_path / "site", 1, ["a1;1,00"])
    states = []
    with patch.object(process, "convert", side_effect=OSError(28, "No space left on device")):
        for _ in range(failures):
            r.deliver(tmp_path / "site" / "inbox")
            states.append(r.intake().tracking.files()[0].state)
    file = r.intake().tracking.files()[0]
    assert (file.state, file.tries) == ("rejected" if failures == 3 else "validated", failures)
    assert "No space left on device" in file.reason
    if failures == 3:
        r.intake().tracking.retried(file, "there is space again")
    r.deliver(tmp_path / "site" / "inbox")
    assert r.intake().tracking.files()[0].state == "landed"
