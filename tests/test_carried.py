"""Carried forward: a key with very many windows folds its old contributions, and nobody can tell from any answer.

Belongs here: blocks, against the oracle, with constants so small that histories of ten windows have them; and the cost of one more
window with the real ones. Does not belong here: what holds of all records (test_laws).
The rule: docs/decisions/008-carried-forward.md.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import strategies as s
from driving import carry_out, check_store, open_in, records, run_range
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon import verification_blocks, verification_expected
from recon.api import Reconciliation
from recon.engines.duckdb import carrying, reduction

YAML = s.STANDARD_YAML.replace("dedupe: 2h", "dedupe: 1h")
RULES = replace(s.STANDARD_RULES, dedupe=timedelta(hours=1))
EXAMPLES = int(os.environ.get("RECON_LAW_EXAMPLES", "10"))
SLOW = settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))


@contextmanager
def small(ids_max: int = 4096) -> Iterator[None]:
    """Keys of more than 3 windows fold, the border moves by 2, and lies two horizons (of one window each) and 2 behind."""
    with ExitStack() as patches:
        for module in (carrying, verification_blocks):
            patches.enter_context(patch.object(module, "FOLD_MIN", 3))
            patches.enter_context(patch.object(module, "STEP", 2))
        for module in (reduction, verification_expected):
            patches.enter_context(patch.object(module, "IDS_MAX", ids_max))
        yield


@contextmanager
def fresh(text: str = YAML) -> Iterator[Reconciliation]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield open_in(Path(folder), text)


@SLOW
@given(s.histories(max_windows=10, max_operations=10), st.sampled_from([3, 4096]))
def test_blocks_and_contributions_are_the_oracles_after_every_run_of_any_history(history: s.History, ids_max: int) -> None:
    with small(ids_max), fresh() as r:
        for operation, state in zip(history.operations, history.states(), strict=True):
            carry_out(r, operation)
            if isinstance(operation, s.Run):
                check_store(r, state, RULES)


@SLOW
@given(s.batches(max_windows=10), st.data(), st.sampled_from([3, 4096]))
def test_any_order_and_any_grouping_gives_the_same_block(batches: dict[int, tuple[s.File, ...]], data: st.DataObject, ids_max: int) -> None:
    seen = []
    for _ in range(2):
        order = data.draw(st.permutations(sorted(batches)))
        cuts = sorted(data.draw(st.sets(st.integers(1, len(order)))) | {0, len(order)})
        with small(ids_max), fresh() as r:
            land(r, batches)
            for start, end in itertools.pairwise(cuts):
                run_range(r, tuple(order[start:end]))
            seen.append(records(r))
    assert seen[0] == seen[1]


def land(r: Reconciliation, batches: dict[int, tuple[s.File, ...]]) -> None:
    for window, files in batches.items():
        for file in files:
            carry_out(r, s.Land(window, file))
        carry_out(r, s.Close(window))
