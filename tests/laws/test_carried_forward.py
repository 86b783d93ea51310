"""Carried forward: a key with very many windows folds its old contributions, and nobody can tell from any answer.

The rule: docs/decisions/008-carried-forward.md.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import strategies as s
from cli_calls import Call
from crash_child import copy_of
from damage import rewrite
from histories import carry_out, check_store, follow, fresh, open_in, records, run_range, same, slow
from hypothesis import given
from hypothesis import strategies as st
from oracle import Rules, oracle
from pictures import check, swept, taken
from plain_rules import PLAIN_RULES, PLAIN_YAML
from small_blocks import small

import recon
from recon.api import Reconciliation
from recon.engines.duckdb import carried_forward, slices
from recon.model.windows import name_of
from recon.stages import merge
from recon.state import reduced
from recon.state.compaction import compact
from recon.state.reduced import Figures
from recon.state.timeline import Timeline
from recon.storage import layout

YAML = s.STANDARD_YAML.replace("dedupe: 2h", "dedupe: 1h")
RULES = replace(s.STANDARD_RULES, dedupe=timedelta(hours=1))
SLOW = slow(2)


@SLOW
@given(s.histories(max_windows=10, max_operations=10), st.sampled_from([3, 8, 4096]))
def test_blocks_and_contributions_are_the_oracles_after_every_run_of_any_history(history: s.History, ids_max: int) -> None:
    with small(ids_max), fresh(YAML) as r:
        follow(r, history, RULES)
        assert not r.verify(full=True).problems


@SLOW
@given(s.histories(max_windows=8, max_operations=8))
def test_without_ids_the_border_follows_close_behind(history: s.History) -> None:
    with small(), fresh(PLAIN_YAML) as r:
        follow(r, history, PLAIN_RULES)
        assert not r.verify(full=True).problems


@SLOW
@given(s.batches(max_windows=8), st.data(), st.sampled_from([3, 8, 4096]))
def test_any_order_any_grouping_and_any_slices_give_the_same_block(
    batches: dict[int, tuple[s.File, ...]], data: st.DataObject, ids_max: int
) -> None:
    seen = []
    for slice_bytes in (slices.SLICE_BYTES, 500):
        order = data.draw(st.permutations(sorted(batches)))
        cuts = sorted(data.draw(st.sets(st.integers(1, len(order)))) | {0, len(order)})
        with small(ids_max), fresh(YAML) as r, patch.object(slices, "SLICE_BYTES", slice_bytes):
            land(r, batches)
            for start, end in itertools.pairwise(cuts):
                run_range(r, tuple(order[start:end]))
            seen.append(records(r))
    assert seen[0] == seen[1]


@SLOW
@given(st.data())
def test_a_replay_writes_no_record_again_though_it_reaches_into_blocks(data: st.DataObject) -> None:
    with small(), fresh(YAML) as r:
        land(r, {window: (data.draw(s.files(f"w{window}")),) for window in range(10)})
        run_range(r, tuple(range(10)))
        before = records(r)
        replayed = data.draw(st.sets(st.integers(0, 9), min_size=1))
        for window in replayed:
            carry_out(r, s.Replay(window))
        report = run_range(r, tuple(replayed))
        assert len(report.windows) == len(replayed)
        assert report.written == 0
        assert records(r) == before


@SLOW
@given(s.histories(max_windows=10, max_operations=6), st.data())
def test_as_of_any_window_and_every_event_are_answered_though_their_contributions_are_folded(
    history: s.History, data: st.DataObject
) -> None:
    with small(), fresh(YAML) as r:
        for operation in history.operations:
            carry_out(r, operation)
        events = history.states()[-1].committed_events()
        last = data.draw(st.integers(0, 9))
        as_of = name_of(s.at(last))
        expected = oracle(events, RULES, as_of=s.at(last)).artifacts
        rows = {row["key"]: row for row in r.artifacts(through=as_of).to_pylist()}
        assert set(rows) == set(expected)
        for key, artifact in expected.items():
            windows = [name_of(c.window) for c in artifact.contributions]
            row, shown = rows[key], r.show(key, through=as_of)
            assert (row["windows"], row["first_window"], row["last_window"]) == (len(windows), windows[0], windows[-1])
            assert row["status"] == shown["status"] == artifact.status
            for name, wanted in {**artifact.measures, **artifact.derived}.items():
                assert same(row[name], wanted)
                assert same({**shown["measures"], **shown["derived"]}[name], wanted)
            assert sum(part.get("windows", 1) for part in shown["contributions"]) == len(windows)
            assert sum(part["events"] for part in shown["contributions"]) == sum(c.n for c in artifact.contributions)
            listed = r.show(key, through=as_of, events=True)
            assert listed["status"] == artifact.status
            for part, contribution in zip(listed["contributions"], artifact.contributions, strict=True):
                assert (part["window"], part["events"], part["duplicates"]) == (
                    name_of(contribution.window),
                    contribution.n,
                    contribution.d,
                )
                counted = sorted((event["file"], event["line"]) for event in part["event_list"] if event["counted"])
                assert counted == contribution.events


@SLOW
@given(s.histories(max_windows=9, max_operations=8), st.data())
def test_what_was_known_at_any_time_is_answered_later_through_compactions_rebuilds_and_sweeps(
    history: s.History, data: st.DataObject
) -> None:
    now, pictures = datetime.now(UTC) + timedelta(hours=1), []
    with small(), fresh(YAML + "retention: {grace: 1m}\n") as r:
        for operation, state in zip(history.operations, history.states(), strict=True):
            carry_out(r, operation)
            if isinstance(operation, s.Run):
                pictures.append(taken(r))
                done = data.draw(st.sampled_from(["nothing", "compact", "sweep", "rebuild"]))
                if done == "compact":
                    compact(r.store(), r.config, Timeline(r.store()), always=True)
                elif done == "sweep":
                    swept(r, 3, now)
                elif done == "rebuild" and r.state().commit:
                    r.rebuild()
                    check_store(r, state, RULES)
                now += timedelta(hours=3)
        compact(r.store(), r.config, Timeline(r.store()), always=True)
        swept(r, 3, now)
        for picture in pictures:
            check(r, picture, {key for one in pictures for key in one.shown})
        assert not r.verify(full=True).problems


def land(r: Reconciliation, batches: dict[int, tuple[s.File, ...]]) -> None:
    for window, files in batches.items():
        for file in files:
            carry_out(r, s.Land(window, file))
        carry_out(r, s.Close(window))


# ---- single stories --------------------------------------------------------------------------------------------------


def story(r: Reconciliation, windows: Sequence[int] = range(10), events: Mapping[int, int] = {}, at_once: int = 1) -> s.State:
    """One event (or as many as ``events`` has) of key A in each window, ``at_once`` windows in a run; with the constants of ``small`` the
    first four are folded."""
    state = s.State()
    for start in range(0, len(windows), at_once):
        for window in (together := windows[start : start + at_once]):
            ids = [str(window), *(f"{window}-{number}" for number in range(1, events.get(window, 1)))]
            rows = tuple(s.Row(event_id=one, amount=f"{window}.00", booked_at=None) for one in ids)
            state = done(r, state, s.Land(window, s.File(f"w{window}", rows)), s.Close(window))
        state = done(r, state, s.Run(tuple(together)))
    return state


@dataclass(frozen=True)
class Told:
    """The store of ``story``, one window after the other, which is never changed, and the oracle's state of it."""

    folder: Path
    state: s.State

    def again(self, folder: Path) -> Reconciliation:
        """A copy of it, to change."""
        return recon.open(copy_of(self.folder, folder) / "recon.yaml")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("told") / "store"
    folder.mkdir()
    with small():
        return Told(folder, story(open_in(folder, YAML)))


