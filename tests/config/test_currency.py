"""Currencies: no measure adds two of them up, and an artifact with more than one says so."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cases import case
from cli_calls import command

from recon.config import load_config
from recon.errors import WrongUsage

TEXT = """\
name: orders
store: ./data
key: order_id
windows: {start: 2026-11-01T00:00Z, every: 1h}
events: {types: {amount: "decimal(18,2)"}, id: event_id, time: booked_at, currency: currency}
measures: {paid: {sum: amount}, smallest: {min: amount}, latest: {last: amount}, kind: {last: event_type}, lines: {count: "*"}}
derived: {double: "paid * 2"}
status: [{PAID: "coalesce(paid, 0) > 0"}, {OPEN: "true"}]
control: {rows: {count: "*"}, amount: {sum: amount, by: currency}}
"""
W = [f"2026-11-01T{hour:02d}:00Z" for hour in range(4)]


def land(folder: Path, r: object, hour: int, *rows: str) -> None:
    path = folder / f"h{hour}-{abs(hash(rows))}.csv"
    path.write_text("\n".join(["event_id,order_id,event_type,amount,currency,booked_at", *rows]) + "\n")
    r.land([path], W[hour], close=True, again=True)  # type: ignore[attr-defined]
    r.run()  # type: ignore[attr-defined]


def test_an_artifact_with_two_currencies_says_so_and_adds_none_up(tmp_path: Path) -> None:
    r = case(tmp_path, text=TEXT)
    land(tmp_path, r, 0, "1,A,PAY,10.00,EUR,2026-11-01T00:01:00Z", "2,B,PAY,5.00,USD,2026-11-01T00:02:00Z")
    assert (r.show("A")["status"], r.show("A")["measures"]["paid"], r.show("A")["currencies"]) == ("PAID", "10.00", ["EUR"])
    land(tmp_path, r, 1, "3,A,FEE,7.00,USD,2026-11-01T01:00:00Z", "4,A,PAY,2.00,EUR,2026-11-01T01:01:00Z")
    shown = r.show("A")
    assert (shown["status"], shown["derived"]) == ("MIXED_CURRENCY", {"double": None})
    assert shown["measures"] == {"paid": None, "smallest": None, "latest": None, "kind": "PAY", "lines": 3}
    assert shown["by_currency"] == {
        "EUR": {"paid": "12.00", "smallest": "2.00", "latest": "2.00", "kind": "PAY", "lines": 2},
        "USD": {"paid": "7.00", "smallest": "7.00", "latest": "7.00", "kind": "FEE", "lines": 1},
    }
    first, second = shown["contributions"]
    assert (first["currencies"], first["measures"]["paid"]) == (["EUR"], "10.00")
    assert (second["currencies"], second["measures"]["paid"], second["measures"]["lines"]) == (["EUR", "USD"], None, 2)
    assert r.show("A", through=W[0])["status"] == "PAID"
    assert "by_currency" not in r.show("A", through=W[0])
    assert r.state().totals["statuses"] == {"MIXED_CURRENCY": 1, "PAID": 1}
    assert r.verify(full=True).ok


def test_no_total_of_a_window_goes_over_two_currencies(tmp_path: Path) -> None:
    r = case(tmp_path, text=TEXT)
    land(tmp_path, r, 0, "1,A,PAY,10.00,EUR,2026-11-01T00:01:00Z", "2,B,PAY,5.00,USD,2026-11-01T00:02:00Z")
    certificate = r.certificate(W[0])
    assert certificate is not None
    assert certificate["measures"] == {"lines": "2"}
    assert certificate["in"]["amount"] == {"EUR": "10.00", "USD": "5.00"}


def test_an_empty_currency_is_one_of_its_own(tmp_path: Path) -> None:
    r = case(tmp_path, text=TEXT)
    land(tmp_path, r, 0, "1,A,PAY,10.00,,2026-11-01T00:01:00Z")
    assert (r.show("A")["status"], r.show("A")["currencies"]) == ("PAID", [""])
    land(tmp_path, r, 1, "2,A,PAY,10.00,EUR,2026-11-01T00:01:00Z")
    shown = r.show("A")
    assert (shown["status"], shown["currencies"], list(shown["by_currency"])) == ("MIXED_CURRENCY", ["", "EUR"], ["", "EUR"])


def test_a_suppressed_event_does_not_make_an_artifact_mixed_and_a_correction_takes_it_back(tmp_path: Path) -> None:
    r = case(tmp_path, text=TEXT)
    land(tmp_path, r, 0, "1,A,PAY,10.00,EUR,2026-11-01T00:01:00Z")
    land(tmp_path, r, 1, "1,A,PAY,10.00,USD,2026-11-01T00:01:00Z")
    assert (r.show("A")["status"], r.show("A")["currencies"]) == ("PAID", ["EUR"])
    certificate = r.certificate(W[1])
    assert certificate is not None
    assert certificate["conflicts"]["earlier"] == {W[0]: 1}
    land(tmp_path, r, 2, "2,A,PAY,1.00,USD,2026-11-01T02:01:00Z")
    assert r.show("A")["status"] == "MIXED_CURRENCY"
    (name,) = [path.name for path in tmp_path.glob("h2-*.csv")]
    r.unland(name, W[2], "a test")
    r.run()
    assert (r.show("A")["status"], r.show("A")["measures"]["paid"]) == ("PAID", "10.00")
    assert r.verify(full=True).ok


def test_exports_have_the_currency(tmp_path: Path) -> None:
    r = case(tmp_path, text=TEXT)
    land(
        tmp_path,
        r,
        0,
        "1,A,PAY,10.00,EUR,2026-11-01T00:01:00Z",
        "2,A,PAY,5.00,USD,2026-11-01T00:02:00Z",
        "3,B,PAY,5.00,USD,2026-11-01T00:02:00Z",
    )
    r.export(tmp_path / "all.parquet")
    rows = pq.read_table(tmp_path / "all.parquet").to_pylist()
    assert [(row["key"], row["status"], row["currency"], row["paid"] is None) for row in rows] == [
        ("A", "MIXED_CURRENCY", "EUR, USD", True),
        ("B", "PAID", "USD", False),
    ]


def test_the_command_shows_measures_by_currency_and_the_template_names_the_currency(tmp_path: Path) -> None:
    r = case(tmp_path / "own", text=TEXT)
    land(tmp_path, r, 0, "1,A,PAY,10.00,EUR,2026-11-01T00:01:00Z", "2,A,PAY,5.00,USD,2026-11-01T00:02:00Z")
    screen = command("show", "A", cwd=tmp_path / "own").stdout
    assert "MIXED_CURRENCY" in screen
    assert "in EUR" in screen
    assert "in USD" in screen
    assert json.loads(command("show", "A", "--json", cwd=tmp_path / "own").stdout)["by_currency"]["USD"]["paid"] == "5.00"
    assert command("init", "new", cwd=tmp_path).returncode == 0
    assert load_config(tmp_path / "new" / "recon.yaml").events.currency == "currency"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("currency: currency}", "currency: booked_at}", "is the time already"),
        ("currency: currency}", "currency: currency, types: {currency: integer}}", "a currency is text"),
        ("{paid:", "{currency: {max: event_type}, paid:", "'currency' is a column of every export"),
    ],
)
def test_what_is_no_currency_is_refused(tmp_path: Path, old: str, new: str, what: str) -> None:
    text = TEXT.replace('types: {amount: "decimal(18,2)"}, ', "").replace("{sum: amount}", '{count: "*"}') if "types" in new else TEXT
    path = tmp_path / "recon.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(WrongUsage, match=what):
        load_config(path)
