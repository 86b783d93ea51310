"""Small inputs from the field, each in a folder of ``data/cases``: what the reader makes of them, through the whole pipeline."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from folders import CASES

import recon
from recon.cli import main
from recon.errors import TryAgain, WrongInput, WrongUsage
from recon.intake import batches, same_bytes

WINDOW = "2026-11-01T00:00Z"
Site = Callable[..., recon.Reconciliation]


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A copy of a case's folder, which becomes the working directory, opened."""

    def opened(name: str, config: str = "recon.yaml") -> recon.Reconciliation:
        shutil.copytree(CASES / name, tmp_path / name)
        monkeypatch.chdir(tmp_path / name)
        return recon.open(config)

    return opened


def land(site: recon.Reconciliation, *files: str, window: str = WINDOW, close: bool = True) -> None:
    site.land(list(files), window, close=close)


def shown(site: recon.Reconciliation) -> dict[str, dict[str, Any]]:
    """Key → its row of the export, as text."""
    return {
        row["key"]: {name: None if value is None else str(value) for name, value in row.items()} for row in site.artifacts().to_pylist()
    }


def rejected(site: recon.Reconciliation) -> list[tuple[int, str]]:
    return [(row["line"], row["reason"]) for row in site.rejects().to_pylist()]


def certified(site: recon.Reconciliation) -> dict[str, Any]:
    certificate = site.certificate(WINDOW)
    assert certificate is not None
    assert certificate["ties"] is True
    return certificate


def test_json_renamed_field(case: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site = case("json-renamed-field")
    with pytest.raises(WrongInput) as refused:
        land(site, "invoices.csv", "credits-v1.jsonl", "payments-v2.jsonl")
    assert str(refused.value) == (
        "payments-v2.jsonl: no line has a member 'amount'; did you mean 'line_amount'? "
        "it has: event_id, order_id, event_type, line_amount, currency"
    )
    assert site.status()["windows"] == []
    Path("both.jsonl").write_bytes(Path("credits-v1.jsonl").read_bytes() + Path("payments-v2.jsonl").read_bytes())
    land(site, "invoices.csv", "both.jsonl")
    site.run()
    assert shown(site)["A"]["status"] == "MATCHED"
    assert certified(site)["stages"]["reduce"]["without_amount"] == {"amount": 2}
    assert main(["certificate", WINDOW]) == 0
    assert "2 accepted rows have no amount\n" in capsys.readouterr().out
    assert site.verify(full=True).ok


def test_json_duplicate_members(case: Site) -> None:
    site = case("json-duplicate-members")
    land(site, "payments.jsonl")
    site.run()
    assert rejected(site) == [(1, "member 'amount' twice"), (2, "member 'amount' twice")]
    assert {key: row["paid"] for key, row in shown(site).items()} == {"C": "10.00"}
    assert certified(site)["stages"]["reduce"]["unreadable"] == {"amount": 2}


def test_nan_in_json_lines(case: Site) -> None:
    site = case("nan-in-json-lines")
    land(site, "p.jsonl")
    site.run()
    assert rejected(site) == [
        (2, "amount: NaN is not JSON; write null where there is no value"),
        (3, "a byte order mark in the middle of the file; remove it where files were put together"),
    ]
    paid = {key: row["paid"] for key, row in shown(site).items()}
    assert paid["A"] == "10.50"
    assert (paid["9007199254740993"], paid["9007199254740992"]) == ("1234567890123456.78", "1.00")
    assert certified(site)["in"]["rows"] == 7


def test_every_row_rejected(case: Site) -> None:
    site = case("every-row-rejected")
    land(site, "trailing.csv")
    site.run()
    assert rejected(site) == [(2, "5 fields, the header has 4"), (3, "5 fields, the header has 4")]
    assert certified(site)["rejected"]["rows"] == 2


def test_float_ids_in_parquet(case: Site) -> None:
    site = case("float-ids-in-parquet")
    land(site, "invoices.csv", "payments.parquet", "oracle.parquet")
    site.run()
    statuses = {key: row["status"] for key, row in shown(site).items()}
    assert statuses == {"5678901234567": "MATCHED", "4500001234": "MATCHED", "4500001235": "MATCHED"}
    assert rejected(site) == [(3, "order_id: the key is empty")]


@pytest.mark.parametrize("value", [0.5, 2.0**53, -(2.0**60), float("nan"), float("inf")])
def test_a_float_id_whose_digits_are_not_known_is_refused_at_landing(case: Site, value: float) -> None:
    site = case("float-ids-in-parquet")
    row = {"event_id": ["P1"], "event_type": ["PAYMENT"], "amount": ["1.00"], "currency": ["EUR"]}
    pq.write_table(pa.table({**row, "order_id": [value]}), "bad.parquet")
    with pytest.raises(WrongInput) as refused:
        land(site, "bad.parquet")
    assert str(refused.value) == (
        f"bad.parquet: column 'order_id' is double and is used as text, but holds {value!r}, which is no whole number below 2^53; "
        "write the column as text or as whole numbers"
    )


@pytest.mark.parametrize("name", ["padded.csv.gz", "members.csv.gz", "frames.csv.zst", "skip-first.csv.zst", "skip-end.csv.zst"])
def test_compressed_oddities(case: Site, name: str) -> None:
    site = case("compressed-oddities")
    judge = ["gzip", "-t", name] if name.endswith("gz") else ["zstd", "-t", "-q", name]
    assert subprocess.run(judge, check=False).returncode == 0
    land(site, name)
    site.run()
    assert {"A", "B"} <= {*shown(site)}
    assert rejected(site) == []


@pytest.mark.parametrize("name", ["cut.csv.gz", "two-members-cut.csv.gz"])
def test_compressed_files_that_are_cut_are_refused(case: Site, name: str) -> None:
    site = case("compressed-oddities")
    with pytest.raises(WrongInput, match=f"{name}: the gzip data is cut off; transfer the file again"):
        land(site, name)


@pytest.mark.parametrize("name", ["excel.csv", "twice-unused.csv"])
def test_empty_trailing_columns(case: Site, name: str) -> None:
    site = case("empty-trailing-columns")
    land(site, name)
    site.run()
    assert {key: row["paid"] for key, row in shown(site).items()} == {"A": "10.00", "B": "20.00"}
    assert rejected(site) == []


def test_a_column_that_is_used_may_not_be_there_twice(case: Site) -> None:
    site = case("empty-trailing-columns")
    Path("twice.csv").write_text("event_id,order_id,amount,amount,currency\nP1,A,1.00,2.00,EUR\n")
    with pytest.raises(WrongInput, match=r"twice.csv: line 1: the header has column 'amount' twice"):
        land(site, "twice.csv")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("blank-first.csv", "line 1 is blank and the header is line 2; remove that line, so that the header is the first line"),
        ("sep.csv", "line 1 is 'sep=,' and the header is line 2; remove that line, so that the header is the first line"),
        (
            "preamble.csv",
            """line 1 is '"Account:","DE00 0000"' and the header is line 5; remove lines 1 to 4, so that the header is the first line""",
        ),
    ],
)
def test_lines_above_the_header_are_refused_with_what_to_do(case: Site, name: str, says: str) -> None:
    site = case("preamble-and-total-line")
    with pytest.raises(WrongInput) as refused:
        land(site, name)
    assert str(refused.value) == f"{name}: {says}"


