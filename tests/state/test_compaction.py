"""Compaction, and sweeping after it: whatever is rewritten and removed, in whatever race, no record is lost and none changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import faulty_store
import pytest
import strategies as s
from crash_child import copy_of
from histories import carry_out, check_store, fresh, open_in, records, run_range, slow
from hypothesis import given
from hypothesis import strategies as st
from superseded import YAML, Clock, Suspended, story

import recon
from recon.api import Reconciliation
from recon.config.form import form_of
from recon.errors import Damaged
from recon.model.windows import name_of
from recon.operations.upkeep import sweep_store
from recon.state import compaction, reachable, rewrite
from recon.state.amplification import StoredBytes
from recon.state.compaction import PartFile, compact, is_due
from recon.state.forms import head_of_part
from recon.state.runs import merge as runs_merge
from recon.state.runs import open_run
from recon.state.tiers import merge_tiers
from recon.state.timeline import Timeline
from recon.storage import layout

SLOW = slow(2)
Told = tuple[Path, s.State]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The store of the story, which is never changed, and the oracle's state of it."""
    folder = tmp_path_factory.mktemp("told") / "store"
    folder.mkdir()
    return folder, story(open_in(folder, YAML))


@pytest.fixture
def r(told: Told, tmp_path: Path) -> Reconciliation:
    """A copy of it, to change."""
    return recon.open(copy_of(told[0], tmp_path / "store") / "recon.yaml")


def total(r: Reconciliation) -> dict[str, int]:
    held = r.state().totals.get("bytes", {"parts": 0, "live": 0})  # before the first commit there are none
    return {name: held[name] for name in ("parts", "live")}


def survey(r: Reconciliation) -> list[PartFile]:
    """Every part-file that the runs name, those without a live record too. Reads all entries, no record."""
    if not r.state().runs:
        return []
    with compaction._live(r.store(), r.state()) as (runs, live):
        return compaction._parts(r.store(), runs, live)


def check_bytes(r: Reconciliation) -> None:
    """What the commits carry on is what the part-files hold."""
    held = survey(r)
    assert total(r) == {"parts": sum(p.bytes for p in held if p.live or p.path in needed_parts(r)), "live": sum(p.live for p in held)}


def needed_parts(r: Reconciliation) -> set[str]:
    return {path for path in reachable.needed(r.store(), r.state()) if path.endswith(".words")}


@SLOW
@given(s.histories(max_operations=12), st.data())
def test_compactions_and_sweeps_anywhere_in_a_history_change_nothing_that_is_seen(history: s.History, data: st.DataObject) -> None:
    clock = Clock()
    with fresh(YAML) as r:
        for operation, state in zip(history.operations, history.states(), strict=True):
            carry_out(r, operation)
            for _ in range(data.draw(st.integers(0, 2))):
                if data.draw(st.booleans()):
                    compact(r.store(), r.config, Timeline(r.store()), always=data.draw(st.booleans()))
                else:
                    clock.sweep(r)
            if isinstance(operation, s.Run):
                check_store(r, state)
        compact(r.store(), r.config, Timeline(r.store()), always=True)
        for _ in range(3):
            clock.sweep(r)
        check_store(r, history.states()[-1])
        assert not r.verify(full=True).problems
        assert set(r.store().list(layout.STATE)) == reachable.needed(r.store(), r.state()), "all that is left is needed"
        check_bytes(r)


def test_a_compaction_brings_the_part_files_down_and_what_it_dropped_goes_after_the_grace(r: Reconciliation, told: Told) -> None:
    state = told[1]
    check_bytes(r)
    assert is_due(r.config, r.state())
    before, clock = records(r), Clock()
    done = compact(r.store(), r.config, Timeline(r.store()))
    assert done.commit == r.state().commit
    assert done.dropped > 0
    assert not is_due(r.config, r.state())
    assert len(r.state().runs) == 1
    check_bytes(r)
    assert records(r) == before
    assert compact(r.store(), r.config, Timeline(r.store())).commit is None, "done again it finds nothing to do"
    paths = set(r.store().list(layout.STATE))
    orphaned = sum(r.store().size(path) for path in paths - reachable.needed(r.store(), r.state()))
    assert r.status()["bytes"] == {"live": total(r)["live"], "superseded": total(r)["parts"] - total(r)["live"], "orphaned": orphaned}
    assert orphaned > 0
    assert clock.sweep(r).commit is None, "the first sweep only looks"
    assert set(r.store().list(layout.STATE)) == paths
    swept = clock.sweep(r)
    assert swept.commit == r.state().commit
    assert swept.state == len(paths) - len(reachable.needed(r.store(), r.state()))
    assert set(r.store().list(layout.STATE)) == reachable.needed(r.store(), r.state())
    assert r.status()["bytes"]["orphaned"] == 0
    check_store(r, state)
    assert not r.verify(full=True).problems


