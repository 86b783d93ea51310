"""The figures that say where a window stands: complete, short, quarantined."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import strategies as s
from closing_windows import DURING, LATER, W0, W1, land, reconciliation
from histories import open_in

from recon.api import Reconciliation
from recon.cli import main
from recon.intake import corrections
from recon.intake.batches import unland
from recon.model.windows import name_of
from recon.planning.closing import close_due
from recon.state import checkpoints
from recon.state.timeline import Mark, Timeline
from recon.storage import layout

# ---- completeness, quarantine ----------------------------------------------------------------------------------------


def test_status_tells_whether_a_window_closed_and_ties_and_what_was_expected_received_late_doubled_and_rejected(tmp_path: Path) -> None:
    r = reconciliation(tmp_path, "{files: 2}")
    land(r, 0, "a", rows=1, amount={"EUR": "10.00"})
    land(r, 0, "b")
    r.run()
    late = tmp_path / "late.csv"
    late.write_text(s.to_csv((s.Row(event_id="c", amount="7.00"), s.Row(event_id="d", amount="x"), s.Row(event_id="a"))))
    r.land([late], W0, again=True)
    corrections.correct(r.store(), r.config, ("A",), {"amount": "-7.00", "currency": "EUR"}, "why", DURING)
    r.run()
    told = r.status(W0)
    assert told["ties"] is True
    assert told["watermark"] == W0
    assert (told["closed_by"]["revision"], told["closed_by"]["reason"]) == (3, "2 of 2 files")
    assert told["expected"] == {"files": 2, "declared_by": 1, "rows": 1, "amount": {"EUR": "10.00"}}
    received = told["received"]
    assert (received["files"], received["rows"], received["amount"]) == (3, 6, {"EUR": "30.00"})
    (correction,) = received["corrections"]
    assert told["late"] == {"files": ["late.csv", correction["name"]], "rows": 4, "amount": {"EUR": "10.00"}}
    assert (told["duplicates"]["rows"], told["duplicates"]["amount"]) == (1, {"EUR": "10.00"})
    assert (told["rejected"]["files"], told["rejected"]["rows"]) == (["late.csv"], 1)
    assert told["quarantined"] is None


def test_status_of_a_window_before_anything_landed_or_was_processed(tmp_path: Path) -> None:
    r = reconciliation(tmp_path)
    told = r.status(W0)
    assert (told["stage"], told["ties"], told["closed_by"]) == ("nothing landed", None, None)
    land(r, 0, "a")
    told = r.status(W0)
    assert (told["received"]["files"], told["received"]["rows"], told["late"]["files"]) == (1, None, [])


def test_a_bad_window_is_quarantined_with_its_reason_until_it_is_corrected(tmp_path: Path) -> None:
    r = reconciliation(tmp_path)
    land(r, 0, "a", rows=5)
    r.close(W0, "a test")
    for _ in range(2):
        assert set(r.run(W0, W0).bad) == {W0}
        told = r.status(W0)["quarantined"]
        assert "the declared control totals do not tie (declared ≠ found: rows 5 ≠ 1)" in told["reason"]
        assert told["revision"] == 2
    assert len(list(r.store().list("quarantine/"))) == 1, "the same reason is kept once"
    land(r, 0, "b")
    assert r.status(W0)["quarantined"] is None, "another revision is another matter"
    unland(r.store(), s.at(0), "a.csv", "a test")
    assert not r.run(W0, W0).bad
    assert r.status(W0)["quarantined"] is None


def test_status_on_the_command_line_says_it_in_words_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    r = reconciliation(tmp_path, "{files: 2}")
    land(r, 0, "a")
    config = ("--config", str(r.config.path))
    assert main(["close", W0, *config]) == 2
    assert "2026-11-01T00:00Z holds 1 of 2 files, 1 is missing" in capsys.readouterr().err
    assert main(["close", W0, "--reason", "holiday", *config]) == 0
    assert main(["run", *config]) == 1
    land(r, 0, "b")
    assert main(["run", *config]) == 0
    capsys.readouterr()
    assert main(["status", W0, *config]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "2026-11-01T00:00Z is done: revision 3 is in commit 2" in lines
    assert "files rows amount EUR" in lines
    assert "expected 2 – –" in lines
    assert "received 2 2 20.00" in lines
    assert "of those late 1 1 10.00" in lines
    assert "b.csv: late, it landed after the window was closed" in lines
    assert "watermark: 2026-11-01T00:00Z" in lines
    assert main(["status", W0, "--json", *config]) == 0
    assert json.loads(capsys.readouterr().out)["late"]["files"] == ["b.csv"]


# ---- short -----------------------------------------------------------------------------------------------------------


def on_the_command_line(r: Reconciliation, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit status of a command, and all that it said."""
    capsys.readouterr()
    status = main([*arguments, "--config", str(r.config.path)])
    return status, "".join(capsys.readouterr())


