"""Any sequence of loads leaves what a plain dict would have: replays, late runs, the same load twice, keys that vanish, odd values."""

from __future__ import annotations

import string
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from warehouses import KEYS, MEASURES, Shape, Site, load_of

from recon.aggregations.warehouse.port import Audit, Loaded
from recon.errors import WrongInput

SCOPES = ("monday", "tuesday", "all")
FEW = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
NOT_NUL = st.characters(exclude_characters="\0", exclude_categories=("Cs",))
TEXTS = st.sampled_from(("", "null", "\\N", "\\.", "a\nb", "'", '"', "\t", "é€")) | st.text(NOT_NUL, max_size=5)
MEASURED = st.tuples(
    st.none() | st.decimals(-(10**20), 10**20, places=2),
    st.none() | st.integers(-1000, 1000),
    st.none() | TEXTS,
    st.none() | st.dates(),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.none() | st.booleans(),
)
STORES = st.sampled_from(string.ascii_lowercase[:3]) | TEXTS
ROWS = st.dictionaries(st.tuples(STORES, st.integers(0, 2)), MEASURED, max_size=5)


@dataclass(frozen=True)
class Step:
    """One load: of a scope, with rows of its own or those of an earlier load (``again``), by a run later than all before or ``late``."""

    scope: str
    rows: Mapping[Any, Any]
    again: int | None
    late: bool


STEPS = st.lists(st.builds(Step, st.sampled_from(SCOPES), ROWS, st.none() | st.integers(0, 4), st.booleans()), min_size=1, max_size=6)


@dataclass
class Oracle:
    """What a table has: per scope the rows, and the runs and rows of its loads in order."""

    scopes: dict[str, dict[Any, Any]] = field(default_factory=dict)
    loads: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)

    def load(self, run: int, scope: str, rows: Mapping[Any, Any]) -> Loaded | None:
        """What the load does; None where it is refused."""
        done, now = self.loads.get(scope, []), dict(rows)
        if done and repr(done[-1][1]) == repr(now):
            return Loaded(len(now), -1, -1, -1, again=True)
        if done and done[-1][0] > run:
            return None
        others = {key for other, there in self.scopes.items() if other != scope for key in there}
        if others & set(now):
            return None
        before = self.scopes.get(scope, {})
        updated = sum(before[key] != now[key] for key in set(before) & set(now))
        self.scopes[scope] = now
        self.loads.setdefault(scope, []).append((run, now))
        return Loaded(len(now), len(set(now) - set(before)), updated, len(set(before) - set(now)))


def enough(site: Site) -> bool:
    """A load in Redshift's stand-in is some hundred requests: four examples of a law there, the first ones of all."""
    site.examples += 1
    return site.kind == "redshift" and site.examples > 4


@given(steps=STEPS)
@FEW
def test_any_loads_leave_what_a_dict_would_have(site: Site, steps: list[Step]) -> None:
    if enough(site):
        return
    target = f"t_{site.examples}"
    shape, oracle, done = Shape(target=target), Oracle(), list[tuple[str, Mapping[Any, Any]]]()
    with tempfile.TemporaryDirectory() as folder:
        for number, step in enumerate(steps):
            scope, rows = done[step.again] if step.again is not None and step.again < len(done) else (step.scope, step.rows)
            run = 1 if step.late else number + 2
            load = load_of(Path(folder), rows, run, scope, shape)
            expected = oracle.load(run, scope, rows)
            if expected is None:
                with pytest.raises(WrongInput):
                    site.warehouse.load(load)
            else:
                loaded = site.warehouse.load(load)
                assert loaded.again == expected.again
                assert loaded == expected or loaded.again
            done.append((scope, rows))
            for name in oracle.scopes:
                assert site.table(target, scope=name) == oracle.scopes[name]
    if oracle.scopes:
        assert site.warehouse.audit(target, list(KEYS)) == Audit(sum(map(len, oracle.scopes.values())), 0, 0, {})
        assert {row[0] for row in site.sql(f"SELECT recon_scope FROM {target}")} <= set(oracle.scopes)


@given(rows=ROWS)
@FEW
def test_any_rows_are_read_back_and_equal_themselves(site: Site, rows: Mapping[Any, Any]) -> None:
    """What is loaded again under another id writes nothing: no value differs from itself after its way through the warehouse."""
    if enough(site):
        return
    target = f"t_{site.examples}"
    with tempfile.TemporaryDirectory() as folder:
        site.warehouse.load(load_of(Path(folder), rows, 1, shape=Shape(target=target)))
        assert site.table(target) == rows
        again = load_of(Path(folder), rows, 2, shape=Shape(target=target), id="another")
        assert site.warehouse.load(again) == Loaded(len(rows), 0, 0, 0)


def test_the_oracle_refuses_and_repeats_as_it_should() -> None:
    oracle, row = Oracle(), (Decimal(1), 1, "", date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), True)
    assert len(row) == len(MEASURES)
    assert oracle.load(2, "monday", {("a", 1): row}) == Loaded(1, 1, 0, 0)
    assert oracle.load(3, "tuesday", {("a", 1): row}) is None
    assert oracle.load(1, "monday", {}) is None
    again = oracle.load(1, "monday", {("a", 1): row})
    assert again is not None
    assert again.again