def test_a_short_total_line_is_rejected(case: Site) -> None:
    site = case("preamble-and-total-line")
    land(site, "total-short.csv")
    site.run()
    assert rejected(site) == [(4, "1 field, the header has 4")]


@pytest.mark.parametrize("config", ["recon.yaml", "with-time.yaml"])
def test_minor_units_and_epoch(case: Site, config: str) -> None:
    site = case("minor-units-and-epoch", config)
    if config == "with-time.yaml":
        text = Path(config).read_text().replace("fee: integer}", 'fee: integer, created: "epoch(s)"}')
        Path(config).write_text(text)
        site = recon.open(config)
    land(site, "balance.jsonl")
    site.run()
    rows = shown(site)
    assert [(key, row["gross"]) for key, row in sorted(rows.items())] == [("ch_1", "0.000"), ("ch_2", "1500.000"), ("ch_3", "12.345")]
    assert rejected(site) == []
    if config == "with-time.yaml":
        events = site.show("ch_1", events=True)["contributions"][0]["event_list"]
        assert [event["time"] for event in events] == ["2026-11-01T00:00:00+00:00", "2026-11-02T00:00:00+00:00"]
        assert site.verify(full=True).ok


def test_an_epoch_is_no_time_without_its_type(case: Site) -> None:
    site = case("minor-units-and-epoch", "with-time.yaml")
    land(site, "balance.jsonl")
    site.run()
    assert rejected(site)[0] == (1, "created: '1793491200' is not a time such as 2026-11-01T09:30:00Z")


