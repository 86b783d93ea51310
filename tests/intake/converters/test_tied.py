"""Rows wait for the totals of their groups: each comes back once and in order, with the reason of its first group that does not tie."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.intake.converters import Control, tied
from recon.intake.converters.tied import Row, Tie, tied_batches

ROWS = st.tuples(st.sampled_from([("a", None), ("", "ü"), ()]), st.sampled_from([None, "own"]), st.lists(st.integers(0, 3), max_size=3))


def tie(group: int, good: bool) -> Tie:
    return Tie(group, f"group {group}", Control(f"line {group}", "sum", "1", "1" if good else "2"))


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(ROWS, max_size=9), good=st.lists(st.booleans(), min_size=4, max_size=4), size=st.integers(1, 3), held=st.integers(0, 2)
)
def test_each_row_comes_back_with_its_reason(rows: list[Any], good: list[bool], size: int, held: int) -> None:
    written = [Row(line, line % 2 + 1, values, problem, tuple(groups)) for line, (values, problem, groups) in enumerate(rows)]
    events: list[Row | Tie] = [*written[:4], tie(0, good[0]), *written[4:], *(tie(group, good[group]) for group in (1, 2, 3))]
    controls: list[Control] = [Control("", "", "", "")]
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(tied, "_BATCH_ROWS", size)
        patch.setattr(tied, "_BATCHES_HELD", held)
        batches = list(tied_batches(iter(events), 2, controls, Path(folder)))
        assert list(Path(folder).iterdir()) == []
    found = [row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]

    def reason(row: Row) -> str | None:
        wrong = [group for group in row.groups if not good[int(str(group))]]
        return row.problem or (f"group {wrong[0]} does not tie: sum declared 1, its rows give 2" if wrong else None)

    assert found == [(row.line, row.span, reason(row), *(row.values or (None, None))) for row in written]
    assert [control.ties for control in controls] == good


def test_rows_that_wait_in_a_file_leave_none_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tied, "_BATCH_ROWS", 1)
    monkeypatch.setattr(tied, "_BATCHES_HELD", 0)
    batches = tied_batches((Row(line, 1, ("x",)) for line in range(3)), 1, [], tmp_path)
    next(batches)
    batches.close()
    assert list(tmp_path.iterdir()) == []
