"""Files that are rejected and not corrected are named by every delivery and by the status; a source that stops stays stopped."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from cli_calls import Answer, Call
from sources_site import deliver_one, inbox, site

import recon as library
from recon.api import Reconciliation
from recon.database import open_database

GOOD, BAD = "Konto;Betrag\na;1\n", "Konto;Betrag\na;1\n;2\n"
DAY = "day: {column: Tag, required: true}"
GOOD_DAY = "Konto;Betrag;Tag\na;1;2026-11-01\n"
BAD_DAY = GOOD_DAY + ";2;2026-11-01\n"
OTHER = GOOD.replace("a;", "b;")


def land(recon: Call, r: Reconciliation, *options: str) -> Answer:
    return recon("land", "--from", str(inbox(r)), *options, "--config", str(r.config.path))


def states(r: Reconciliation) -> dict[str, str]:
    return {file.name: file.state for file in r.intake().tracking.files()}


def test_a_rejected_file_that_stays_in_the_inbox_is_named_by_each_delivery(tmp_path: Path, recon: Call) -> None:
    r = site(tmp_path, extra="rejects: file")
    (inbox(r) / "bank_20261101_1.csv").write_text(BAD)
    first, second = land(recon, r), land(recon, r)
    assert (first.status, second.status) == (1, 1)
    assert "no new files; 1 file of the inbox rejected earlier" in second.out
    for said in (first, second):
        assert "'recon files show 1' has the rows, 'recon files retry 1' takes it up again, 'recon files discard 1' gives it up" in said.err
    assert [file["id"] for file in json.loads(land(recon, r, "--json").out)["rejected"]] == [1]


def test_a_file_that_is_refused_whole_has_no_rows_to_show(tmp_path: Path, recon: Call) -> None:
    r = site(tmp_path)
    (inbox(r) / "bank_20261101_1.csv").write_bytes(b"")
    said = land(recon, r)
    assert said.status == 1
    assert "has the rows" not in said.err
    assert "'recon files retry 1'" in said.err


def test_a_file_of_the_inbox_that_was_corrected_or_replaced_is_not_named(tmp_path: Path, recon: Call) -> None:
    r = site(tmp_path, extra="rejects: file")
    for text, status in ((BAD, 1), (GOOD, 0), (GOOD, 0)):
        (inbox(r) / "bank_20261101_1.csv").write_text(text)
        assert land(recon, r).status == status
    assert recon("status", "--config", str(r.config.path)).status == 0


@pytest.mark.parametrize("way", ["discard", "take back"])
def test_a_rejected_file_is_named_by_the_status_until_a_person_decides(tmp_path: Path, recon: Call, way: str) -> None:
    r = site(tmp_path, extra="rejects: file")
    deliver_one(r, GOOD)
    config = ("--config", str(r.config.path))
    assert recon("status", *config).status == 0
    deliver_one(r, BAD, "bank_20261101_2.csv")
    said = recon("status", *config)
    assert (said.status, said.err) == (
        1,
        "recon: the file bank_20261101_2.csv is rejected and not corrected; 'recon files show 2' says why\n",
    )
    assert recon("breaks", *config).status == 1
    if way == "discard":
        assert recon("files", "discard", "2", "--reason", "a test of the bank", *config).status == 0
        assert land(recon, r).status == 0
        assert "discarded: a test of the bank" in recon("files", "list", "--state", "discarded", *config).out
    else:
        (inbox(r) / "bank_20261101_2.csv").write_text(OTHER)
        assert land(recon, r).status == 0
        landed = r.intake().tracking.files(state="landed")[-1]
        r.unland(str(landed.landed_as), "2026-11-01T00:00Z", "sent by mistake")
    assert recon("status", *config).status == 0


def test_a_discarded_file_can_be_taken_up_again(tmp_path: Path, recon: Call) -> None:
    r = site(tmp_path, extra="rejects: file")
    deliver_one(r, BAD)
    config = ("--config", str(r.config.path))
    assert recon("files", "discard", "1", "--reason", "junk", *config).status == 0
    again = recon("files", "discard", "1", "--reason", "junk", *config)
    assert (again.status, "its state is discarded" in again.err) == (2, True)
    rules = tmp_path / "sources" / "bank.yaml"
    rules.write_text(rules.read_text().replace("rejects: file", "rejects: row"))
    assert recon("files", "retry", "1", *config).status == 0
    assert states(r) == {"bank_20261101_1.csv": "landed"}


def test_files_that_wait_are_in_the_status_and_are_no_fault(tmp_path: Path, recon: Call) -> None:
    r = site(tmp_path)
    deliver_one(r, GOOD)
    tracking = r.intake().tracking
    tracking.retried(tracking.files()[0], "tried again by hand")
    said = recon("status", "--config", str(r.config.path))
    assert said.status == 0
    assert "the file bank_20261101_1.csv is received and not landed yet" in said.out


@pytest.mark.parametrize("rejected", [BAD_DAY, "Datum;Betrag\n"])
def test_a_file_of_another_window_does_not_correct_one_of_the_same_name(rejected: str, tmp_path: Path, recon: Call) -> None:
    """A sender names each day's file alike, and a column says the day."""
    r = site(tmp_path, account="required: true", extra="rejects: file", window="window: {column: day, format: '%Y-%m-%d'}", columns=DAY)
    first = deliver_one(r, rejected, "bank_daily_1.csv")
    assert (first.state, first.window) == ("rejected", "2026-11-01T00:00Z" if rejected == BAD_DAY else None)
    assert deliver_one(r, GOOD_DAY.replace("-01", "-02"), "bank_daily_1.csv").state == "landed"
    said = recon("status", "--config", str(r.config.path))
    assert (said.status, "the file bank_daily_1.csv is rejected and not corrected" in said.err) == (1, True)
    assert deliver_one(r, GOOD_DAY, "bank_daily_1.csv").state == "landed"
    assert recon("status", "--config", str(r.config.path)).status == (0 if rejected == BAD_DAY else 1)


