"""Sweeping: whoever was suspended while the files that it needs were swept starts over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import strategies as s
from histories import carry_out, check_store, open_in
from superseded import YAML, Clock, Suspended, story

import recon
from recon.api import Reconciliation
from recon.engines.prefetched import Prefetched, open_prefetched
from recon.engines.select import engine_of
from recon.intake.manifests import Manifest
from recon.planning import due
from recon.stages.merge import merge_windows
from recon.stages.reduce import reduce_windows
from recon.state import reachable, reduced
from recon.state.compaction import compact
from recon.state.reduced import Figures
from recon.state.timeline import Timeline
from recon.storage import layout
from recon.storage.port import NotFound


def after_story(folder: Path, window: int = 6) -> tuple[Reconciliation, s.State, Manifest]:
    """A store after ``story``, with one more window, closed and due: its state and its manifest."""
    r = open_in(folder, YAML)
    state = story(r, windows=window)
    for operation in (s.Land(window, s.File(f"w{window}", (s.Row(order_id="K1", event_id="new"),))), s.Close(window)):
        carry_out(r, operation)
        state = s.apply(state, operation)
    (manifest,) = due.due(r.store(), r.config, r.state()).ready
    return r, state, manifest


def prefetched(folder: Path) -> tuple[Reconciliation, s.State, list[Figures], Prefetched]:
    """The same with the window reduced and pre-fetched but not merged: state, figures, and the pre-fetched file."""
    r, state, manifest = after_story(folder)
    figures = reduce_windows(r.store(), r.config, [manifest])
    return r, state, figures, engine_of(r.config).prefetch(r.store(), r.config, r.state(), figures)


def test_a_merge_that_was_suspended_while_its_files_were_swept_starts_over(tmp_path: Path) -> None:
    r, state, figures, fetched = prefetched(tmp_path)
    clock = Clock()
    removed = []

    def meanwhile() -> None:
        before = set(r.store().list(layout.STATE))
        for _ in range(2):
            clock.sweep(r)
        removed.extend(before - set(r.store().list(layout.STATE)))

    suspended = Suspended(r, layout.TIMELINE, 1, meanwhile)
    merged = merge_windows(suspended.store, r.config, Timeline(suspended.store), figures, fetched)
    assert removed, "what it had written was of no use to anybody, as far as anybody could know"
    assert merged.attempts == 2
    r.run()  # which certifies it
    check_store(r, s.apply(state, s.Run((6,))))
    assert not r.verify(full=True).problems


def test_part_files_that_were_compacted_and_swept_since_they_were_prefetched_are_not_missed(tmp_path: Path) -> None:
    """K1 stands where it stood, but its part-file, in which all else is superseded, was rewritten."""
    r, state, figures, fetched = prefetched(tmp_path)
    clock = Clock()
    others = tuple(s.Row(order_id=f"K{n}", event_id=f"7-{n}") for n in (0, 2, 3, 4, 5, 6))
    for operation in (s.Land(7, s.File("w7", others)), s.Close(7), s.Run((7,))):
        carry_out(r, operation)
        state = s.apply(state, operation)
    compact(r.store(), r.config, Timeline(r.store()), always=True)
    for _ in range(3):
        clock.sweep(r)
    with pytest.raises(NotFound):
        open_prefetched(r.store(), fetched).read(r.store())
    assert merge_windows(r.store(), r.config, Timeline(r.store()), figures, fetched).attempts == 1
    r.run()  # which certifies it
    check_store(r, s.apply(state, s.Run((6,))))
    assert not r.verify(full=True).problems


def test_a_reduction_that_was_suspended_while_its_files_were_swept_starts_over(tmp_path: Path) -> None:
    r, state, manifest = after_story(tmp_path, window=1)
    clock = Clock()
    suspended = Suspended(r, layout.STATELESS, 4, lambda: [clock.sweep(r) for _ in range(2)] and None)
    (figures,) = reduce_windows(suspended.store, r.config, [manifest])
    folders = {path.rpartition("/")[0] for path in r.store().list(layout.stateless_of(s.at(1)))}
    assert len(folders) == 2
    (given_up,) = folders - {figures.folder.removesuffix("/")}
    assert r.store().get(f"{given_up}/{reduced.FIGURES}") == reduced.SWEPT
    assert list(r.store().list(given_up)) == [f"{given_up}/{reduced.FIGURES}"]
    r.run()
    check_store(r, s.apply(state, s.Run((1,))))
    assert not r.verify(full=True).problems


def test_a_rebuild_that_was_suspended_while_its_generation_was_swept_makes_another(tmp_path: Path) -> None:
    r = open_in(tmp_path, YAML)
    state = story(r, windows=2)
    clock = Clock()
    (tmp_path / "other.yaml").write_text(YAML.replace("UNPAID", "DUE"))
    other = recon.open(tmp_path / "other.yaml")
    begun: list[str] = []

    def meanwhile() -> None:
        begun.extend(one.generation for one in reachable.open_generations(r.store(), Timeline(r.store()), r.state()))
        for _ in range(2):
            clock.sweep(r)

    suspended = Suspended(r, layout.TIMELINE, 1, meanwhile)
    other._store = suspended.store
    other.rebuild()
    other._store = None
    assert len(begun) == 1
    entry = Timeline(r.store()).entry(other.state().commit)
    assert entry is not None
    assert entry.generation is not None
    assert entry.generation[0] != begun[0]
    renamed = replace(s.STANDARD_RULES, status=tuple(("DUE" if name == "UNPAID" else name, when) for name, when in s.STANDARD_RULES.status))
    check_store(other, state, renamed)
    assert not other.verify(full=True).problems
