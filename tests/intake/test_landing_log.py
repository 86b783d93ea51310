"""The log of landings: whatever is put in a window is found by following the log, and a step costs what has landed since."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import crash_child as c
import faulty_store
import pytest
import strategies as s
from histories import carry_out, open_in
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.errors import WrongUsage
from recon.intake import landing_log
from recon.intake.manifests import landed_windows
from recon.model.windows import name_of
from recon.planning import due
from recon.state.timeline import CommittedWindow, State
from recon.storage import layout
from recon.storage.local import LocalStore

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
W = [datetime(2026, 11, 1, hour, tzinfo=UTC) for hour in range(4)]


def at(now: datetime) -> Callable[[], datetime]:
    return lambda: now


def committed(**revisions: int) -> State:
    return State(windows={name_of(W[int(name[1:])]): CommittedWindow(revision, 1, True, "") for name, revision in revisions.items()})


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def test_every_change_of_a_window_is_noted_before_its_manifest_is_put(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    watched = faulty_store.WatchedStore(r.store())
    r._store = watched
    rows = (s.Row(),)
    for operation in (
        s.Land(0, s.File("a", rows)),
        s.Replace(0, "a.csv", s.File("b", (s.Row(event_id="2"),))),
        s.Close(0),
        s.Unland(0, "b.csv"),
        s.Replay(0),
    ):
        carry_out(r, operation)
    puts = [call.path for call in watched.calls if call.kind == "put_new" and call.path.startswith(("landings/", "events/"))]
    puts = [path for path in puts if "/files/" not in path and not path.startswith("landings/bytes/")]
    manifests = [path for path in puts if path.startswith("events/")]
    assert len(manifests) == 5
    for revision, (before, path) in enumerate(zip(puts[::2], puts[1::2], strict=True), 1):
        assert path == layout.manifest(s.at(0), revision)
        assert f"-{layout.folder_name(s.at(0))}-{revision:06d}-" in before


def test_without_a_cursor_all_windows_that_were_ever_touched_are_told_in_order_of_time(store: LocalStore) -> None:
    landing_log.note(store, W[2], 1, at(NOON - timedelta(days=400)))
    landing_log.note(store, W[0], 1, at(NOON))
    landing_log.note(store, W[0], 2, at(NOON))
    touched, _ = landing_log.since(store, None, at(NOON))
    assert list(touched.items()) == [(name_of(W[0]), 2), (name_of(W[2]), 1)]


def test_with_a_cursor_only_what_was_touched_since_is_told_with_an_overlap(store: LocalStore) -> None:
    landing_log.note(store, W[0], 1, at(NOON))
    _, cursor = landing_log.since(store, None, at(NOON))
    later = NOON + timedelta(hours=1)
    landing_log.note(store, W[1], 1, at(later))
    touched, cursor = landing_log.since(store, cursor, at(later))
    assert touched == {name_of(W[0]): 1, name_of(W[1]): 1}, "the overlap repeats what had landed just before the cursor"
    touched, _ = landing_log.since(store, cursor, at(later + timedelta(hours=1)))
    assert touched == {name_of(W[1]): 1}
    touched, _ = landing_log.since(store, (later + timedelta(hours=1)).isoformat(), at(later + timedelta(hours=2)))
    assert touched == {}


def test_a_step_lists_the_hours_since_the_cursor_and_whole_days_only_in_between(store: LocalStore) -> None:
    watched = faulty_store.WatchedStore(store)
    landing_log.since(watched, (NOON - timedelta(minutes=1)).isoformat(), at(NOON))
    assert [call.path for call in watched.calls] == ["landings/2026-11-22/11/", "landings/2026-11-22/12/"]
    watched.calls.clear()
    landing_log.since(watched, (NOON - timedelta(days=60)).isoformat(), at(NOON))
    assert len(watched.calls) < 60 + 24 + 24
    assert "landings/2026-10-25/" in [call.path for call in watched.calls]
    assert watched.calls[-1].path == "landings/2026-11-22/12/"


@given(st.integers(0, 60 * 24 * 5), st.integers(0, 60 * 24 * 5), st.integers(0, 59))
def test_the_folders_of_a_step_hold_every_instant_from_cursor_to_now(before: int, inside: int, second: int) -> None:
    first, last = NOON - timedelta(minutes=before), NOON
    instant = first + timedelta(minutes=min(before, inside), seconds=second * (inside < before))

    class Listing:
        def list(self, prefix: str) -> list[str]:
            return [prefix]

    folders = list(landing_log._listed(Listing(), first, last))  # type: ignore[arg-type]
    assert sum(layout.landing_hour(instant).startswith(folder) for folder in folders) == 1


def test_a_writer_whose_clock_is_five_minutes_behind_is_not_passed_by(store: LocalStore) -> None:
    _, cursor = landing_log.since(store, None, at(NOON))
    landing_log.note(store, W[0], 1, at(NOON - timedelta(minutes=5)))
    assert landing_log.since(store, cursor, at(NOON + timedelta(minutes=1)))[0] == {name_of(W[0]): 1}


def test_a_note_that_took_long_to_be_written_is_written_again(store: LocalStore) -> None:
    times = iter([NOON, NOON + timedelta(hours=2), NOON + timedelta(hours=2), NOON + timedelta(hours=2)])
    landing_log.note(store, W[0], 1, lambda: next(times))
    late, _ = landing_log.since(store, (NOON + timedelta(hours=2)).isoformat(), at(NOON + timedelta(hours=2)))
    assert late == {name_of(W[0]): 1}


def test_a_cursor_that_is_none_is_refused(store: LocalStore) -> None:
    with pytest.raises(WrongUsage, match="'yesterday' is not a time; clear it"):
        landing_log.since(store, "yesterday")
    for wrong in ("yesterday", "{}", "[]", "null", '{"at": 1}'):
        with pytest.raises(WrongUsage, match="was not made by recon"):
            due.follow(store, State(), wrong)


def test_a_noted_revision_waits_until_it_is_committed_however_long_its_writer_takes(store: LocalStore) -> None:
    landing_log.note(store, W[0], 1, at(NOON))
    cursor = None
    for day in range(5):
        waiting, cursor = due.follow(store, State(), cursor, at(NOON + timedelta(days=day)))
        assert waiting == {name_of(W[0]): 1}
    waiting, cursor = due.follow(store, committed(w0=1), cursor, at(NOON + timedelta(days=6)))
    assert waiting == {}
    assert due.follow(store, committed(w0=1), cursor, at(NOON + timedelta(days=7)))[0] == {}


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "finish", "crash", "step", "commit"]),
        st.integers(0, 3),
        st.integers(-240, 240),
        st.integers(0, 100) | st.integers(0, 40_000),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(ACTIONS)
def test_every_revision_ever_put_is_found_by_following_whatever_writers_and_followers_interleave(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int, int, int]]
) -> None:
    store, now, cursor = LocalStore(tmp_path_factory.mktemp("log")), NOON, None
    begun: dict[int, list[int]] = {0: [], 1: [], 2: [], 3: []}
    put: dict[int, int] = {}
    done: dict[str, int] = {}
    for action, window, skew_s, seconds in actions:
        now += timedelta(seconds=seconds)
        if action == "begin":
            landing_log.note(store, W[window], put.get(window, 0) + 1, at(now + timedelta(seconds=skew_s)))
            begun[window].append(put.get(window, 0) + 1)
        elif action == "finish" and begun[window]:
            revision = begun[window].pop()
            if revision == put.get(window, 0) + 1:  # else its put is refused, and it begins again
                put[window] = revision
        elif action == "crash" and begun[window]:
            begun[window].pop()
        elif action == "commit" and window in put:
            done[f"w{window}"] = put[window]
        elif action == "step":
            waiting, cursor = due.follow(store, committed(**done), cursor, at(now))
            expected = {name_of(W[n]): revision for n, revision in put.items() if revision > done.get(f"w{n}", 0)}
            assert expected.keys() <= waiting.keys()
            assert all(waiting[name] >= revision for name, revision in expected.items())


def test_a_writer_killed_between_note_and_manifest_leaves_a_candidate_that_is_not_due(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    r._store = faulty_store.WatchedStore(r.store(), before=faulty_store.failing_once("put_new", 3))  # of the clock, the note, the manifest
    with pytest.raises(Exception, match="away"):
        carry_out(r, s.Close(0))
    waiting, cursor = due.follow(r.store(), r.state())
    assert waiting == {name_of(s.at(0)): 1}
    assert due.due(r.store(), r.config, r.state(), windows=waiting) == due.Due((), ())
    carry_out(r, s.Close(0))
    waiting, _ = due.follow(r.store(), r.state(), cursor)
    assert [m.window for m in due.due(r.store(), r.config, r.state(), windows=waiting).ready] == list(waiting)


def test_what_waits_is_told_without_a_cursor_of_ones_own_and_the_store_is_listed_once(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    for window in (0, 1):
        carry_out(r, s.Land(window, s.File(f"w{window}", c.rows_of(window))))
        carry_out(r, s.Close(window))
    names = [name_of(s.at(window)) for window in (0, 1, 2)]
    assert list(due.waiting(r.store(), r.state())) == names[:2]
    carry_out(r, s.Run((0,)))
    carry_out(r, s.Land(2, s.File("w2", c.rows_of(2))))
    watched = faulty_store.WatchedStore(r.store())
    assert list(due.waiting(watched, r.state())) == names[1:]
    assert layout.LANDINGS not in {call.path for call in watched.calls if call.kind == "list"}


def test_what_is_due_among_named_windows_is_what_is_due_among_all_without_listing_the_others(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    for window in (0, 1, 2, 5):
        carry_out(r, s.Land(window, s.File(f"w{window}", c.rows_of(window))))
        if window != 2:
            carry_out(r, s.Close(window))
    carry_out(r, s.Run((0,)))
    waiting, _ = due.follow(r.store(), r.state())
    watched = faulty_store.WatchedStore(r.store())
    named = due.due(watched, r.config, r.state(), windows=waiting)
    assert named == due.due(r.store(), r.config, r.state())
    assert list(waiting) == [name_of(s.at(window)) for window in (1, 2, 5)]
    assert {call.path for call in watched.calls if call.kind == "list"} == {layout.manifests(s.at(window)) for window in (1, 2, 5)}
    assert due.due(r.store(), r.config, r.state(), windows=[name_of(s.at(5))]).ready == named.ready[-1:]
    assert set(landed_windows(r.store())) > set(waiting)