def test_the_status_of_a_window_names_its_rejected_files(tmp_path: Path, recon: Call) -> None:
    r = site(tmp_path, extra="rejects: file")
    deliver_one(r, GOOD)
    for day, part, text in ((1, 2, BAD), (1, 3, ""), (2, 1, BAD)):
        deliver_one(r, text, f"bank_2026110{day}_{part}.csv")
    config = ("--config", str(r.config.path))
    r.close("2026-11-01T00:00Z")
    r.run()
    said = recon("status", "2026-11-01T00:00Z", *config)
    assert said.status == 1
    assert "2 files were rejected: bank_20261101_2.csv (1 of 2 rows are rejected" in said.err
    assert "bank_20261101_3.csv (the file is empty" in said.err
    assert "'recon files retry 2 3' takes up again" in said.err
    assert "20261102" not in said.err
    found = json.loads(recon("status", "2026-11-01T00:00Z", "--json", *config).out)["not_landed"]
    assert [(file["id"], file["file"], file["window"]) for file in found["rejected"]] == [
        (2, "bank_20261101_2.csv", "2026-11-01T00:00Z"),
        (3, "bank_20261101_3.csv", "2026-11-01T00:00Z"),
    ]
    assert recon("status", "2026-11-03T00:00Z", *config).status == 0
    assert recon("files", "discard", "2", "3", "--reason", "junk", *config).status == 0
    assert recon("status", "2026-11-01T00:00Z", *config).status == 0


def test_a_rejected_file_of_an_unknown_window_is_in_the_status_of_each(tmp_path: Path, recon: Call) -> None:
    r = site(tmp_path, window="window: {column: day, format: '%Y-%m-%d'}", columns=DAY)
    deliver_one(r, GOOD_DAY)
    deliver_one(r, "Datum\n", "bank_x_2.csv")
    said = recon("status", "2026-11-01T00:00Z", "--config", str(r.config.path))
    assert (said.status, "1 file was rejected: bank_x_2.csv (" in said.err) == (1, True)


def test_the_status_of_a_window_names_files_that_wait_and_are_missing(tmp_path: Path, recon: Call) -> None:
    r = site(tmp_path, extra='rejects: stop\nexpect: {files: ["bank_{window:%Y%m%d}_1.csv", "bank_{window:%Y%m%d}_2.csv"]}')
    deliver_one(r, BAD)
    (inbox(r) / "bank_20261102_1.csv").write_text(GOOD)
    land(recon, r)
    said = recon("status", "2026-11-02T00:00Z", "--config", str(r.config.path))
    assert said.status == 1
    assert "bank_20261102_1.csv is received and not landed yet" in said.out
    assert "missing: bank_20261102_1.csv, bank_20261102_2.csv" in said.out
    assert "the source bank is stopped by bank_20261101_1.csv, file 1" in said.err


EXPECTED = 'expect: {files: ["bank_{window:%Y%m%d}_1.csv", "bank_{window:%Y%m%d}_2.csv"]}'