def done(r: Reconciliation, state: s.State, *operations: s.Operation) -> s.State:
    for operation in operations:
        carry_out(r, operation)
        state = s.apply(state, operation)
    return state


def late(window: int, event_id: str = "late", amount: str = "1.00") -> s.Land:
    return s.Land(window, s.File(f"late{window}", (s.Row(event_id=event_id, amount=amount),)))


def test_an_event_within_the_horizon_of_a_folded_one_is_its_duplicate_however_late_it_comes(tmp_path: Path) -> None:
    """Window 3 is the last of the block; window 4 comes after all others, with the event of window 3 once more."""
    r = open_in(tmp_path, YAML)
    with small():
        state = story(r, [window for window in range(10) if window != 4], at_once=3)
        assert records(r)["A"]["carried"]["last"] == name_of(s.at(3))
        state = done(r, state, late(4, "3", "99.00"), s.Close(4), s.Run((4,)))
        check_store(r, state, RULES)
        assert records(r)["A"]["contributions"][0]["d"] == 1
        assert not r.verify(full=True).problems


def test_a_window_within_the_block_that_loses_the_key_is_taken_out_of_it(told: Told, tmp_path: Path) -> None:
    r, state = told.again(tmp_path / "store"), told.state
    with small():
        state = done(r, state, s.Unland(1, "w1.csv"), s.Run((1,)))
        check_store(r, state, RULES)
        record = records(r)["A"]
        assert (record["carried"]["runs"], record["withdrawn"]) == ([1, 1, 2], [name_of(s.at(1))])
        state = done(r, state, s.Land(1, s.File("again", (s.Row(event_id="1"),))), s.Run((1,)))
        check_store(r, state, RULES)
        assert records(r)["A"]["carried"]["runs"] == [4]
        assert not r.verify(full=True).problems