def test_a_window_that_was_closed_with_fewer_files_than_expected_is_short_until_the_missing_one_lands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    r = reconciliation(tmp_path, "{files: 2}")
    land(r, 0, "a")
    r.close(W0, "the bank is on holiday")
    land(r, 1, "b", "c")
    status, said = on_the_command_line(r, capsys, "run")
    assert status == 1
    assert f"window {W0} is SHORT" in said
    assert (r.state().windows[W0].has(Mark.SHORT), r.state().windows[W1].has(Mark.SHORT)) == (True, False)

    certificate = r.certificate(W0) or {}
    assert (certificate["state"], certificate["short"]) == ("CLOSED", True)
    assert (certificate["expected_files"], certificate["received_files"]) == (2, 1)
    status, said = on_the_command_line(r, capsys, "certificate", W0)
    assert status == 1
    assert "CLOSED, SHORT, 1 of 2 expected files: it ties" in said

    answer = r.status()
    assert (answer["ok"], answer["short"]) == (False, [W0])
    assert [(line["window"], line["stage"], line["short"]) for line in answer["windows"]] == [(W0, "SHORT", True), (W1, "done", False)]
    status, said = on_the_command_line(r, capsys, "status")
    assert status == 1
    assert f"{W0}   SHORT" in said
    status, said = on_the_command_line(r, capsys, "status", W0)
    assert status == 1
    assert "SHORT: it was closed with 1 of 2 expected files" in said
    assert r.verify().problems == []

    land(r, 0, "late")
    assert not r.run().short
    assert (r.certificate(W0) or {})["short"] is False
    assert on_the_command_line(r, capsys, "status")[0] == 0
    assert on_the_command_line(r, capsys, "certificate", W0)[0] == 0


@pytest.mark.parametrize("way", ["deadline", "sender", "taken back"])
def test_a_window_is_short_however_it_was_closed(tmp_path: Path, way: str) -> None:
    r = reconciliation(tmp_path)
    land(r, 0, "a")
    if way == "deadline":
        close_due(r.store(), r.config, LATER, [W0])
    elif way == "sender":
        r.land([tmp_path / "a.csv"], W0, close=True, again=True)
    else:
        land(r, 0, "b")
        close_due(r.store(), r.config, DURING, [W0])
        unland(r.store(), s.at(0), "b.csv", "a test")
    assert r.run(W0, W0).short == [W0]
    assert r.status(W0)["short"]


def test_what_was_expected_is_what_was_expected_when_the_window_closed(tmp_path: Path) -> None:
    r = reconciliation(tmp_path, "{files: 2}")
    land(r, 0, "a", "b")
    assert not r.run().short
    later = reconciliation(tmp_path, "{files: 5}")
    later.replay(W0)
    assert not later.run().short
    assert later.status(W0)["expected"]["files"] == 2
    rebuilt = open_in(tmp_path, s.STANDARD_YAML.replace("MATCHED", "EQUAL") + "closing: {files: 5}\n")
    rebuilt.rebuild()
    assert (rebuilt.certificate(W0) or {})["short"] is False


def test_a_window_stays_short_when_its_state_is_read_from_a_checkpoint(tmp_path: Path) -> None:
    r = reconciliation(tmp_path, "{files: 2}")
    land(r, 0, "a")
    r.close(W0, "a test")
    r.run()
    land(r, 1, "b", "c")
    for _ in range(checkpoints.UNIT):
        r.run()
        r.replay(W1)
    assert list(r.store().list(layout.checkpoints(layout.TIMELINE)))
    fresh = Timeline(r.store()).head()
    assert [name for name, held in fresh.windows.items() if held.has(Mark.SHORT)] == [W0]


def test_verify_finds_a_short_window_that_was_made_complete_by_hand(tmp_path: Path) -> None:
    r = reconciliation(tmp_path, "{files: 2}")
    land(r, 0, "a")
    r.close(W0, "a test")
    r.run()
    path = tmp_path / "data" / layout.manifest(s.at(0), 2)
    path.write_text(path.read_text().replace('"expected": 2', '"expected": 1'))
    assert any("manifest" in problem and W0 in problem for problem in r.verify().problems)


def test_a_short_window_stays_short_where_its_manifest_is_made_again_from_what_else_is_left(tmp_path: Path) -> None:
    text = s.STANDARD_YAML + "closing: {files: 2}\n"
    r = open_in(tmp_path, text)
    file = tmp_path / "a.csv"
    file.write_text(s.to_csv((s.Row(),)))
    window = name_of(s.at(0))
    r.land([file], window, again=True)
    r.close(window, reason="the bank is late")
    r.run()
    assert r.certificate(window)["short"]
    r.store().delete(f"events/{window.replace(':', '')}/manifests/000002.json")
    r.replay(window, reason="again")
    r.run()
    certificate = r.certificate(window)
    assert (certificate["short"], certificate["expected_files"]) == (True, 2)
    assert [one.kind for one in r.caveats() if one.wrong] == ["short"]
