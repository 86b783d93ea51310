"""Closing windows: by a number of files, by a deadline, by hand; and the sentence and the figures that say where a window stands."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import faulty_store
import pytest
import strategies as s
from histories import carry_out, check_store, open_in
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.api import Reconciliation
from recon.cli import main
from recon.config.settings import Closing
from recon.errors import WrongUsage
from recon.intake import corrections
from recon.intake.batches import unland
from recon.intake.manifests import read_manifest
from recon.model.windows import name_of
from recon.planning.closing import Closed, close_by_hand, close_due, past_deadline, why_not
from recon.planning.due import due
from recon.state import checkpoints
from recon.state.timeline import CommittedWindow, Mark, State, Timeline
from recon.storage import layout

W0, W1, W2 = (name_of(s.at(window)) for window in range(3))
DURING, AFTER, LATER = (s.START + timedelta(minutes=minutes) for minutes in (30, 89, 90))


def reconciliation(folder: Path, closing: str = "{files: 2, deadline: 30m}") -> Reconciliation:
    return open_in(folder, s.STANDARD_YAML + f"closing: {closing}\n")


def land(r: Reconciliation, window: int, *names: str, **expect: Any) -> None:
    """One row per file: its id is the file's name, its key A, 10.00 EUR billed."""
    for name in names:
        path = r.config.path.parent / f"{name}.csv"
        path.write_text(s.to_csv((s.Row(event_id=name),)))
        r.land([path], name_of(s.at(window)), expect=expect, again=True)


def reason(r: Reconciliation, window: int) -> str | None:
    """Why a window was closed; None while it is open."""
    manifest = read_manifest(r.store(), s.at(window))
    return manifest.reason if manifest and manifest.closed else None


def mistake(folder: Path, closing: str) -> str:
    with pytest.raises(WrongUsage) as refused:
        reconciliation(folder, closing)
    return str(refused.value)


# ---- configuration ---------------------------------------------------------------------------------------------------


def test_nothing_closes_by_itself_unless_it_is_configured(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    assert r.config.closing == Closing(files=None, deadline=None, process_open=False)
    land(r, 0, "a", "b", "c")
    assert close_due(r.store(), r.config, datetime(2030, 1, 1, tzinfo=UTC), [W0, W1]) == []
    assert list(past_deadline(r.config, State(), datetime(2030, 1, 1, tzinfo=UTC))) == []


def test_closing_is_configured_by_files_deadline_and_process_open_and_changes_no_rules(tmp_path: Path) -> None:
    before = open_in(tmp_path).config.rules_version
    config = reconciliation(tmp_path, "{files: 4, deadline: 2h, process_open: true}").config
    assert config.closing == Closing(files=4, deadline=timedelta(hours=2), process_open=True)
    assert config.rules_version == before


@pytest.mark.parametrize(
    ("closing", "said"),
    [
        ("{files: 0}", "closing.files: '0' does not fit; write the number of files"),
        ("{files: few}", "closing.files: 'few' does not fit; write the number of files"),
        ("{deadline: soon}", "closing.deadline: 'soon' is not a duration"),
        ("{process_open: maybe}", "closing.process_open: 'maybe' does not fit; write true or false"),
        ("{file: 4}", "closing.file: not known here; did you mean files?"),
    ],
)
def test_a_mistake_in_closing_is_told_by_line_and_field(tmp_path: Path, closing: str, said: str) -> None:
    text = mistake(tmp_path, closing)
    assert said in text
    assert f"recon.yaml:{len(s.STANDARD_YAML.splitlines()) + 1}: " in text


# ---- by files, by deadline -------------------------------------------------------------------------------------------


def test_a_window_closes_with_as_many_files_as_are_expected_and_says_so(tmp_path: Path) -> None:
    r = reconciliation(tmp_path, "{files: 2}")
    land(r, 0, "a")
    assert close_due(r.store(), r.config, DURING, [W0, W1]) == []
    land(r, 0, "b")
    assert close_due(r.store(), r.config, DURING, [W0, W1]) == [Closed(W0, "2 of 2 files")]
    assert reason(r, 0) == "2 of 2 files"
    assert close_due(r.store(), r.config, DURING, [W0, W1]) == [], "a closed window is left alone"


def test_a_correction_is_not_counted_among_the_files(tmp_path: Path) -> None:
    r = reconciliation(tmp_path, "{files: 2}")
    land(r, 0, "a")
    corrections.correct(r.store(), r.config, ("A",), {"amount": "1.00"}, "why", DURING)
    assert close_due(r.store(), r.config, DURING, [W0]) == []


def test_a_deadline_closes_a_window_that_is_short_or_empty_at_its_minute_and_not_before(tmp_path: Path) -> None:
    r = reconciliation(tmp_path)
    land(r, 0, "a")
    assert close_due(r.store(), r.config, LATER - timedelta(microseconds=1), [W0]) == []
    assert close_due(r.store(), r.config, LATER, [W0, W1]) == [Closed(W0, "deadline 30m after the window's end; 1 of 2 files")]
    assert close_due(r.store(), r.config, LATER + timedelta(hours=1), [W1]) == [
        Closed(W1, "deadline 30m after the window's end; 0 of 2 files")
    ]


@pytest.mark.parametrize(("deadline", "said"), [("90m", "90m"), ("120m", "2h"), ("1d", "1d")])
def test_a_deadline_is_named_as_it_is_written(tmp_path: Path, deadline: str, said: str) -> None:
    r = reconciliation(tmp_path, f"{{deadline: {deadline}}}")
    (closed,) = close_due(r.store(), r.config, s.START + timedelta(days=3), [W0])
    assert closed.reason == f"deadline {said} after the window's end; no files"


def test_windows_past_their_deadline_are_told_from_the_watermark_or_a_given_one_on_without_listing_the_grid(tmp_path: Path) -> None:
    r = reconciliation(tmp_path)
    now = s.START + timedelta(hours=4)
    assert list(past_deadline(r.config, State(), now)) == [name_of(s.at(window)) for window in range(3)]
    state = State(windows={name: CommittedWindow(1, 1, True, "") for name in (W0, W2)}, watermark=W0)
    assert list(past_deadline(r.config, state, now)) == [W1]
    assert list(past_deadline(r.config, state, now, after=s.at(1))) == []
    years = past_deadline(r.config, State(), s.START + timedelta(days=100_000))
    assert list(islice(years, 2)) == [W0, W1]


def test_a_file_taken_back_while_the_window_closes_keeps_it_open(tmp_path: Path) -> None:
    r = reconciliation(tmp_path, "{files: 2}")
    land(r, 0, "a", "b")
    store = r.store()

    def meanwhile(call: faulty_store.Call) -> None:
        if (call.kind, call.number) == ("put_new", 1):
            unland(store, s.at(0), "b.csv", "a test")

    assert close_due(faulty_store.WatchedStore(store, before=meanwhile), r.config, DURING, [W0]) == []
    assert reason(r, 0) is None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 4), st.integers(1, 4), st.integers(-3, 3), st.booleans())