def test_a_newest_window_that_is_taken_back_moves_the_border_back(told: Told, tmp_path: Path) -> None:
    r, state = told.again(tmp_path / "store"), told.state
    with small():
        for window in (9, 8, 7, 6):
            state = done(r, state, s.Unland(window, f"w{window}.csv"), s.Run((window,)))
            check_store(r, state, RULES)
        assert "carried" not in records(r)["A"]
        assert not r.verify(full=True).problems


def test_a_key_that_held_too_many_ids_holds_them_again_once_they_are_folded(tmp_path: Path) -> None:
    r = open_in(tmp_path, YAML)
    with small(ids_max=8):
        held = []
        state = story(r, range(4), events={1: 5})
        for window in range(4, 8):
            file = s.File(f"w{window}", (s.Row(event_id=str(window), booked_at=None),))
            state = done(r, state, s.Land(window, file), s.Close(window), s.Run((window,)))
            check_store(r, state, RULES)
            assert not r.verify(full=True).problems
            held.append([part["ids"] is not None for part in records(r)["A"]["contributions"]])
    assert held == [[False] * 5, [False] * 6, [True] * 5, [True] * 6], "window 6 moves the border behind the one with five events"


def test_a_window_up_to_a_horizon_late_leaves_the_block_closed_and_a_correction_inside_opens_it(tmp_path: Path) -> None:
    opened: list[str] = []
    really = carried_forward.open_blocks

    def noted(*given: Any) -> None:
        opened.append("opened")
        really(*given)

    r = open_in(tmp_path, YAML)
    with small(), patch.object(carried_forward, "open_blocks", noted):
        state = story(r)
        assert records(r)["A"]["carried"]["runs"] == [4]
        assert not opened
        for window, opens in ((8, []), (2, ["opened"])):
            state = done(r, state, late(window), s.Run((window,)))
            check_store(r, state, RULES)
            assert opened == opens


@pytest.mark.parametrize(("text", "rules", "runs"), [(YAML, RULES, [6]), (PLAIN_YAML, PLAIN_RULES, [8])], ids=["with ids", "without"])
def test_blocks_that_were_made_with_other_constants_are_opened_and_made_anew(
    tmp_path: Path, text: str, rules: Rules, runs: list[int]
) -> None:
    r = open_in(tmp_path, text)
    with small():
        state = story(r, at_once=5)
        (record,) = records(r).values()
        assert "carried" in record
    state = done(r, state, late(10), s.Close(10), s.Run((10,)))
    check_store(r, state, rules)
    (record,) = records(r).values()
    assert "carried" not in record
    with small():
        state = done(r, state, late(11), s.Close(11), s.Run((11,)))
        check_store(r, state, rules)
        (record,) = records(r).values()
        assert record["carried"]["runs"] == runs
        assert not r.verify(full=True).problems


def test_show_has_one_line_for_all_that_is_carried_forward(told: Told, tmp_path: Path, recon: Call) -> None:
    r = told.again(tmp_path / "store")
    block, *others = r.show("A")["contributions"]
    assert (block["window"], block["until"], block["windows"], block["revision"]) == (name_of(s.at(0)), name_of(s.at(3)), 4, None)
    assert (block["events"], block["measures"]["billed"], block["measures"]["lines"]) == (4, "6.00", 4)
    assert [part["window"] for part in others] == [name_of(s.at(window)) for window in range(4, 10)]
    answer = recon("show", "A", "--config", str(r.config.path))
    assert "2026-11-01T00:00Z to 2026-11-01T03:00Z, 4 windows" in answer.out


def test_verify_finds_a_block_that_is_not_what_it_must_be(told: Told, tmp_path: Path) -> None:
    wrong = {
        "carried windows 3 ≠ 4": lambda record: record["carried"].update(windows=3, runs=[3]),
        "carried billed 6.01 ≠ 6.00": lambda record: record["carried"]["m"].update(billed="6.01"),
        "carried last 2026-11-01T02:00Z ≠ 2026-11-01T03:00Z": lambda record: record["carried"].update(last="2026-11-01T02:00Z"),
    }
    for number, (words, change) in enumerate(wrong.items()):
        r = told.again(tmp_path / str(number))
        with small():
            assert number or not r.verify(full=True).problems
            rewrite(r, change, "A")
            found = r.verify(full=True).problems
        assert any(words in line for line in found), found