@pytest.mark.parametrize("rules", ["those of the others", "0123456789abcdef"])
def test_records_are_copied_under_the_head_that_all_of_them_have(tmp_path: Path, rules: str) -> None:
    r = open_in(tmp_path, YAML)
    for window, keys in enumerate(("abcdef", "ghijkl", "abcghi")):  # which leaves half of both that come first
        rows = tuple(s.Row(order_id=key, event_id=f"{window}{key}") for key in keys)
        for operation in (s.Land(window, s.File(f"w{window}", rows)), s.Close(window), s.Run((window,))):
            carry_out(r, operation)
    form, before = form_of(r.config), records(r)
    chosen = [part.path for part in survey(r) if 0 < part.live < part.bytes]
    assert len(chosen) == 2
    if rules != "those of the others":
        body = r.store().get(chosen[1])
        r.store().delete(chosen[1])
        r.store().put_new(chosen[1], [replace(form, rules=rules).head(), body[len(form.head()) :]])
        with pytest.raises(Damaged, match="its head is not that of state/"):
            compact(r.store(), r.config, Timeline(r.store()), always=True)
        return
    assert compact(r.store(), r.config, Timeline(r.store()), always=True).rewritten == 2
    assert {head_of_part(r.store(), path) for path in needed_parts(r)} == {form.head()}
    assert records(r) == before


def test_a_state_that_is_smaller_than_its_heads_is_left_as_it_is(tmp_path: Path) -> None:
    r = open_in(tmp_path, YAML)
    for operation in (s.Land(0, s.File("one", (s.Row(order_id="A"),))), s.Close(0), s.Run((0,))):
        carry_out(r, operation)
    (part,) = survey(r)
    assert part.live == part.bytes < len(head_of_part(r.store(), part.path))
    check_bytes(r)
    assert not is_due(r.config, r.state())
    assert compact(r.store(), r.config, Timeline(r.store()), always=True).commit is None


BOUNDS = st.sampled_from([(1.1, 1.3), (1.5, 1.5), (1.3, 2.0), (3.0, 1.2)])


def check_balance(r: Reconciliation, writes: float | None) -> None:
    """What each commit since the store's first has spent, as it can be told from the commit itself; and that ``writes`` was kept."""
    timeline, before = Timeline(r.store()), {"written": 0, "changed": 0}
    commits = [timeline.entry(number) for number in range(1, r.state().commit + 1)]
    swept = {layout.attempt_of(path) for entry in commits if entry for path in entry.swept}
    for number, entry in enumerate(commits, 1):
        assert entry is not None
        held = timeline.at(number).totals["bytes"]
        # A rebuild's own sums take the place of what was; what is swept cannot be measured any more.
        if entry.generation is None and not (entry.kind == "compact" and entry.writer in swept):
            entries, records = (sum(getattr(run, name) for run in entry.runs_added) for name in ("entries", "part_bytes"))
            spent = held["written"] - before["written"]
            assert held["changed"] - before["changed"] == records
            if entry.kind == "compact":  # which may have written its run anew after a lost race
                written = list(r.store().list(f"state/{entry.writer}"))
                entries = sum(open_run(r.store(), path).count for path in written if path.endswith(".run"))
                records = sum(r.store().size(path) - len(head_of_part(r.store(), path)) for path in written if path.endswith(".words"))
            assert spent == records + 36 * entries
        if writes is not None:
            assert held["written"] <= writes * held["changed"], (entry.kind, number)
        before = held