@pytest.mark.parametrize("closed", ["by hand", "by its deadline"])
def test_a_window_that_closes_without_an_expected_file_is_short_until_it_lands(closed: str, tmp_path: Path, recon: Call) -> None:
    r = site(tmp_path, extra=EXPECTED)
    deliver_one(r, GOOD)
    window, config = "2026-11-01T00:00Z", ("--config", str(r.config.path))
    if closed == "by hand":
        refused = recon("close", window, *config)
        assert (refused.status, "lacks bank_20261101_2.csv; land what is missing" in refused.err) == (2, True)
        assert recon("close", window, "--reason", "the bank is closed", *config).status == 0
    else:
        r.config.path.write_text(r.config.path.read_text() + "closing: {deadline: 1h}\n")
        r = library.open(r.config.path)
    r.run()
    for command in (("status",), ("status", window), ("breaks",)):
        said = recon(*command, *config)
        assert (said.status, "SHORT" in said.err) == (1, True), command
    assert "it was closed without 1 expected file: bank_20261101_2.csv" in recon("status", window, *config).err
    deliver_one(r, OTHER, "bank_20261101_2.csv")
    r.run()
    assert recon("status", window, *config).status == 0


# A source that stops


def test_a_source_that_stops_takes_no_file_until_the_rejected_one_is_corrected(tmp_path: Path, recon: Call) -> None:
    r = site(tmp_path, extra="rejects: stop")
    other = (tmp_path / "sources" / "bank.yaml").read_text().replace("bank_", "shop_").replace("rejects: stop", "")
    (tmp_path / "sources" / "shop.yaml").write_text(other)
    for name, text in (("bank_20261101_1.csv", BAD), ("bank_20261101_2.csv", GOOD), ("shop_20261101_1.csv", GOOD)):
        (inbox(r) / name).write_text(text)
    first = land(recon, r)
    assert first.status == 1
    stopped = "source bank is stopped by bank_20261101_1.csv, file 1: its other files wait until that is corrected, retried, or discarded"
    assert stopped in first.err
    assert states(r) == {"bank_20261101_1.csv": "rejected", "bank_20261101_2.csv": "received", "shop_20261101_1.csv": "landed"}
    assert "the source bank is stopped by bank_20261101_1.csv" in recon("status", "--config", str(r.config.path)).err
    (inbox(r) / "bank_20261101_3.csv").write_text(GOOD)
    second = land(recon, r)
    assert (second.status, stopped in second.err) == (1, True)
    assert states(r)["bank_20261101_3.csv"] == "received"
    (inbox(r) / "bank_20261101_1.csv").write_text(GOOD)
    third = land(recon, r)
    assert (third.status, third.err) == (0, "")
    tracked = [(file.name, file.state) for file in r.intake().tracking.files(source="bank")]
    assert sorted(tracked)[1:] == [(f"bank_20261101_{n}.csv", state) for n, state in ((1, "rejected"), (2, "landed"), (3, "landed"))]


@pytest.mark.parametrize("command", ["retry", "discard"])
def test_a_source_that_stops_goes_on_after_a_retry_or_when_the_file_is_given_up(tmp_path: Path, recon: Call, command: str) -> None:
    r = site(tmp_path, extra="rejects: stop")
    (inbox(r) / "bank_20261101_1.csv").write_text(BAD)
    (inbox(r) / "bank_20261101_2.csv").write_text(GOOD)
    land(recon, r)
    rules = tmp_path / "sources" / "bank.yaml"
    if command == "retry":
        rules.write_text(rules.read_text().replace("required: true", "otherwise: report, required: true"))
    config = ("--config", str(r.config.path))
    assert recon("files", command, "1", "--reason", "mended", *config).status == 0
    assert land(recon, r).status == 0
    assert states(r) == {"bank_20261101_1.csv": "landed" if command == "retry" else "discarded", "bank_20261101_2.csv": "landed"}


# A source with a mistake


def broken(folder: Path) -> Reconciliation:
    """A site with a good source, and the file of another that has a mistake."""
    r = site(folder, extra='expect: {files: ["bank_{window:%Y%m%d}_1.csv"]}')
    (folder / "sources" / "shop.yaml").write_text('files: "shop_{day}.csv"\nformt: json\n')
    return library.open(r.config.path)


def test_a_source_with_a_mistake_disables_only_itself_and_is_named(tmp_path: Path, recon: Call) -> None:
    r = broken(tmp_path)
    for name in ("bank_20261101_1.csv", "shop_20261101.csv"):
        (inbox(r) / name).write_text(GOOD)
    said = land(recon, r)
    assert said.status == 2
    assert "shop.yaml:2: formt" in said.err
    assert states(r) == {"bank_20261101_1.csv": "landed"}
    assert r.store() is not None
    assert "is closed" not in said.out, "the source with the mistake may expect files of the window"
    listed = recon("source", "list", "--config", str(r.config.path))
    assert (listed.status, "bank" in listed.out, "shop.yaml:2" in listed.err) == (2, True, True)
    status = recon("status", "--config", str(r.config.path))
    assert (status.status, "the source shop takes no file: " in status.err) == (1, True)
    mended(tmp_path)
    again = land(recon, r)
    assert (again.status, states(r)) == (0, {"bank_20261101_1.csv": "landed", "shop_20261101.csv": "landed"})