def test_the_windows_that_lie_in_blocks_tie_as_a_whole_and_all_others_one_by_one(told: Told, tmp_path: Path) -> None:
    r = told.again(tmp_path / "store")
    with small():
        assert not r.verify().problems
        rewrite(r, lambda record: record["carried"]["m"].update(billed="6.01"), "A")
        (found,) = r.verify().problems
    assert "windows 2026-11-01T00:00Z to 2026-11-01T03:00Z, added up" in found
    assert "billed 6.01 ≠ 6.00" in found


def test_a_window_without_its_stateless_file_is_named_and_nothing_is_committed(told: Told, tmp_path: Path) -> None:
    r = told.again(tmp_path / "store")
    with small():
        commit = r.state().commit
        r.store().delete(r.state().windows[name_of(s.at(1))].folder + reduced.ARTIFACTS)
        carry_out(r, late(3))
        report = r.run()
        assert list(report.bad) == [name_of(s.at(3))]
        assert re.match(r"stateless/2026-11-01T0100Z/.*artifacts\.parquet: gone from the store", report.bad[name_of(s.at(3))])
        assert r.state().commit == commit
        r.replay(name_of(s.at(1)), reason="as the message says")
        assert not r.run().bad
        assert not r.verify(full=True).problems


def test_a_measure_may_have_the_name_of_a_member_of_the_record(tmp_path: Path) -> None:
    names = ("carried", "contributions", "withdrawn", "k", "m", "v", "c", "gone", "w")
    measures = "".join(f"  {name}: {{sum: amount}}\n" for name in names)
    r = open_in(tmp_path, YAML.replace("measures:\n", f"measures:\n{measures}"))
    with small():
        story(r, at_once=5)
        shown = r.show("A")
        assert {name: shown["measures"][name] for name in names} == dict.fromkeys(names, "45.00")
        assert not r.verify(full=True).problems


def test_logic_judges_what_the_block_and_the_contributions_come_to(tmp_path: Path) -> None:
    (tmp_path / "rules_of_mine.py").write_text(LOGIC)
    r = open_in(tmp_path, YAML + "logic: rules_of_mine:judge\n")
    with small():
        story(r, at_once=5)
        assert "carried" in records(r)["A"]
        assert r.show("A")["status"] == "LARGE"
        assert r.show("A", through=name_of(s.at(2)))["status"] == "UNPAID"
        assert not r.verify(full=True).problems


LOGIC = """
import pyarrow as pa
import pyarrow.compute as pc


def judge(table, stage):
    if stage == "merge":
        large = pc.greater(table.column("m_lines"), 5)
        status = pc.if_else(large, "LARGE", table.column("status"))
        return table.set_column(table.column_names.index("status"), "status", status)
    return table
"""


# ---- the real constants ----------------------------------------------------------------------------------------------


def test_one_more_window_of_a_key_in_1200_windows_writes_no_more_than_one_of_a_key_in_700(tmp_path: Path) -> None:
    """The windows are copies of one that was reduced, under their own names, so that the test takes seconds and not minutes."""
    r = open_in(tmp_path, PLAIN_YAML)
    carry_out(r, s.Land(0, s.File("w0", (s.Row(),))))
    carry_out(r, s.Close(0))
    run_range(r, (0,))
    timeline, first = Timeline(r.store()), reduced.read(r.store(), r.state().windows[name_of(s.at(0))].folder)

    def merged(start: int, end: int) -> int:
        cuts = [*range(start, end, 200), end]
        ranges = [[copied(r, first, number) for number in range(*cut)] for cut in itertools.pairwise(cuts)]
        return [merge.merge_windows(r.store(), r.config, timeline, one).bytes for one in ranges][-1]

    later = 8 * carried_forward.STEP
    merged(1, 700)
    at_700 = [merged(number, number + 1) for number in range(700, 706)]
    merged(706, 700 + later)
    at_1200 = [merged(number, number + 1) for number in range(700 + later, 706 + later)]
    (record,) = records(r).values()
    assert (record["carried"]["runs"], record["carried"]["m"]["lines"]) == ([1152], 1152)
    assert len(record["contributions"]) == 706 + later - 1152
    assert (record["measures"]["lines"], record["measures"]["total"]) == (1218, "12180.00")
    assert at_700[4] < at_700[3], "the border moves with window 704"
    assert all(abs(after - before) <= 16 for before, after in zip(at_700, at_1200, strict=True)), "but for the digits of numbers"


def copied(r: Reconciliation, first: Figures, number: int) -> Figures:
    """The stateless files of another window, equal but for its name."""
    folder = layout.stateless(s.at(number), 1, r.config.rules_version, layout.new_attempt())
    for name in (reduced.ARTIFACTS, reduced.EVENTS, reduced.SET_ASIDE):
        r.store().put_new(folder + name, [r.store().get(first.folder + name)])
    return replace(first, window=name_of(s.at(number)), folder=folder)
