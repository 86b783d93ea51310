"""History: what was known at any time stays known, whatever has come, been corrected, rebuilt, compacted and swept since."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
import strategies as s
from histories import carry_out, check_store, fresh, open_in, slow
from hypothesis import given
from hypothesis import strategies as st
from pictures import Picture, check, swept, taken

import recon
from recon.api import Reconciliation
from recon.errors import WrongInput, WrongUsage
from recon.model.windows import name_of
from recon.operations.upkeep import sweep_store
from recon.reading import history as past
from recon.state.compaction import compact
from recon.state.timeline import Timeline
from recon.storage import layout

YAML = s.STANDARD_YAML + "retention: {grace: 1m}\n"


@pytest.fixture(autouse=True, scope="module")
def _few_at_once() -> Iterator[None]:
    """So few windows and keys are folded at once that these small histories need several turns."""
    with patch.multiple(past, WINDOWS_AT_ONCE=2, SLICE_ROWS=3):
        yield


SLOW = slow(2)


@SLOW
@given(s.histories(max_windows=4, max_operations=10), st.data())
def test_what_was_known_at_any_time_is_what_is_answered_of_it_later(history: s.History, data: st.DataObject) -> None:
    pictures: list[Picture] = []
    now = datetime.now(UTC) + timedelta(hours=1)
    with fresh(YAML) as r:
        (r.config.path.with_name("other.yaml")).write_text(YAML.replace("UNPAID", "DUE").replace("dedupe: 2h", "dedupe: 1h"))
        reading = [recon.open(r.config.path), recon.open(r.config.path.with_name("other.yaml"))]
        for operation in history.operations:
            carry_out(reading[0], operation)
            if isinstance(operation, s.Run):
                pictures.append(taken(reading[0]))
                done = data.draw(st.sampled_from(["nothing", "compact", "sweep", "rebuild", "other rules"]))
                if done == "compact":
                    compact(r.store(), r.config, Timeline(r.store()), always=True)
                elif done == "sweep":
                    swept(reading[0], 3, now)
                elif done == "rebuild":
                    reading[0].rebuild()
                    pictures.append(taken(reading[0]))
                elif done == "other rules":
                    reading.reverse()
                    reading[0].rebuild()
                    pictures.append(taken(reading[0]))
                now += timedelta(hours=3)
        keys = {key for picture in pictures for key in picture.shown}
        for picture in pictures:
            check(reading[0], picture, keys)
        compact(r.store(), r.config, Timeline(r.store()), always=True)
        swept(reading[0], 3, now)
        for picture in pictures:
            check(reading[0], picture, keys)
        assert not reading[0].verify(full=True).problems


def story(r: Reconciliation) -> tuple[s.State, list[Picture]]:
    """Two windows; the first one corrected so that a key goes from it; then a compaction and a sweep that leave no old part-file."""
    state, pictures = s.State(), []
    rows = [s.Row(order_id=f"K{n}", event_id=str(n), amount=f"{n}.50") for n in range(6)]
    steps: list[tuple[s.Operation, ...]] = [
        (s.Land(0, s.File("w0", tuple(rows[:4]))), s.Close(0), s.Run((0,))),
        (s.Land(1, s.File("w1", tuple(rows[3:]))), s.Close(1), s.Run((1,))),
        (s.Replace(0, "w0.csv", s.File("w0-corrected", tuple(rows[1:4]))), s.Run((0,))),
    ]
    for step in steps:
        for operation in step:
            carry_out(r, operation)
            state = s.apply(state, operation)
        pictures.append(taken(r))
    return state, pictures


def test_a_past_figure_is_reproduced_when_not_one_byte_of_its_record_is_left(tmp_path: Path) -> None:
    r = open_in(tmp_path, YAML)
    _, pictures = story(r)
    first = Timeline(r.store()).at(1)
    carry_out(r, s.Land(1, s.File("more", tuple(s.Row(order_id=f"K{n}", event_id=f"more-{n}") for n in range(6)))))
    carry_out(r, s.Run((1,)))
    compact(r.store(), r.config, Timeline(r.store()), always=True)
    swept(r, 3, datetime.now(UTC) + timedelta(hours=1))
    assert not [run.path for run in first.runs if r.store().exists(run.path)]
    for picture in pictures:
        check(r, picture, {f"K{n}" for n in range(6)})
    assert r.show("K0", known_at=pictures[0].time)["status"] == "UNPAID"


def test_retention_bounds_history_and_whoever_asks_beyond_it_is_told(tmp_path: Path) -> None:
    r = open_in(tmp_path, YAML.replace("{grace: 1m}", "{grace: 1m, history: 30d}"))
    state, pictures = story(r)
    folders = {path.rpartition("/")[0] for path in r.store().list(layout.stateless_of(s.at(0)))}
    assert len(folders) == 2
    later = datetime.now(UTC) + timedelta(days=29)
    swept(r, 2, later)
    assert {path.rpartition("/")[0] for path in r.store().list(layout.stateless_of(s.at(0)))} == folders, "within retention all is kept"
    done = [sweep_store(r.store(), r.config, Timeline(r.store()), later + timedelta(days=2, hours=n)) for n in range(2)]
    assert [one.revisions for one in done] == [1, 0]
    left = {path.rpartition("/")[0] for path in r.store().list(layout.stateless_of(s.at(0)))}
    assert left == {r.state().windows[name_of(s.at(0))].folder.removesuffix("/")}
    check_store(r, state)
    assert not r.verify(full=True).problems
    compact(r.store(), r.config, Timeline(r.store()), always=True)
    swept(r, 2, later + timedelta(days=3))
    with pytest.raises(WrongInput, match=r"T00:00Z: its data as of commit 1 are not kept any more; see retention\.history"):
        r.artifacts(known_at=pictures[0].time)
    long_ago = (datetime.now(UTC) - timedelta(days=31)).isoformat()
    with pytest.raises(WrongUsage, match=r"lies beyond retention\.history in recon\.yaml; what was known is kept since"):
        r.show("K1", known_at=long_ago)


def test_a_grace_longer_than_history_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recon.yaml").write_text(s.STANDARD_YAML + "retention: {grace: 2d, history: 1d}\n")
    with pytest.raises(WrongUsage, match=r"recon\.yaml:\d+: retention\.grace: 2d is longer than history, 1d"):
        recon.open(tmp_path / "recon.yaml")