def test_a_window_closes_just_when_it_is_complete_or_its_deadline_has_passed(
    tmp_path_factory: pytest.TempPathFactory, files: int, expected: int, minutes: int, with_deadline: bool
) -> None:
    r = reconciliation(tmp_path_factory.mktemp("r"), f"{{files: {expected}{', deadline: 30m' if with_deadline else ''}}}")
    land(r, 0, *"abcd"[:files])
    closed = close_due(r.store(), r.config, LATER + timedelta(minutes=minutes), [W0])
    assert bool(closed) == (files >= expected or (with_deadline and minutes >= 0))


def test_a_run_closes_first_what_is_due_to_be_closed(tmp_path: Path) -> None:
    r = reconciliation(tmp_path, "{files: 2, deadline: 365d}")
    land(r, 0, "a", "b")
    land(r, 1, "c")
    report = r.run()
    assert (report.windows, report.open) == ([W0], [W1])
    certificate = r.certificate(W0)
    assert certificate
    assert certificate["changed_by"] == {"cause": "close", "reason": "2 of 2 files"}


def test_a_run_over_some_windows_closes_no_others(tmp_path: Path) -> None:
    r = reconciliation(tmp_path, "{deadline: 30m}")
    assert r.run(W1, W2).windows == [W1, W2]
    assert reason(r, 0) is None
    assert reason(r, 3) is None


# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_closing_a_short_window_by_hand_needs_a_reason_and_is_told_what_is_missing(tmp_path: Path) -> None:
    r = reconciliation(tmp_path, "{files: 4}")
    land(r, 0, "a", "b", "c")
    with pytest.raises(WrongUsage, match=r"window 2026-11-01T00:00Z holds 3 of 4 files, 1 is missing; land what is missing, or say with"):
        r.close(W0)
    with pytest.raises(WrongUsage):
        close_by_hand(r.store(), r.config, s.at(0), "  ")
    assert reason(r, 0) is None
    assert r.close(W0, "the bank is on holiday")[1]
    assert reason(r, 0) == "the bank is on holiday"
    assert r.close(W0) == (read_manifest(r.store(), s.at(0)), False), "one that is closed needs none"


def test_a_complete_window_and_a_sender_who_says_that_it_is_complete_need_no_reason(tmp_path: Path) -> None:
    r = reconciliation(tmp_path, "{files: 2}")
    land(r, 0, "a", "b")
    assert r.close(W0)[1]
    path = tmp_path / "only.csv"
    path.write_text(s.to_csv((s.Row(),)))
    assert r.land([path], W1, close=True, again=True).manifest.closed