@SLOW
@given(s.histories(max_operations=12), BOUNDS)
def test_the_bound_that_is_configured_holds_and_artifacts_are_the_same_whichever_it_is(
    history: s.History, bounds: tuple[float, float]
) -> None:
    disk, writes = bounds
    with (
        pytest.MonkeyPatch.context() as patch,
        fresh(s.STANDARD_YAML + f"compaction: {{disk: {disk}}}\n") as on_disk,
        fresh(s.STANDARD_YAML + f"compaction: {{bound: writes, disk: {disk}, writes: {writes}}}\n") as in_writes,
    ):
        patch.setattr(compaction, "IN_A_RUN_BYTES_MIN", 0)
        patch.setattr("recon.state.tiers.choose_tiers", lambda sizes: slice(0, len(sizes)) if len(sizes) > 2 else None)
        for operation in history.operations:
            for r in (on_disk, in_writes):
                carry_out(r, operation)
            if isinstance(operation, s.Run):
                compact(in_writes.store(), in_writes.config, Timeline(in_writes.store()))
            if isinstance(operation, s.Run) and on_disk.state().commit:
                held = total(on_disk)
                assert held["parts"] <= disk * held["live"]
                assert on_disk.status()["bounds"]["disk_bound"] == disk
        for r, kept in ((on_disk, None), (in_writes, writes)):
            check_balance(r, kept)
            check_store(r, history.states()[-1])
            assert not r.verify().problems
        assert records(on_disk) == records(in_writes)


def test_what_the_bound_on_writes_puts_off_is_done_once_enough_has_changed_and_status_tells_both(tmp_path: Path) -> None:
    r = open_in(tmp_path, s.STANDARD_YAML + "compaction: {bound: writes, disk: 1.1, writes: 1.2}\n")
    put_off = []
    for window in range(12):
        # Two of the keys are never touched again, so that there is something to rewrite.
        rows = tuple(s.Row(order_id=f"K{n}", event_id=f"{window}-{n}") for n in range(7 if window == 0 else 5))
        for operation in (s.Land(window, s.File(f"w{window}", rows)), s.Close(window), s.Run((window,))):
            carry_out(r, operation)
        before = StoredBytes.of(r.state().totals)
        assert r.status()["bounds"] == {
            "bound": "writes",
            "disk": round(before.parts / before.live, 3),
            "disk_bound": 1.1,
            "writes": round(before.written / before.changed, 3),
            "writes_bound": 1.2,
        }
        done = compact(r.store(), r.config, Timeline(r.store()))
        if done.commit is not None:
            break
        put_off.append(done.put_off)
        assert done.put_off == is_due(r.config, r.state())
        assert not done.put_off or before.written + done.needs > 1.2 * before.changed
    assert put_off[:2] == [False, True]
    after = StoredBytes.of(r.state().totals)
    assert done.commit == r.state().commit
    assert after.written == before.written + done.bytes + 36 * r.state().runs[0].entries <= 1.2 * after.changed
    assert after.parts <= 1.1 * after.live


@pytest.mark.parametrize("least", [0, compaction.IN_A_RUN_BYTES_MIN])
def test_a_run_compacts_once_there_is_enough_to_gain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: int) -> None:
    monkeypatch.setattr(compaction, "IN_A_RUN_BYTES_MIN", least)
    r = open_in(tmp_path, YAML)
    state = story(r)
    held = total(r)
    assert is_due(r.config, r.state()) == (held["parts"] > 1.1 * held["live"]) == (least > 0)
    check_store(r, state)


MEANWHILE = ("a merge of the same keys", "tiers", "a merge and tiers", "a compaction", "a rebuild", "sweeps", "all of it")


