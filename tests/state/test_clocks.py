"""Clocks that differ: commit times never go back, nothing closes before its time, what was known at a time stays what it was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import strategies as s
from histories import carry_out, check_store, fresh, open_in, slow
from hypothesis import given
from hypothesis import strategies as st

import recon
from recon.api import Reconciliation
from recon.errors import WrongInput, WrongUsage
from recon.intake.manifests import read_manifest
from recon.model.windows import name_of
from recon.operations.upkeep import sweep_store
from recon.state import timeline
from recon.state.timeline import Timeline, known_at
from recon.storage import clock, frontiers, layout

SLOW = slow(2)

DAY, MICROSECOND = timedelta(days=1), timedelta(microseconds=1)


@contextmanager
def ahead(by: timedelta) -> Iterator[None]:
    """This machine's clock is ahead (or behind) by so much. The kernel's, by which files are stamped, stays right."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + by

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeline, "datetime", Wrong)
        patch.setattr(clock, "here", lambda: datetime.now(UTC) + by)
        yield


@SLOW
@given(s.histories(max_windows=3, max_operations=8), st.data())
def test_commit_times_only_grow_and_each_names_its_commit_at_the_very_microsecond(history: s.History, data: st.DataObject) -> None:
    with fresh() as r:
        pictures: dict[int, list[dict[str, Any]]] = {}
        for operation in history.operations:
            with ahead(data.draw(st.sampled_from((-DAY, timedelta(0), timedelta(seconds=3), DAY)))):
                carry_out(r, operation)
            if r.state().commit:
                pictures[r.state().commit] = r.artifacts().to_pylist()
        entries = [Timeline(r.store()).entry(number) for number in range(1, r.state().commit + 1)]
        times = [datetime.fromisoformat(entry.time) for entry in entries if entry is not None]
        assert all(earlier < later for earlier, later in pairwise(times))
        for number, at in enumerate(times, 1):
            assert known_at(Timeline(r.store()), at).commit == number
            if number == 1:
                with pytest.raises(WrongUsage, match="nothing was committed yet at that time"):
                    known_at(Timeline(r.store()), at - MICROSECOND)
            else:
                assert known_at(Timeline(r.store()), at - MICROSECOND).commit == number - 1
        for number, picture in pictures.items():
            assert r.artifacts(known_at=times[number - 1].isoformat()).to_pylist() == picture
        check_store(r, history.states()[-1])


def test_a_commit_by_a_clock_that_is_behind_is_one_microsecond_after_the_one_before(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    for window, by in enumerate((DAY, timedelta(0), -DAY)):
        with ahead(by):
            for operation in (s.Land(window, s.File(f"w{window}", (s.Row(event_id=str(window)),))), s.Close(window), s.Run((window,))):
                carry_out(r, operation)
    entries = [Timeline(r.store()).entry(number) for number in (1, 2, 3)]
    first, second, third = (datetime.fromisoformat(entry.time) for entry in entries if entry is not None)
    assert (second - first, third - second) == (MICROSECOND, MICROSECOND)
    assert r.show("A", known_at=second.isoformat())["measures"]["lines"] == 2


def today(folder: Path) -> Reconciliation:
    """Windows of an hour since this morning two days ago, closed half an hour after their end."""
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - 2 * DAY
    text = s.STANDARD_YAML.replace("2026-11-01T00:00Z", name_of(start)) + "closing: {deadline: 30m}\n"
    return open_in(folder, text)


def closed(r: Reconciliation) -> list[datetime]:
    grid = r.config.grid
    found = {path.split("/")[1] for path in r.store().list("events/") if "/manifests/" in path}
    starts = (grid.parse(layout.window_name(folder)) for folder in sorted(found))
    return [start for start in starts if (manifest := read_manifest(r.store(), start)) and manifest.closed]


def test_a_clock_a_day_ahead_closes_no_window_that_has_not_begun(tmp_path: Path) -> None:
    r = today(tmp_path)
    with ahead(DAY):
        r.run()
    by_it = closed(r)
    assert by_it, "those whose deadline has passed are closed, also by such a machine"
    assert max(by_it) + timedelta(minutes=90) <= datetime.now(UTC)
    r.run()
    assert closed(r)[: len(by_it)] == by_it


def test_a_clock_a_day_ahead_lands_nothing_in_and_closes_by_hand_no_window_that_has_not_begun(tmp_path: Path) -> None:
    r = today(tmp_path)
    ahead_of_all = name_of(r.config.grid.last_begun(datetime.now(UTC) + DAY / 2))
    (tmp_path / "a.csv").write_bytes(s.File("a", (s.Row(),)).content)
    with ahead(DAY):
        for refused in (lambda: r.close(ahead_of_all), lambda: r.land([tmp_path / "a.csv"], ahead_of_all)):
            with pytest.raises(WrongInput, match=f"window {ahead_of_all} has not begun yet"):
                refused()
        correction = r.correct("A", event={"amount": "1.00", "event_type": "PAYMENT"}, reason="why", yes=True)
    assert r.config.grid.parse(correction.window) <= datetime.now(UTC)


def test_a_sweep_by_a_clock_ahead_does_not_hold_up_those_that_follow(tmp_path: Path) -> None:
    """What it noted lies in the future: the next sweep takes it for found now, and its own note counts."""
    r = open_in(tmp_path, s.STANDARD_YAML + "retention: {grace: 1h}\n")
    for operation in (s.Land(0, s.File("w0", (s.Row(),))), s.Close(0), s.Run((0,))):
        carry_out(r, operation)
    left = "state/0123456789abcdef/part-0000.words"
    r.store().put_new(left, [b"left over"])
    now = datetime.now(UTC)
    sweep_store(r.store(), r.config, Timeline(r.store()), now + 30 * DAY)
    assert r.store().exists(left)
    sweep_store(r.store(), r.config, Timeline(r.store()), now)
    assert frontiers.read(r.store(), "unused")[1] == {left: now.isoformat()}
    sweep_store(r.store(), r.config, Timeline(r.store()), now + timedelta(hours=1, minutes=1))
    assert not r.store().exists(left)


def test_the_stores_own_time_is_asked_of_the_storage_and_leaves_nothing_behind(tmp_path: Path) -> None:
    r = open_in(tmp_path)
    before = set(r.store().list(""))
    for by, least in ((DAY, -DAY / 2), (timedelta(0), -DAY / 2), (-DAY, -2 * DAY)):
        with ahead(by):
            off = clock.now(r.store()) - datetime.now(UTC)
        assert least < off < timedelta(minutes=6)
    assert set(r.store().list("")) == before
    assert os.listdir(tmp_path)  # the folder itself is still there
    assert recon.open(tmp_path / "recon.yaml").state().commit == 0
