"""What a timeline entry names stays there: a rebuild dies anywhere, then others compact, rebuild and sweep far ahead."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import faulty_store
import pytest
import strategies as s
from crash_child import copy_of
from histories import carry_out, check_store, fresh, open_in, records, slow
from hypothesis import given
from hypothesis import strategies as st
from other_rules import OTHER_RULES, OTHER_YAML, begun, story

import recon
from recon.api import Reconciliation
from recon.errors import WrongUsage
from recon.operations.upkeep import sweep_store
from recon.stages.certify import certify_windows
from recon.state import reachable
from recon.state.certificates import uncertified
from recon.state.compaction import compact
from recon.state.timeline import Entry, Timeline
from recon.storage import layout

SLOW = slow(2)

SOAK = os.environ.get("RECON_SOAK") == "1"
RETAINED = "retention: {grace: 1h, history: 1d}\n"


class Dies(Exception):
    """The process dies here."""


def by_rules(r: Reconciliation, text: str, name: str = "other") -> Reconciliation:
    """The same store by another configuration."""
    path = r.config.path.with_name(f"{name}.yaml")
    path.write_text(text)
    return recon.open(path)


def age(r: Reconciliation, days: int = 3) -> None:
    """A compaction, and a sweep each day from tomorrow on: every grace and all of the history that is kept are over."""
    compact(r.store(), r.config, Timeline(r.store()), always=True)
    for day in range(1, days + 1):
        sweep_store(r.store(), r.config, Timeline(r.store()), datetime.now(UTC) + timedelta(days=day))


def check_whole(r: Reconciliation) -> None:
    """Everything that the newest state rests on is there, and every state of the past can be told."""
    timeline, state = Timeline(r.store()), r.state()
    paths = set(r.store().list(""))
    assert reachable.needed(r.store(), state) <= paths
    for folder in reachable.folders(state):
        assert {f"{folder}{name}" for name in ("artifacts.parquet", "events.parquet", "set_aside.parquet", "figures.json")} <= paths
    for number in range(state.commit + 1):
        assert timeline.at(number).commit == number
    assert not r.verify(full=True).problems


def dying_at(number: int) -> faulty_store.Hook:
    """Dies before the ``number``-th object that is put, whichever way."""
    seen = 0

    def hook(call: faulty_store.Call) -> None:
        nonlocal seen
        seen += call.kind in ("put_new", "copy_in")
        if seen == number:
            raise Dies

    return hook


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, s.State]:
    """The story's store, which each moment takes a copy of, and the oracle's state of it."""
    folder = tmp_path_factory.mktemp("told") / "store"
    folder.mkdir()
    return folder, story(open_in(folder, s.STANDARD_YAML + RETAINED))


@pytest.mark.parametrize("then", ["nothing", "rebuilt"])
def test_whatever_a_rebuild_that_died_had_switched_to_is_never_swept(told: tuple[Path, s.State], tmp_path: Path, then: str) -> None:
    """Dies before each object in turn, the ones after the switch too. Then the store is compacted, perhaps rebuilt as the message
    advises, swept far ahead, and must be what it would have been. In `make test` every sixth of the first twenty objects, which come before
    the switch, and not the same ones of both kinds."""
    base, state = told
    number, finished, switched = 0, False, 0
    while not finished:
        number += 1
        if number % 6 != (1 if then == "nothing" else 4) and not SOAK and not switched and number < 20:
            continue
        r = recon.open(copy_of(base, tmp_path / str(number)) / "recon.yaml")
        other = by_rules(r, OTHER_YAML + RETAINED)
        other._store = faulty_store.WatchedStore(r.store(), before=dying_at(number))
        with suppress(Dies):
            other.rebuild()
            finished = True
        other._store = None
        is_switched = other.state().rules == other.config.rules_version
        switched += is_switched and not finished
        age(r, days=1)
        if then == "rebuilt":
            other.rebuild()
        now, rules = (other, OTHER_RULES) if is_switched or then == "rebuilt" else (r, s.STANDARD_RULES)
        now.run()
        age(now)
        check_store(now, state, rules)
        check_whole(now)
    assert switched > 2, "it should have died after the switch, too"


def test_a_generation_that_is_switched_to_outlives_each_sweep_though_nothing_stands_on_its_runs_any_more(tmp_path: Path) -> None:
    r = open_in(tmp_path, s.STANDARD_YAML + RETAINED)
    state = story(r)
    named = []
    for text in (OTHER_YAML + RETAINED, s.STANDARD_YAML + RETAINED):
        now = by_rules(r, text)
        now.rebuild()
        named += reachable.switched(Timeline(r.store()), now.state()).keys() - set(named)
        age(now)
    assert len(named) == 2
    for generation in named:
        assert r.store().exists(layout.commit(1, layout.generation(generation)))
    check_store(r, state)
    check_whole(r)


def test_a_rebuild_back_to_earlier_rules_never_rests_on_folders_that_a_sweep_may_take(tmp_path: Path) -> None:
    """The preview goes back to rules whose folders are superseded; they go before the rebuild."""
    r = open_in(tmp_path, s.STANDARD_YAML + RETAINED)
    state = story(r)
    before = reachable.folders(r.state())
    other = by_rules(r, OTHER_YAML + RETAINED)
    other.rebuild()
    r.preview_rebuild()
    (generation,) = begun(other)
    made = Timeline(r.store(), layout.generation(generation)).head()
    sweep_store(r.store(), r.config, Timeline(r.store()), datetime.now(UTC) + timedelta(days=1, minutes=1))
    assert not [path for path in r.store().list(layout.STATELESS) if path.rpartition("/")[0] + "/" in before]
    assert reachable.folders(made).isdisjoint(before)
    r.rebuild()
    check_store(r, state)
    check_whole(r)
    age(r)
    r.replay("2026-11-01T00:00Z", "2026-11-01T02:00Z")
    r.run()
    check_whole(r)


def test_a_rebuild_does_not_switch_to_a_generation_of_whose_folders_a_sweep_lists_any(tmp_path: Path) -> None:
    """As a store of an older version may have it, whose previews took superseded folders again."""
    r = open_in(tmp_path, s.STANDARD_YAML + RETAINED)
    state = story(r)
    other = by_rules(r, OTHER_YAML + RETAINED)
    other.preview_rebuild()
    (generation,) = begun(r)
    made = Timeline(r.store(), layout.generation(generation)).head()
    listed = min(reachable.folders(made))
    timeline = Timeline(r.store())
    head = timeline.head()
    timeline.commit(Entry("sweep", layout.new_attempt(), head.rules, totals=dict(head.totals), swept=(listed,)), onto=head)
    for path in list(r.store().list(listed)):
        r.store().delete(path)
    other.rebuild()
    assert listed not in reachable.folders(other.state())
    check_store(other, state, OTHER_RULES)
    check_whole(other)


def test_what_a_preview_has_made_is_not_swept_from_under_it(tmp_path: Path) -> None:
    """Folders that the timeline has superseded and that a generation in the making rests on: they stay until that is given up."""
    r = open_in(tmp_path, s.STANDARD_YAML + "retention: {grace: 2d, history: 2d}\n")
    state = story(r)
    other = by_rules(r, OTHER_YAML + "retention: {grace: 2d, history: 2d}\n")
    other.rebuild()
    superseded = reachable.folders(Timeline(r.store()).at(other.state().commit - 1))
    r.preview_rebuild()
    (generation,) = begun(other)
    folder = layout.generation(generation)
    # As older versions did it: the generation rests on the folders that the timeline superseded.
    head = Timeline(r.store(), folder).head()
    at = Timeline(r.store()).at(other.state().commit - 1)
    windows = {name: {"revision": held.revision, "closed": held.closed, "folder": held.folder} for name, held in at.windows.items()}
    Timeline(r.store(), folder).commit(Entry("merge", layout.new_attempt(), r.config.rules_version, windows), onto=head)
    newest = datetime.fromisoformat(Timeline(r.store(), folder).head().time)
    sweep_store(other.store(), other.config, Timeline(r.store()), newest + timedelta(days=2))
    there = {path.rpartition("/")[0] + "/" for path in r.store().list(layout.STATELESS)}
    assert superseded <= there
    check_store(other, state, OTHER_RULES)


def test_a_rebuild_that_another_process_has_finished_is_done(tmp_path: Path) -> None:
    """Both had taken up the same generation; the slower one finds it switched to, and does not do everything again."""
    r = open_in(tmp_path, s.STANDARD_YAML + RETAINED)
    state = story(r)
    other, faster = by_rules(r, OTHER_YAML + RETAINED), by_rules(r, OTHER_YAML + RETAINED)
    other.preview_rebuild()
    done: list[Any] = []

    def meanwhile(call: faulty_store.Call) -> None:
        if call.kind == "put_new" and call.path.startswith(layout.TIMELINE) and not done:
            done.append(None)
            done[0] = faster.rebuild()

    other._store = faulty_store.WatchedStore(r.store(), before=meanwhile)
    mine = other.rebuild()
    assert (mine.commit, mine.before, mine.after) == (done[0].commit, done[0].before, done[0].after)
    check_store(faster, state, OTHER_RULES)
    check_whole(faster)


@SLOW
@given(s.histories(max_windows=4, max_operations=8), st.data())
def test_rebuilds_back_and_forth_with_sweeps_between_change_nothing_but_the_rules(history: s.History, data: st.DataObject) -> None:
    """Previews, rebuilds that die anywhere, compactions and sweeps of tomorrow and later, in any order between any operations."""
    with fresh() as opened:
        sides = [by_rules(opened, text + RETAINED, name) for name, text in (("one", s.STANDARD_YAML), ("two", OTHER_YAML))]
        rules, at, day = (s.STANDARD_RULES, OTHER_RULES), 0, 0
        for operation, state in zip(history.operations, history.states(), strict=True):
            carry_out(sides[at], operation)
            for what in data.draw(st.lists(st.sampled_from(("preview", "rebuild", "dies", "compact", "sweep")), max_size=4)):
                other = sides[1 - at]
                if what == "compact":
                    compact(opened.store(), sides[at].config, Timeline(opened.store()), always=True)
                elif what == "sweep":
                    day += data.draw(st.integers(1, 3))
                    sweep_store(opened.store(), sides[at].config, Timeline(opened.store()), datetime.now(UTC) + timedelta(days=day))
                elif not opened.state().commit:
                    with pytest.raises(WrongUsage):
                        other.rebuild()
                elif what == "preview":
                    other.preview_rebuild()
                else:
                    if what == "dies":
                        other._store = faulty_store.WatchedStore(opened.store(), before=dying_at(data.draw(st.integers(1, 30))))
                    with suppress(Dies):
                        other.rebuild()
                    other._store = None
                    # What the next run begins with, where the rebuild died after it had switched.
                    late = uncertified(opened.store(), other.config, other.state()) if what == "dies" else []
                    certify_windows(opened.store(), other.config, other.state(), late)
                    at = 1 - at if other.state().rules == other.config.rules_version else at
            if isinstance(operation, s.Run):
                check_store(sides[at], state, rules[at])
        sides[at].run()
        if opened.state().commit:
            before = records(sides[at])
            age(sides[at])
            assert records(sides[at]) == before
            check_whole(sides[at])