def test_files_of_a_source_that_breaks_later_wait_for_it(tmp_path: Path, recon: Call) -> None:
    r = site(tmp_path)
    file = deliver_one(r, GOOD)
    r.intake().tracking.retried(file, "again")
    rules = tmp_path / "sources" / "bank.yaml"
    text = rules.read_text()
    (tmp_path / "sources" / "shop.yaml").write_text(text.replace("bank_", "shop_"))
    rules.write_text(text.replace("delimited", "delimted"))
    said = land(recon, r)
    assert (said.status, "it waits for its source" in said.err) == (2, True)
    assert states(r) == {file.name: "received"}
    rules.write_text(text)
    assert land(recon, r).status == 0
    assert states(r) == {file.name: "landed"}


def test_an_archive_with_files_for_a_broken_source_is_received_again(tmp_path: Path, recon: Call) -> None:
    r = broken(tmp_path)
    with zipfile.ZipFile(inbox(r) / "all.zip", "w") as archive:
        for name in ("bank_20261101_1.csv", "shop_20261101.csv"):
            archive.writestr(name, GOOD)
    said = land(recon, r)
    assert (said.status, "all.zip/shop_20261101.csv: no source's pattern matches this name" in said.err) == (2, True)
    assert states(r) == {"bank_20261101_1.csv": "landed"}
    mended(tmp_path)
    assert land(recon, r).status == 0
    assert states(r) == {"bank_20261101_1.csv": "landed", "shop_20261101.csv": "landed"}


def mended(folder: Path) -> None:
    """The broken source as a good one."""
    text = (folder / "sources" / "bank.yaml").read_text()
    (folder / "sources" / "shop.yaml").write_text(text.replace("bank_{day}_{part}", "shop_{day}").partition("expect:")[0])


def test_without_any_good_source_the_mistake_is_the_answer(tmp_path: Path, recon: Call) -> None:
    r = broken(tmp_path)
    (tmp_path / "sources" / "bank.yaml").unlink()
    assert "shop.yaml:2: formt" in land(recon, r).line


# What is decided of a file as a whole


@pytest.mark.parametrize(("written", "shown"), [("33.3%", "33.3%"), ("5.0%", "5%"), ("0%", "0%"), ("33.333%", "33.333%")])
def test_the_share_of_rejects_is_shown_as_people_write_it(tmp_path: Path, written: str, shown: str) -> None:
    r = site(tmp_path, extra=f"most_rejects: {written}")
    assert deliver_one(r, BAD).reason == f"1 of 2 rows are rejected, more than {shown}"


def test_a_snapshot_replaces_its_older_version_in_its_own_window_only(tmp_path: Path) -> None:
    """By a column: the rows of another day are another window's snapshot."""
    r = site(tmp_path, window="delivery: snapshot\nwindow: {column: account}")
    deliver_one(r, "Konto;Betrag\n2026-11-01;1\n")
    deliver_one(r, "Konto;Betrag\n2026-11-02;2\n")
    deliver_one(r, "Konto;Betrag\n2026-11-01;3\n")
    found = [(file.window, file.state, file.kept) for file in r.intake().tracking.files()]
    assert found == [("2026-11-01T00:00Z", "superseded", 1), ("2026-11-02T00:00Z", "landed", 1), ("2026-11-01T00:00Z", "landed", 1)]


@pytest.mark.parametrize("loss", ["deleted", "another"])
def test_a_database_that_was_lost_is_named_where_the_store_has_files_of_sources(tmp_path: Path, recon: Call, loss: str) -> None:
    r = site(tmp_path)
    config = ("--config", str(r.config.path))
    (inbox(r) / "bank_20261101_1.csv").write_text(GOOD)
    assert land(recon, r).status == 0
    assert recon("status", *config).status == 0
    open_database(r.config).engine.dispose()
    (file,) = tmp_path.rglob("recon.sqlite")
    file.rename(file.with_suffix(".lost"))
    if loss == "another":
        r.config.path.write_text(f"{r.config.path.read_text()}\ndatabase: {{url: other.sqlite}}\n")
        library.open(r.config.path).intake().tracking.files()
        file = tmp_path / "other.sqlite"
    said = recon("status", *config)
    assert said.status == 1
    assert f"the database {file} {'does not exist' if loss == 'deleted' else 'has no file'}, but window 2026-11-01T00:00Z has" in said.err
    assert "restore the database" in said.err
    assert not file.with_name("recon.sqlite").exists()
