"""What goes through Spark's driver: it must not grow with the number of windows times the number of slices."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import strategies as s
from engines import LOCAL
from histories import carry_out, open_in
from hypothesis import given
from pyspark import RDD, SparkContext

from recon.engines.port import MergeTask, Moved, Recount, Slice
from recon.engines.spark.engine import Spark
from recon.engines.summed import summed
from recon.model.conflicts import total_of
from recon.model.totals import Totals, sum_measures
from recon.planning import due
from recon.stages.reduce import reduce_windows
from recon.state.packed import PackedWindows
from recon.state.timeline import CommittedWindow, State
from recon.storage import layout

names = st.sampled_from(["2026-11-01T00:00Z", "2026-11-01T01:00Z", "2026-11-01T02:00Z"])
numbers = st.integers(-(10**30), 10**30)
totals = st.builds(lambda rows, amount: Totals(rows, {"amount": {"EUR": amount}}), numbers, st.decimals(-(10**9), 10**9, places=2))
measures = st.fixed_dictionaries({"billed": numbers.map(str), "lines": numbers})
pairs = st.dictionaries(st.tuples(names, names), st.integers(1, 9), max_size=3)
slices = st.builds(
    Slice,
    st.none(),
    st.dictionaries(st.sampled_from("AB"), numbers, max_size=2),
    st.dictionaries(names, totals, max_size=3),
    st.dictionaries(names, numbers, max_size=3),
    st.dictionaries(names, measures, max_size=3),
    st.dictionaries(names, st.builds(Moved, totals, measures), max_size=2),
    st.dictionaries(names, st.builds(Recount, numbers, measures), max_size=2),
    pairs,
    pairs,
)


@given(st.lists(slices, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_figures_of_slices_add_up_in_any_order_and_grouping(parts: list[Slice], order: Any) -> None:
    left = list(parts)
    while len(left) > 1:
        order.shuffle(left)
        left = [summed(left[0], left[1]), *left[2:]]
    (found,) = left
    for name in {name for part in parts for name in part.counted}:
        assert found.counted[name].differences(sum((p.counted[name] for p in parts if name in p.counted), Totals())) == []
    for name in {name for part in parts for name in part.measures}:
        exact = sum_measures([part.measures[name] for part in parts if name in part.measures])
        assert {key: int(value) for key, value in found.measures[name].items()} == {key: int(value) for key, value in exact.items()}
    for name in {name for part in parts for name in part.recounted}:
        assert found.recounted[name].rows == sum(part.recounted[name].rows for part in parts if name in part.recounted)
    for status in {status for part in parts for status in part.statuses}:
        assert found.statuses[status] == sum(part.statuses.get(status, 0) for part in parts)
    for name in {name for part in parts for name in part.suppressed}:
        assert found.suppressed[name] == sum(part.suppressed.get(name, 0) for part in parts)
    assert found.conflicts == total_of(part.conflicts for part in parts)
    assert set(found.moved) == {name for part in parts for name in part.moved}


def many(count: int) -> dict[str, CommittedWindow]:
    return {f"w{number:06}": CommittedWindow(1, number, True, f"stateless/{number:060}/") for number in range(count)}


@given(st.integers(0, 20), st.lists(st.sampled_from(["w000000", "w000003", "w000019", "other"]), unique=True))
def test_packed_windows_are_the_windows_on_either_side_of_a_wire(count: int, near: list[str]) -> None:
    windows = many(count)
    packed = pickle.loads(pickle.dumps(PackedWindows(windows, near)))
    for name in ["w000000", "w000001", "w000003", "w000019", "other"]:
        assert packed.get(name) == windows.get(name)
        assert (name in packed) == (name in windows)
    assert dict(packed) == windows
    assert len(packed) == count


class Sent:
    """Bytes that jobs send from the driver, and that they return to it."""

    def __init__(self) -> None:
        self.out = self.back = 0


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    found = Sent()
    parallelize, broadcast, collect = SparkContext.parallelize, SparkContext.broadcast, RDD.collect

    def counted_parallelize(self: Any, items: Any, *more: Any) -> Any:
        found.out += sum(len(pickle.dumps(item)) for item in items)
        return parallelize(self, items, *more)

    def counted_broadcast(self: Any, value: Any) -> Any:
        found.out += len(pickle.dumps(value))
        return broadcast(self, value)

    def counted_collect(self: Any) -> Any:
        rows = collect(self)
        found.back += len(pickle.dumps(rows))
        return rows

    monkeypatch.setattr(SparkContext, "parallelize", counted_parallelize)
    monkeypatch.setattr(SparkContext, "broadcast", counted_broadcast)
    monkeypatch.setattr(RDD, "collect", counted_collect)
    return found


def through_the_driver(tmp_path: Path, sent: Sent, committed: int, ranged: int, slices: int) -> tuple[int, int]:
    """Bytes that the driver sends and gets for a pre-fetch and a merge of ``ranged`` windows into a state with ``committed`` others."""
    folder = tmp_path / f"{committed}-{ranged}-{slices}"
    folder.mkdir()
    r = open_in(folder)
    for window in range(ranged):
        carry_out(r, s.Land(window, s.File("a", tuple(s.Row(order_id=f"{number}", event_id=f"{window}-{number}") for number in range(40)))))
        carry_out(r, s.Close(window))
    state: State = replace(r.state(), windows={**r.state().windows, **many(committed)})
    figures = reduce_windows(r.store(), r.config, due.due(r.store(), r.config, r.state()).ready)
    assert len(figures) == ranged
    config = replace(r.config, engine=LOCAL.model_copy(update={"slices": slices}))
    sent.out = sent.back = 0
    fetched = Spark().prefetch(r.store(), config, state, figures)
    written = Spark().merge(r.store(), config, MergeTask(state, tuple(figures), fetched, layout.new_attempt()), lambda share: None)
    assert written.run is not None
    assert written.run.entries == 40
    (total,) = written.slices
    assert sum(total.counted[name].rows for name in total.counted) == 40 * ranged
    return sent.out, sent.back


def test_what_goes_through_the_driver_does_not_grow_with_windows_times_slices(tmp_path: Path, sent: Sent) -> None:
    few, many_slices = through_the_driver(tmp_path, sent, 20_000, 1, 1), through_the_driver(tmp_path, sent, 20_000, 1, 12)
    assert many_slices[0] < 1.1 * few[0] + 12 * 500, "the committed windows are sent once, however many slices there are"
    assert few[0] < 2 * 20_000 * 30, "twice, for pre-fetch and merge, and packed"
    one, ten = through_the_driver(tmp_path, sent, 0, 10, 1), through_the_driver(tmp_path, sent, 0, 10, 12)
    assert ten[0] < one[0] + 12 * 1_000
    assert ten[1] < one[1] + 12 * 1_500, "figures per window are added up before they come to the driver"
