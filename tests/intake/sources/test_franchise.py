"""The franchise's files from a folder to certified figures: complete, replaced by longer deliveries, unchanged by repeated ones."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from franchise import DATA, WINDOW, arrive, made

import recon
from recon.api import Reconciliation
from recon.database import open as opening
from recon.engines.duckdb import window as reduction
from recon.errors import WrongInput
from recon.intake.sources.details import details, original
from recon.intake.sources.reconvert import reconvert
from recon.intake.sources.trial import attempt
from recon.operations.doctor.intake import examine
from recon.state.reduced import Figures
from recon.storage import layout


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return made(tmp_path)


def opened(site: Path) -> Reconciliation:
    return recon.open(site / "recon.yaml")


def sums(r: Reconciliation) -> dict[str, Decimal]:
    table = r.artifacts()
    return {name: sum(filter(None, table[name].to_pylist()), Decimal(0)) for name in ("sale", "tax", "discount")}


ALL = {"sale": Decimal("11550.00"), "tax": Decimal("10020.00"), "discount": Decimal("11220.00")}


def test_thirteen_files_close_their_window_and_come_to_the_known_figures(site: Path) -> None:
    arrive(site)
    r = opened(site)
    found = r.deliver(site / "inbox")
    assert (len(found.files), found.failed, found.closed) == (13, [], [WINDOW])
    assert {file.state for file in found.files} == {"landed"}
    assert sum(file.rows or 0 for file in found.files) == 106
    assert sum(file.kept or 0 for file in found.files) == 104
    r.run()
    assert sums(r) == ALL
    statuses = r.artifacts()["status"].to_pylist()
    assert (statuses.count("COMPLETE"), statuses.count("IGNORED")) == (38, 1)
    assert r.certificate(WINDOW) is not None


def test_junk_lines_are_rejected_with_line_and_text_and_a_foreign_vendor_is_reported(site: Path) -> None:
    arrive(site, "IL-311.tdf", "IL-1033.tdf")
    intake = opened(site).intake()
    r = opened(site)
    r.deliver(site / "inbox")
    junk = details(intake, intake.tracking.file("IL-311.tdf"))["rejects"]
    assert [(row["line"], row["raw"]) for row in junk] == [
        (3, "------ additional invalid data"),
        (4, "------ additional invalid data "),
    ]
    assert all("'------'" in row["reason"] for row in junk)
    foreign = intake.tracking.file("IL-1033.tdf")
    assert (foreign.kept, foreign.figures["reported"]["vendor: equals"]["rows"]) == (8, 8)
    assert "'v1023' is not v1033" in foreign.figures["reported"]["vendor: equals"]["first"][0]["message"]
    assert original(intake, foreign, 1).startswith("v1023\t")


def test_the_first_row_and_a_row_that_begins_with_a_minus_are_kept(site: Path) -> None:
    path = site / "sources" / "stores.yaml"
    path.write_text(path.read_text().replace("  vendor: {", "  change: drop\n  vendor: {"))
    (site / "inbox" / "IL-101.tdf").write_text(
        "-5.00\tv101\t-5.00\t4\ti1\t2016-06-01\ta\tb\tc\n2.00\tv101\t7.50\t4\ti1\t2016-06-01\ta\tb\tc\n"
    )
    r = opened(site)
    assert [(file.kept, file.rejected_rows) for file in r.deliver(site / "inbox").files] == [(2, 0)]
    r.close(WINDOW, "the test has only these files")
    r.run()
    assert sums(r)["sale"] == Decimal("2.50")


def test_a_longer_delivery_replaces_the_first_and_the_first_sent_again_changes_nothing(site: Path) -> None:
    arrive(site)
    r = opened(site)
    r.deliver(site / "inbox")
    r.run()
    path = site / "inbox" / "IL-101.tdf"
    first = path.read_bytes()
    path.write_bytes(first + b"v101\t1000.00\t4\ti999\t2016-06-01\ta\tb\tc\n")
    again = r.deliver(site / "inbox")
    assert [(file.name, file.state, file.kept) for file in again.files] == [("IL-101.tdf", "landed", 9)]
    r.run()
    longer = {**ALL, "sale": ALL["sale"] + 1000}
    assert sums(r) == longer
    tracking = r.intake().tracking
    assert [file.state for file in tracking.files(name="IL-101.tdf")] == ["superseded", "landed"]
    commit = r.status()["commit"]
    path.write_bytes(first)
    repeated = r.deliver(site / "inbox")
    assert (repeated.files, [file.state for file in repeated.again]) == ([], ["superseded"])
    r.run()
    assert (sums(r), r.status()["commit"]) == (longer, commit)


def test_a_missing_file_keeps_the_window_open_and_is_named(site: Path) -> None:
    arrive(site)
    (site / "inbox" / "IL-911.tdf").unlink()
    r = opened(site)
    found = r.deliver(site / "inbox")
    assert found.closed == []
    assert [arrival.name for arrival in found.open[WINDOW]] == ["IL-911.tdf"]
    assert r.run().windows == []
    arrive(site, "IL-911.tdf")
    assert r.deliver(site / "inbox").closed == [WINDOW]


def test_rows_are_traced_to_the_lines_of_the_received_file(site: Path) -> None:
    arrive(site)
    r = opened(site)
    r.deliver(site / "inbox")
    r.run()
    shown: dict[str, Any] = r.show("v311", "i201", "2016-06-01", events=True)
    found = {(event["file"], event["line"]) for part in shown["contributions"] for event in part["event_list"]}
    assert ("IL-311.tdf.parquet", 5) in found
    assert all(line not in (3, 4) for _, line in found)


def test_verify_names_received_bytes_and_rejected_rows_that_are_gone(site: Path) -> None:
    arrive(site, "IL-311.tdf")
    r = opened(site)
    r.deliver(site / "inbox")
    r.close(WINDOW, "the test has only these files")
    r.run()
    assert r.verify().problems == []
    file = r.intake().tracking.file("IL-311.tdf")
    (path,) = r.store().list(layout.received(file.digest))
    r.store().delete(path)
    r.store().delete(str(file.rejects))
    problems = "\n".join(r.verify().problems)
    assert "IL-311.tdf as received are gone" in problems
    assert "rejected of IL-311.tdf are gone" in problems


def test_a_copy_has_the_received_bytes_and_the_rejected_rows(site: Path, tmp_path: Path) -> None:
    arrive(site, "IL-311.tdf")
    r = opened(site)
    r.deliver(site / "inbox")
    r.close(WINDOW, "the test has only these files")
    r.run()
    r.copy(tmp_path / "copy")
    (site / "recon.yaml").write_text((site / "recon.yaml").read_text().replace("./store", str(tmp_path / "copy")))
    copied = opened(site)
    assert copied.verify().problems == []
    assert [row["line"] for row in copied.rejects().to_pylist()] == [3, 4]
    assert original(copied.intake(), copied.intake().tracking.file("IL-311.tdf"), 3).startswith("------")


def test_changed_rules_convert_landed_files_again_from_the_received_bytes(site: Path) -> None:
    arrive(site)
    r = opened(site)
    r.deliver(site / "inbox")
    r.run()
    shutil.rmtree(site / "inbox")
    rules = site / "sources" / "stores.yaml"
    rules.write_text(rules.read_text().replace("item: {required: true}", 'item: {required: true, values: ["i101", "i201"]}'))
    done = reconvert(opened(site).intake(), "stores")
    assert (len(done.changed), done.same, done.failed) == (13, 0, [])
    r = opened(site)
    r.run()
    assert set(r.artifacts()["key"].to_pylist()) == {key for key in r.artifacts()["key"].to_pylist() if "i301" not in key}
    assert all("i301" in row["raw"] for row in r.rejects().to_pylist() if not row["raw"].startswith("---"))
    assert reconvert(opened(site).intake(), "stores").same == 13


def test_rules_that_change_only_the_rejects_are_in_the_next_certificate(site: Path) -> None:
    arrive(site)
    r = opened(site)
    r.deliver(site / "inbox")
    r.run()
    rules = site / "sources" / "stores.yaml"
    rules.write_text(rules.read_text().replace('drop: "------"', 'drop: "------ additional"'))
    done = reconvert(opened(site).intake(), "stores")
    assert [file.name for file in done.changed] == ["IL-311.tdf"]
    r = opened(site)
    r.run()
    assert {row["reason"] for row in r.rejects().to_pylist()} == {"the line begins with '------ additional', which the source drops"}
    assert sums(r) == ALL


def test_what_became_of_a_file_can_be_read_though_a_source_has_a_mistake(site: Path) -> None:
    arrive(site, "IL-101.tdf")
    opened(site).deliver(site / "inbox")
    (site / "sources" / "other.yaml").write_text("files: x\n")
    assert [file.name for file in opened(site).intake().tracking.files()] == ["IL-101.tdf"]
    assert "other.yaml" in str(opened(site).deliver(site / "inbox").broken["other"])


def test_a_name_that_two_sources_match_fails_alone(site: Path) -> None:
    arrive(site)
    text = (site / "sources" / "stores.yaml").read_text()
    (site / "sources" / "first.yaml").write_text(text.replace('"IL-{store}.tdf"', '"IL-1{store}.tdf"').partition("expect:")[0])
    found = opened(site).deliver(site / "inbox")
    assert {name for name, _ in found.failed} == {"IL-101.tdf", "IL-1011.tdf", "IL-1022.tdf", "IL-1033.tdf", "IL-1044.tdf", "IL-111.tdf"}
    assert all("matches the sources first and stores" in reason for _, reason in found.failed)
    assert len(found.files) == 7


def test_trying_a_source_makes_neither_store_nor_database_and_proposes_an_encoding(site: Path) -> None:
    path = site / "IL-101.tdf"
    path.write_bytes("v101\t5.00\t4\tGebühr für Müller\t2016-06-01\ta\tb\tc\n".encode("cp1252") * 30)
    with pytest.raises(WrongInput, match=r"byte 15.*looks like encoding: cp125"):
        attempt(opened(site).intake(), path, None, 5)
    path.write_bytes((DATA / "IL-101.tdf").read_bytes())
    assert attempt(opened(site).intake(), path, None, 5)["kept"] == 8
    assert not (site / "store").exists()
    assert not (site / ".recon").exists()


def test_the_version_may_be_in_a_column(site: Path) -> None:
    rules = site / "sources" / "stores.yaml"
    text = rules.read_text().replace("delivery: snapshot", "delivery: snapshot\nversion: {column: delivery}").partition("expect:")[0]
    rules.write_text(text.replace("filler1: drop", "delivery: text"))
    r = opened(site)
    states = []
    for version, amount in (("2", "7.00"), ("10", "9.00"), ("9", "8.00")):
        (site / "inbox" / "IL-101.tdf").write_text(f"v101\t{amount}\t4\ti1\t2016-06-01\t{version}\tb\tc\n")
        states += [file.state for file in r.deliver(site / "inbox").files]
    assert states == ["landed", "landed", "superseded"]
    r.close(WINDOW, "the test has only these files")
    r.run()
    assert sums(r)["sale"] == Decimal("9.00")
    (site / "inbox" / "IL-111.tdf").write_text("v111\t1.00\t4\ti1\t2016-06-01\tx\tb\tc\n")
    assert "expected one whole number" in r.deliver(site / "inbox").files[0].reason


def test_doctor_says_how_the_database_and_the_store_differ(site: Path) -> None:
    arrive(site)
    r = opened(site)
    r.deliver(site / "inbox")
    assert [finding.there for finding in examine(r.config)] == [True]
    shutil.copytree(site / ".recon", site / "backup")
    (site / "inbox" / "IL-101.tdf").write_bytes((DATA / "IL-101.tdf").read_bytes() + b"v101\t1.00\t4\ti9\t2016-06-01\ta\tb\tc\n")
    r.deliver(site / "inbox")
    opening._opened.cache_clear()
    shutil.rmtree(site / ".recon")
    shutil.copytree(site / "backup", site / ".recon")
    (finding,) = examine(opened(site).config)
    assert not finding.there
    assert "IL-101.tdf landed in 2016-06-01T00:00Z, but its window lacks it" in finding.told
    assert "IL-101.tdf is in window 2016-06-01T00:00Z, but not tracked" in finding.told
    opened(site).deliver(site / "inbox")
    assert [finding.there for finding in examine(opened(site).config)] == [True]


def test_verify_names_a_commit_that_leaves_out_what_a_source_rejected(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrive(site, "IL-311.tdf")
    r = opened(site)
    r.deliver(site / "inbox")
    r.close(WINDOW, "the test has only these files")
    with monkeypatch.context() as lying:
        lying.setattr(Figures, "source_rejected", 0)
        r.run()
    assert any("source_rejected" in problem for problem in r.verify().problems)


@pytest.mark.parametrize("lie", [{"rejected": 0}, {"rows": 9}, {"digest": "ab" * 32}, {"file": "IL-101.tdf"}])
def test_verify_compares_what_a_source_received_with_the_manifest(site: Path, monkeypatch: pytest.MonkeyPatch, lie: dict[str, Any]) -> None:
    """A reduction that counted another received file, or other figures of it, than the window's manifest names."""
    arrive(site, "IL-311.tdf")
    r = opened(site)
    r.deliver(site / "inbox")
    r.close(WINDOW, "the test has only these files")
    real = reduction._file_figures

    def lying(file: Any, rows: Any) -> dict[str, Any]:
        told = real(file, rows)
        assert told["origin"].items() >= {"file": "IL-311.tdf", "rejected": 2}.items()
        return {**told, "origin": {**told["origin"], **lie}}

    with monkeypatch.context() as patch:
        patch.setattr(reduction, "_file_figures", lying)
        r.run()
    (problem,) = [found for found in r.verify().problems if "figures.json" in found]
    assert "the reduced files are not those of the manifest of revision 2" in problem
