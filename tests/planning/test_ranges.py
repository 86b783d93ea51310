"""The one rule by which windows are cut into blocks, and that runs, sensors and merges all go by it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_reconciliation import landed, made, run, window

from jobs.next_block import choose
from recon.api import Reconciliation
from recon.config import Config
from recon.config.settings import Caps
from recon.planning.candidates import candidates, ready
from recon.planning.due import due
from recon.planning.ranges import Size, blocks, ranges
from recon_assets.partitions import range_tags

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return made(tmp_path_factory.mktemp("ranges")).config


def with_caps(opened: Reconciliation, caps: str) -> Reconciliation:
    path = opened.config.path
    path.write_text(path.read_text() + f"caps: {caps}\n")
    return Reconciliation(path)


sizes = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), max_size=20)
bound = st.one_of(st.none(), st.integers(1, 20))


@given(sizes, st.integers(1, 5), bound, bound)
def test_blocks_hold_every_window_once_in_order_within_the_caps_and_are_as_long_as_these_allow(
    config: Config, drawn: list[tuple[int, int, bool]], windows: int, events: int | None, stored: int | None
) -> None:
    capped = Config(**{**vars(config), "caps": Caps().model_copy(update={"windows": windows, "events": events, "bytes": stored})})
    items, at = [], 0
    for many, weight, gap in drawn:
        at += 2 if gap else 1
        items.append((at, Size(many, weight)))

    def name(item: tuple[int, Size]) -> str:
        return f"2026-11-{1 + item[0] // 24:02d}T{item[0] % 24:02d}:00Z"

    found = list(blocks(capped, items, name, lambda item: item[1]))
    assert [item for block in found for item in block] == items

    def fits(block: list[tuple[int, Size]]) -> bool:
        total = (sum(size.events for _, size in block), sum(size.bytes for _, size in block))
        within = all(cap is None or amount <= cap for amount, cap in zip(total, (events, stored), strict=True))
        consecutive = [place for place, _ in block] == list(range(block[0][0], block[-1][0] + 1))
        return len(block) == 1 or (len(block) <= windows and within and consecutive)

    assert all(fits(block) for block in found)
    for block, following in pairwise(found):
        assert not fits([*block, following[0]])


def test_what_is_not_asked_for_is_not_read(config: Config) -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for hour in range(20):
            read.append(hour)
            yield hour

    capped = Config(**{**vars(config), "caps": Caps(windows=3)})
    assert next(blocks(capped, items(), window)) == [0, 1, 2]
    assert read == [0, 1, 2, 3]


def test_bytes_bound_what_a_run_takes_and_what_a_sensor_takes(tmp_path: Path) -> None:
    opened = made(tmp_path, hours=5)
    size = (tmp_path / "file-00.csv").stat().st_size
    capped = Config(**{**vars(opened.config), "caps": Caps(bytes=2 * size)})
    state = opened.state()
    taken = [[m.window for m in block] for block in ranges(capped, due(opened.store(), capped, state).ready)]
    assert taken == [[window(0), window(1)], [window(2), window(3)], [window(4)]]
    found = candidates(opened.store(), state, capped, "reduce", None)
    choice = choose(capped, "reduce", ready(opened.store(), state, capped, "reduce", found, NOW), [], NOW)
    assert [one.window for one in choice.block] == [window(0), window(1)]


def test_events_bound_each_merge_once_they_are_known_and_before_as_far_as_they_are_declared(tmp_path: Path) -> None:
    opened = with_caps(made(tmp_path), "{events: 5}")
    for hour in range(5):
        landed(opened, hour)  # two events each, which nobody declared
    assert [len(block) for block in ranges(opened.config, due(opened.store(), opened.config, opened.state()).ready)] == [5]
    direct = opened.run()
    assert direct.commits == [1, 2, 3]
    assert [opened.state().windows[window(hour)].commit for hour in range(5)] == [1, 1, 2, 2, 3]


def test_the_assets_cut_a_long_range_by_the_same_caps(tmp_path: Path) -> None:
    opened = with_caps(made(tmp_path), "{events: 5}")
    for hour in range(5):
        landed(opened, hour)
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(opened, range_tags(window(0), window(1)), instance, "reduce").success
        assert run(opened, range_tags(window(2), window(4)), instance, "reduce").success
        state = opened.state()
        found = candidates(opened.store(), state, opened.config, "merge", None)
        choice = choose(opened.config, "merge", ready(opened.store(), state, opened.config, "merge", found, NOW), [], NOW)
        assert [one.window for one in choice.block] == [window(0), window(1)]
        assert run(opened, range_tags(window(0), window(4)), instance).success
    assert [opened.state().windows[window(hour)].commit for hour in range(5)] == [1, 1, 2, 2, 3]
    assert list(opened.store().list("prefetched/")) == []
    assert opened.verify(full=True).problems == []


def test_declared_rows_count_before_the_reduction(tmp_path: Path) -> None:
    opened = made(tmp_path)
    path = opened.config.path
    path.write_text(path.read_text().replace("control: {", 'control: {rows: {count: "*"}, ') + "caps: {events: 3}\n")
    opened = Reconciliation(path)
    for hour in range(3):
        file = tmp_path / f"declared-{hour}.csv"
        file.write_text(f"order_id,event_id,event_type,amount,currency\nA,{hour}-1,INVOICE,1.00,EUR\nB,{hour}-2,INVOICE,1.00,EUR\n")
        opened.land([file], window(hour), close=True, expect={"rows": 2}, again=True)
    assert [len(block) for block in ranges(opened.config, due(opened.store(), opened.config, opened.state()).ready)] == [1, 1, 1]
