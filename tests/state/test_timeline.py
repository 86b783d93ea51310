"""The timeline: whatever checkpoints there are, gone or damaged, every state is the fold of the entries, read from few objects."""

from __future__ import annotations

import hashlib
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.config import load_config
from recon.errors import Damaged
from recon.model.windows import name_of
from recon.state import checkpoints
from recon.state.committed import committed_figures, of_commit
from recon.state.timeline import Entry, Fold, RunRef, State, Timeline
from recon.storage import frontiers, layout
from recon.storage.local import LocalStore

START = datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def window(number: int) -> str:
    return name_of(START + timedelta(hours=number))


def figures(revision: int, closed: bool = True) -> dict[str, Any]:
    return {"revision": revision, "folder": f"stateless/{revision}/", "closed": closed, "rows": revision * 10}


@st.composite
def histories(draw: st.DrawFn) -> list[Entry]:
    """Commits that change windows, count others again, add runs and merge them away."""
    entries, runs, revisions = [], [], dict[int, int]()
    for number in range(1, draw(st.integers(1, 24)) + 1):
        if len(runs) > 2 and draw(st.booleans()):
            first = draw(st.integers(0, len(runs) - 2))
            gone, tier = runs[first : first + 2], RunRef(f"tier-{number}", 2)
            runs[first : first + 2] = [tier]
            removed = tuple(run.path for run in gone)
            entries.append(Entry("tiers", f"w{number}", "rules", runs_added=(tier,), runs_removed=removed))
            continue
        changed = draw(st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True))
        for one in changed:
            revisions[one] = revisions.get(one, 0) + 1
        recounted = [one for one in draw(st.lists(st.integers(0, 5), max_size=2, unique=True)) if one in revisions and one not in changed]
        run = RunRef(f"run-{number}", number)
        runs.insert(0, run)
        entries.append(
            Entry(
                "merge",
                f"w{number}",
                "rules",
                {window(one): figures(revisions[one]) for one in changed},
                {window(one): figures(revisions[one]) for one in recounted},
                (run,),
                totals={"statuses": {"MATCHED": number}},
                watermark=draw(st.sampled_from(["", window(0), window(1)])),
            )
        )
    return entries


def committed(timeline: Timeline, entries: list[Entry]) -> list[State]:
    """The states after 0, 1, 2 … commits, folded without any checkpoint."""
    fold, states = Fold(State(folder=timeline.folder)), [State(folder=timeline.folder)]
    for entry in entries:
        state = timeline.commit(entry, onto=states[-1], now=lambda: NOW)
        assert state is not None
        stored = timeline.entry(state.commit)
        assert stored is not None
        fold.add(stored)
        states.append(fold.state())
    return states


def put(timeline: Timeline, entry: Entry) -> None:
    """One more commit onto whatever the head is."""
    assert timeline.commit(entry, onto=timeline.head()) is not None


def small_checkpoints() -> Any:
    return mock.patch.multiple(checkpoints, UNIT=2, BASE=2)