# ---- why not ---------------------------------------------------------------------------------------------------------


def why(r: Reconciliation, window: int, now: datetime = AFTER) -> str:
    return why_not(r.store(), r.config, r.state(), s.at(window), now)


def test_why_a_window_is_not_processed_is_said_in_one_sentence(tmp_path: Path) -> None:
    r = reconciliation(tmp_path)
    assert why(r, 2) == f"{W2} has not begun"
    assert why(r, 0) == f"{W0} is not closed: 0 of 2 files; its deadline is 2026-11-01T01:30Z"
    land(r, 0, "a")
    size = (tmp_path / "a.csv").stat().st_size
    assert why(r, 0) == f"{W0} is not closed: 1 of 2 files, {size} bytes; its deadline is 2026-11-01T01:30Z"
    assert why(r, 0, LATER).endswith("; its deadline passed at 2026-11-01T01:30Z")
    r.close(W0, "a test")
    assert why(r, 0) == f"{W0} is closed and waits for a run: revision 2, 1 of 2 files"
    r.run(W0, W0)
    missing = "SHORT: it was closed with 1 of 2 files; land what is missing, and the next run counts it"
    assert why(r, 0) == f"{W0} is done: revision 2 is in commit 1, but {missing}"


def test_why_not_says_rows_where_the_senders_declared_them(tmp_path: Path) -> None:
    r = reconciliation(tmp_path, "{files: 3, process_open: true}")
    land(r, 0, "a", rows=1)
    land(r, 0, "b", rows=1_000_000)
    assert why(r, 0).startswith(f"{W0} is open and waits for a run")
    r._store, held = r.store(), r.store()
    report = r.run()
    assert "declared" in report.bad[W0]
    assert why(r, 0).startswith(f"{W0} could not be processed at ")
    assert "rows 1000000 ≠ 1" in why(r, 0)
    unland(held, s.at(0), "b.csv", "a test")
    r.run()
    assert why(r, 0) == f"{W0} is done: revision 3 is in commit 1, but not closed: 1 of 3 files, 1 of 1 rows"


def test_why_not_counts_received_of_declared_rows(tmp_path: Path) -> None:
    r = reconciliation(tmp_path, "{files: 3}")
    land(r, 0, "a", rows=1)
    land(r, 0, "b", rows=2)
    assert why(r, 0) == f"{W0} is not closed: 2 of 3 files, 3 rows declared"


# ---- open windows ----------------------------------------------------------------------------------------------------


def test_an_open_window_is_processed_if_configured_its_certificate_says_open_and_the_watermark_waits(tmp_path: Path) -> None:
    r = reconciliation(tmp_path, "{process_open: true}")
    rows = [s.Row(event_id=str(number), order_id=f"K{number % 3}") for number in range(9)]
    history: list[s.Operation] = []

    def do(*operations: s.Operation) -> None:
        for operation in operations:
            carry_out(r, operation)
            history.append(operation)

    def certificates() -> list[tuple[str, int]]:
        answer = [r.certificate(name) for name in (W0, W1)]
        return [(certificate["state"], certificate["revision"]) for certificate in answer if certificate]

    do(s.Land(0, s.File("a", tuple(rows[:3]))), s.Land(1, s.File("b", tuple(rows[3:6]))), s.Close(1), s.Run((0, 1)))
    assert certificates() == [("OPEN", 1), ("CLOSED", 2)]
    assert r.state().watermark == ""
    assert r.status(W0)["stage"] == "open"
    assert r.status()["windows"][0]["stage"] == "open"
    assert due(r.store(), r.config, r.state()).ready == ()
    do(s.Land(0, s.File("c", tuple(rows[6:]))), s.Run((0,)))
    assert certificates() == [("OPEN", 2), ("CLOSED", 2)]
    do(s.Close(0), s.Run((0,)))
    assert certificates() == [("CLOSED", 3), ("CLOSED", 2)]
    assert r.state().watermark == W1
    state = s.State()
    for operation in history:
        state = s.apply(state, operation)
    check_store(r, state)


def test_an_open_window_whose_last_file_is_taken_back_loses_its_events(tmp_path: Path) -> None:
    r = reconciliation(tmp_path, "{process_open: true}")
    land(r, 0, "a")
    r.run()
    assert r.artifacts().num_rows == 1
    unland(r.store(), s.at(0), "a.csv", "a test")
    assert [manifest.window for manifest in due(r.store(), r.config, r.state()).ready] == [W0]
    r.run()
    assert r.artifacts().num_rows == 0


def test_without_process_open_an_open_window_is_named_and_waits(tmp_path: Path) -> None:
    r = reconciliation(tmp_path)
    land(r, 0, "a")
    waiting = due(r.store(), r.config, r.state())
    assert (waiting.ready, waiting.open) == ((), (W0,))


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