@pytest.mark.parametrize("what", MEANWHILE)
def test_a_compaction_that_was_suspended_before_its_commit_undoes_nothing_that_was_done_meanwhile(
    r: Reconciliation, told: Told, what: str
) -> None:
    state = told[1]
    clock = Clock()

    def merge() -> None:
        nonlocal state
        rows = tuple(s.Row(order_id=f"K{n}", event_id=f"late-{n}", event_type="PAYMENT", amount="1.00") for n in range(0, 10, 2))
        for operation in (s.Land(6, s.File("late", rows)), s.Close(6), s.Run((6,))):
            carry_out(r, operation)
            state = s.apply(state, operation)

    def tiers() -> None:
        before = len(r.state().runs)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("recon.state.tiers.choose_tiers", lambda sizes: slice(0, len(sizes)) if len(sizes) > 1 else None)
            merge_tiers(r.store(), r.config, Timeline(r.store()))
        assert len(r.state().runs) == min(1, before)

    def sweeps() -> None:
        for _ in range(3):
            clock.sweep(r)

    done: dict[str, Callable[[], Any]] = {
        "a merge of the same keys": merge,
        "tiers": tiers,
        "a merge and tiers": lambda: (merge(), tiers()),
        "a compaction": lambda: compact(r.store(), r.config, Timeline(r.store()), always=True),
        "a rebuild": r.rebuild,
        "sweeps": sweeps,
    }

    def meanwhile() -> None:
        for name in [name for name in done if name != "a merge and tiers"] if what == "all of it" else [what]:
            done[name]()

    suspended = Suspended(r, layout.TIMELINE, 1, meanwhile)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewrite, "PART_RECORDS", 1)
        done_at_last = compact(suspended.store, r.config, Timeline(suspended.store), always=True)
    assert suspended.seen >= 1
    assert done_at_last.records == 3 or what in ("a rebuild", "all of it"), "which make it start over"
    check_store(r, state)
    check_balance(r, None)
    assert not r.verify(full=True).problems
    sweeps()
    check_store(r, state)
    assert not r.verify(full=True).problems
    assert set(r.store().list(layout.STATE)) == reachable.needed(r.store(), r.state())


class Killed(Exception):
    """The process dies here."""


@pytest.mark.parametrize("kind", ["put_new", "delete"])
@pytest.mark.parametrize("what", ["compaction", "sweep"])
def test_a_kill_at_any_write_of_a_compaction_or_sweep_loses_nothing_and_the_next_completes_it(tmp_path: Path, what: str, kind: str) -> None:
    r = open_in(tmp_path, YAML)
    state = story(r, windows=4)
    clock = Clock()
    if what == "sweep":
        compact(r.store(), r.config, Timeline(r.store()), always=True)
        clock.sweep(r)
    number = 0
    while True:
        number += 1

        def hook(call: faulty_store.Call, at: int = number) -> None:
            if call.kind == kind and call.number == at:
                raise Killed

        watched = faulty_store.WatchedStore(r.store(), before=hook)
        clock.now += timedelta(hours=1)
        try:
            if what == "sweep":
                sweep_store(watched, r.config, Timeline(watched), clock.now)
            else:
                compact(watched, r.config, Timeline(watched), always=True)
        except Killed:
            check_store(r, state)
            assert not r.verify().problems
            continue
        break
    check_store(r, state)
    for _ in range(3):
        clock.sweep(r)
    assert set(r.store().list(layout.STATE)) == reachable.needed(r.store(), r.state())
    assert not r.verify(full=True).problems


@SLOW
@given(s.histories(max_windows=3, max_operations=6), st.integers(1, 3), st.integers(1, 5), st.integers(1, 1500))
def test_records_of_one_hash_stay_together_wherever_a_part_file_a_stretch_or_a_piece_is_cut(
    history: s.History, size: int, stretch: int, piece: int
) -> None:
    with fresh(YAML) as r, pytest.MonkeyPatch.context() as patch:
        for operation in history.operations:
            carry_out(r, operation)
        patch.setattr(rewrite, "PART_RECORDS", size)
        patch.setattr(rewrite, "PART_BYTES", 3 * piece)
        patch.setattr(rewrite, "PIECE_BYTES", piece)
        patch.setattr(runs_merge, "MERGE_STRETCH_ENTRIES", stretch)
        before = records(r)
        compact(r.store(), r.config, Timeline(r.store()), always=True)
        assert records(r) == before
        check_bytes(r)
        assert not r.verify().problems


def test_windows_go_on_from_a_compacted_run(r: Reconciliation, told: Told) -> None:
    state = told[1]
    compact(r.store(), r.config, Timeline(r.store()), always=True)
    for operation in (s.Replay(3), s.Unland(2, "w2.csv")):
        carry_out(r, operation)
        state = s.apply(state, operation)
    report = run_range(r, (2, 3))
    assert report.windows == [name_of(s.at(2)), name_of(s.at(3))]
    check_store(r, s.apply(state, s.Run((2, 3))))
    check_bytes(r)