@settings(max_examples=60, deadline=None)
@given(histories(), st.data())
def test_every_state_is_the_fold_of_its_entries_whatever_checkpoints_are_gone_or_damaged(entries: list[Entry], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder, small_checkpoints():
        store = LocalStore(Path(folder))
        states = committed(Timeline(store), entries)
        for path in list(store.list(layout.checkpoints())):
            file, fate = Path(folder) / path, data.draw(st.sampled_from(["stays", "stays", "gone", "damaged"]))
            if fate == "gone":
                file.unlink()
            elif fate == "damaged":
                content = bytearray(file.read_bytes())
                content[data.draw(st.integers(0, len(content) - 1))] ^= 1
                file.write_bytes(content)
        assert Timeline(store).head() == states[-1]
        behind = Timeline(store)
        behind._seen = states[data.draw(st.integers(0, len(states) - 1))]
        assert behind.head() == states[-1]
        for number, expected in enumerate(states):
            assert Timeline(store).at(number) == expected
        with pytest.raises(Damaged, match="no such commit"):
            Timeline(store).at(len(states))


@settings(max_examples=30, deadline=None)
@given(histories())
def test_checkpoints_that_a_died_writer_did_not_come_to_are_mended_as_they_would_have_been(entries: list[Entry]) -> None:
    with tempfile.TemporaryDirectory() as folder, small_checkpoints():
        store = LocalStore(Path(folder))
        committed(Timeline(store), entries)
        written = {path: store.get(path) for path in store.list(layout.checkpoints())}
        for path in written:
            store.delete(path)
        Timeline(store).mend_checkpoints()
        mended = {path: checkpoints.read(store, layout.TIMELINE, _place(path)) for path in store.list(layout.checkpoints())}
        assert mended.keys() == written.keys()
        for path in written:
            store.delete(path)
            store.put_new(path, [written[path]])
            again = checkpoints.read(store, layout.TIMELINE, _place(path))
            assert (again.at, again.windows()) == (mended[path].at, mended[path].windows())
        assert Timeline(store).mend_checkpoints() == 0


def _place(path: str) -> checkpoints.Span:
    level, commit = path.removeprefix(layout.checkpoints()).split("/")
    return checkpoints.Span(int(commit), int(level))


class Counting(LocalStore):
    """Counts what is read."""

    reads = 0

    def get(self, path: str) -> bytes:
        self.reads += 1
        return super().get(path)


def test_opening_a_long_timeline_reads_few_objects_and_looking_again_reads_one(tmp_path: Path) -> None:
    writer = Timeline(LocalStore(tmp_path))
    state = State()
    commits = checkpoints.UNIT * (checkpoints.BASE + 2) + 5
    for number in range(1, commits + 1):
        following = writer.commit(Entry("merge", f"w{number}", "r", {window(number): figures(1)}), onto=state, now=lambda: NOW)
        assert following is not None
        state = following
    store = Counting(tmp_path)
    timeline = Timeline(store)
    assert timeline.head() == state
    assert store.reads == 1 + 2 + 5 + 1  # one of level 1, two of level 0, five entries, and the one that is not there yet
    store.reads = 0
    assert timeline.head() is timeline.head()
    assert store.reads == 2


def test_the_figures_of_a_window_are_those_of_its_last_change(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    entries = [
        Entry("merge", "w1", "r", {window(0): figures(1), window(1): figures(1)}),
        Entry("merge", "w2", "r", {window(0): figures(2)}, {window(1): {**figures(1), "rows": 7}}),
        Entry("merge", "w3", "r", {window(2): figures(1)}),
    ]
    state = committed(Timeline(store), entries)[-1]
    found = committed_figures(store, state, [window(0), window(1), window(2), window(9)])
    of = {number: of_commit(entry) for number in (2, 3) if (entry := Timeline(store).entry(number))}
    assert [of[number]["commit"] for number in of] == [2, 3]
    assert found == {
        window(0): {**figures(2), **of[2]},
        window(1): {**figures(1), "rows": 7, **of[2]},
        window(2): {**figures(1), **of[3]},
    }


def test_a_generation_takes_the_place_of_all_that_stood_and_commits_go_on_from_there(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    before = committed(Timeline(store), [Entry("merge", "w1", "old", {window(0): figures(1)}, runs_added=(RunRef("old", 1),))])[-1]
    rebuilt = Timeline(store, layout.generation("g"))
    made = committed(rebuilt, [Entry("merge", "g1", "new", {window(n): figures(1)}, runs_added=(RunRef(f"g{n}", 1),)) for n in (0, 1)])[-1]
    timeline = Timeline(store)
    switched = timeline.commit(Entry("rebuild", "w2", "new", generation=("g", made.commit)), onto=before)
    assert switched is not None
    assert [run.path for run in switched.runs] == ["g1", "g0"]
    after = timeline.commit(Entry("merge", "w3", "new", {window(2): figures(1)}), onto=switched)
    assert after is not None
    assert Timeline(store).head() == after
    assert (after.rules, after.folder) == ("new", layout.TIMELINE)
    assert {name: held.commit for name, held in after.windows.items()} == {window(0): 2, window(1): 2, window(2): 3}
    changed = {
        "commit": 2,
        "entry": switched.digest,
        "time": switched.time,
        "rules": "new",
        "cause": "rebuild",
        "reason": "by the rules new",
    }
    assert committed_figures(store, after, [window(1)]) == {window(1): {**figures(1), **changed}}
    assert after.rebuilt == 2
    assert Timeline(store).at(1) == before


def test_a_frontier_only_moves_on(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert frontiers.read(store, "certified") == (0, None)
    frontiers.advance(store, "certified", 7, "seven")
    frontiers.advance(store, "certified", 5, "five")
    assert frontiers.read(store, "certified") == (7, "seven")
    frontiers.advance(store, "certified", 12)
    assert frontiers.read(store, "certified") == (12, None)
    assert len(list(store.list("frontiers/"))) == 1


def test_a_damaged_entry_is_named_and_never_passed_over(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    committed(Timeline(store), [Entry("merge", "w1", "r", {window(0): figures(1)})])
    (tmp_path / layout.commit(1)).write_text("{}")
    with pytest.raises(Damaged, match=f"{layout.commit(1)}: the timeline entry is damaged"):
        Timeline(store).head()


def test_the_watermark_reaches_as_far_as_windows_are_closed_without_a_gap(tmp_path: Path) -> None:
    from recon.state.certificates import watermark_after

    (tmp_path / "recon.yaml").write_text(
        "name: orders\nstore: ./data\nkey: k\nwindows: {start: 2026-11-01T00:00Z, every: 1h}\nmeasures: {lines: {count: '*'}}\n"
        "status: [{BREAK: 'true'}]\n"
    )
    config = load_config(tmp_path / "recon.yaml")
    state = State()
    assert watermark_after(config, state, {window(1): True}) == ""
    assert watermark_after(config, state, {window(0): True, window(1): True, window(3): True}) == window(1)
    assert watermark_after(config, state, {window(0): True, window(1): False, window(2): True}) == window(0)


def test_each_entry_names_the_digest_of_the_one_before_and_bears_a_seal(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    committed(Timeline(store), [Entry("merge", f"w{n}", "r", {window(n): figures(1)}) for n in range(3)])
    put(Timeline(store), Entry("tiers", "w9", "r"))  # by one that has read the entries
    raw = [store.get(layout.commit(number)) for number in range(1, 5)]
    read = [Entry.from_json(one) for one in raw]
    assert [entry.previous for entry in read] == ["", *(hashlib.sha256(one).hexdigest() for one in raw[:-1])]
    assert Timeline(store).head().digest == read[-1].digest == hashlib.sha256(raw[-1]).hexdigest()
    with pytest.raises(ValueError, match="its seal does not fit"):
        Entry.from_json(raw[1].replace(b'"w1"', b'"w7"'))


def test_the_link_holds_where_the_state_was_read_from_a_checkpoint(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    committed(Timeline(store), [Entry("merge", f"w{n}", "r", {window(n): figures(1)}) for n in range(checkpoints.UNIT)])
    fresh = Timeline(store)
    assert fresh.head().digest == ""  # by the checkpoint alone
    put(fresh, Entry("tiers", "w9", "r"))
    last = hashlib.sha256(store.get(layout.commit(checkpoints.UNIT))).hexdigest()
    assert Entry.from_json(store.get(layout.commit(checkpoints.UNIT + 1))).previous == last


def test_entries_of_format_3_stay_readable_and_the_chain_begins_after_them(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    old = Entry("merge", "w1", "r", {window(0): figures(1)}, number=1, time=NOW.isoformat())
    body = {name: value for name, value in json.loads(old.to_json()).items() if name not in ("previous", "made", "seal")}
    store.put_new(layout.commit(1), [json.dumps(body).encode()])
    put(Timeline(store), Entry("merge", "w2", "r", {window(1): figures(1)}))
    first, second = (Timeline(store).entry(number) for number in (1, 2))
    assert first is not None
    assert first.previous is None
    assert second is not None
    assert second.previous == first.digest