def test_years_1_and_9999_go_all_the_way(case: Site, tmp_path: Path) -> None:
    """From times of 96 bits, whose nanoseconds overflow, to the export, and the same again from the events."""
    site = case("float-ids-in-parquet")
    config = Path("recon.yaml").read_text().replace("id: event_id", "id: event_id, time: booked_at, zone: UTC")
    config = config.replace(
        "measures:\n",
        "measures:\n  opened: {first: amount}\n  earliest: {min: booked_at}\n  latest: {max: booked_at}\n  day: {max: booked_at}\n",
    )
    Path("recon.yaml").write_text(config)
    site = recon.open("recon.yaml")
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    table = pa.table(
        {
            "event_id": ["1", "2"],
            "order_id": ["A", "A"],
            "event_type": ["INVOICE", "INVOICE"],
            "amount": ["2.00", "1.00"],
            "currency": ["EUR", "EUR"],
            "booked_at": pa.array([last, first], pa.timestamp("us", "UTC")),
        }
    )
    pq.write_table(table, "old.parquet", use_deprecated_int96_timestamps=True)
    land(site, "old.parquet")
    site.run()
    (row,) = site.artifacts().to_pylist()
    assert (row["earliest"], row["latest"], str(row["opened"])) == (first, last, "1.00")
    assert site.show("A")["measures"]["latest"].startswith("9999-12-31T23:59:59.999999")
    assert site.verify(full=True).ok


def test_same_statement_again(case: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site = case("same-statement-again")
    land(site, "statement-1101.csv")
    arguments = ["land", "statement-1101.csv", "-w", "2026-11-02T00:00Z", "--close"]
    assert main(arguments) == 2
    assert capsys.readouterr().err == (
        "recon: statement-1101.csv: the same bytes landed in window 2026-11-01T00:00Z already; take them back there with "
        "'recon unland', or say --again if they are to be in both\n"
    )
    assert [window["window"] for window in site.status()["windows"]] == [WINDOW]
    with pytest.raises(WrongUsage, match=r"landed in window 2026-11-01T00:00Z already"):
        land(site, "statement-1101.csv", window="2026-11-02T00:00Z")
    land(site, "statement-1101.csv")  # the same window: nothing to do
    assert main([*arguments, "--again"]) == 0
    assert len(site.status()["windows"]) == 2
    site.run()
    assert shown(site)["ACC"]["moved"] == "2988.80"
    with pytest.raises(WrongUsage, match=r"landed in windows 2026-11-01T00:00Z, 2026-11-02T00:00Z already"):
        land(site, "statement-1101.csv", window="2026-11-03T00:00Z")


def test_bytes_that_were_taken_back_may_land_in_another_window(case: Site) -> None:
    site = case("same-statement-again")
    land(site, "statement-1101.csv", close=False)
    site.unland("statement-1101.csv", WINDOW, "a wrong window")
    land(site, "statement-1101.csv", window="2026-11-02T00:00Z")
    assert site.status("2026-11-02T00:00Z")["files"]


def test_the_same_bytes_in_another_window_are_found_in_a_copy_of_the_store(case: Site, tmp_path: Path) -> None:
    site = case("same-statement-again")
    land(site, "statement-1101.csv")
    site.run()
    site.copy(str(tmp_path / "copy"))
    text = Path("recon.yaml").read_text().replace("./data", str(tmp_path / "copy"))
    Path("copied.yaml").write_text(text)
    with pytest.raises(WrongUsage, match=r"landed in window 2026-11-01T00:00Z already"):
        land(recon.open("copied.yaml"), "statement-1101.csv", window="2026-11-02T00:00Z")


def test_the_same_bytes_that_are_landing_in_another_window_are_not_landed_beside(case: Site) -> None:
    """As where two land them at once: each has put its note, and none its manifest."""
    site = case("same-statement-again")
    digest = batches.file_digest(Path("statement-1101.csv"))
    store = site.store(create=True)
    same_bytes.note(store, site.config.grid.parse("2026-11-03T00:00Z"), digest)
    with pytest.raises(TryAgain, match="the same bytes are landing in window 2026-11-03T00:00Z just now"):
        land(site, "statement-1101.csv")
    assert site.status()["windows"] == []


def test_what_was_refused_leaves_no_note_and_the_same_file_again_is_nothing_new(case: Site) -> None:
    site = case("same-statement-again")
    land(site, "statement-1101.csv")
    with pytest.raises(WrongUsage, match="already"):
        land(site, "statement-1101.csv", window="2026-11-02T00:00Z")
    assert len(list(site.store().list("landings/bytes/"))) == 1
    site.land(["statement-1101.csv"], "2026-11-02T00:00Z", again=True)
    before = site.status("2026-11-02T00:00Z")["landed_revision"]
    site.land(["statement-1101.csv"], "2026-11-02T00:00Z")  # without again: this window holds it
    assert site.status("2026-11-02T00:00Z")["landed_revision"] == before
