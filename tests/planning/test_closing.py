"""Closing windows: by a number of files, by a deadline, by hand; and the sentence that says where a window stands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import faulty_store
import pytest
import strategies as s
from closing_windows import AFTER, DURING, LATER, W0, W1, W2, land, reason, reconciliation
from histories import carry_out, check_store, open_in
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.api import Reconciliation
from recon.config.settings import Closing
from recon.errors import WrongUsage
from recon.intake import corrections
from recon.intake.batches import unland
from recon.intake.manifests import read_manifest
from recon.model.windows import name_of
from recon.planning.closing import Closed, close_by_hand, close_due, past_deadline, why_not
from recon.planning.due import due
from recon.state.timeline import CommittedWindow, State


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
