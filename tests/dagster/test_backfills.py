"""Backfills over any range, by any button: windows long done, overlapping, out of order, two at once. The store's result is the
oracle's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import histories
import pytest
import strategies as s
from daemons import ROOT, Site, file_of, site, windows
from hypothesis import example, given
from hypothesis import strategies as st
from range_runs import materialize_range

from recon_assets.assets import STAGE_ASSETS

WINDOWS = 6
LAUNCH = """mutation($a: LaunchBackfillParams!, $b: LaunchBackfillParams!) {
  a: launchPartitionBackfill(backfillParams: $a) { __typename ... on LaunchBackfillSuccess { backfillId } }
  b: launchPartitionBackfill(backfillParams: $b) { __typename ... on LaunchBackfillSuccess { backfillId } } }"""

ranges = st.tuples(st.integers(0, WINDOWS - 1), st.integers(0, WINDOWS - 1)).map(lambda ends: (min(ends), max(ends)))


@histories.slow(2)
@example([(4, 5), (2, 3), (0, 4), (1, 5)])
@given(st.lists(ranges, min_size=2, max_size=4))
def test_any_ranges_in_any_order_come_to_the_oracles_result(tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[int, int]]) -> None:
    r, state = histories.open_in(tmp_path_factory.mktemp("backfills")), s.State()
    for window in range(WINDOWS):
        for operation in (s.Land(window, file_of(window)), s.Close(window)):
            histories.carry_out(r, operation)
            state = s.apply(state, operation)
    with dg.DagsterInstance.ephemeral() as instance:
        for first, last in asked:
            materialize_range(r.config, *windows(first, last), instance).raise_failure()
            state = s.apply(state, s.Run(tuple(range(first, last + 1))))
            histories.check_store(r, state)


def materialized(line: Site, *asked: tuple[int, int]) -> None:
    """``dagster asset materialize`` over each range, all at once, each in a process of its own."""
    code = ["-f", str(ROOT / "jobs" / "definitions.py"), "-a", "defs", "-d", str(ROOT)]
    running = [
        line.python("-m", "dagster", "asset", "materialize", "--select", "*", "--partition-range", "...".join(windows(first, last)), *code)
        for first, last in asked
    ]
    for process in running:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, (out[-2000:], err[-4000:])


@pytest.mark.soak
def test_backfills_by_the_command_line_overlap_and_those_of_windows_long_done_change_nothing(tmp_path: Path) -> None:
    with site(tmp_path) as line:
        line.land(*range(WINDOWS))
        materialized(line, (4, 5))
        materialized(line, (0, 3), (2, 5))
        line.check()
        before = line.r.state().commit, certificates(line)
        materialized(line, (0, 5))
        assert (line.r.state().commit, certificates(line)) == before


def certificates(line: Site) -> Sequence[str]:
    return list(line.r.store().list("certificates"))


# In `make test` test_ui_backfills.py shows that a backfill by GraphQL is one run, and the test of any ranges what they come to.
@pytest.mark.soak
def test_two_backfills_by_graphql_while_sensors_work_take_one_run_each(tmp_path: Path) -> None:
    with site(tmp_path) as line:
        line.land(1, 2, 0)
        line.carry_out(s.Run((0, 1, 2)))  # long done
        line.land(*range(3, WINDOWS))
        line.carry_out(s.Replay(1))
        keys = [{"path": ["orders", spec.name]} for spec in STAGE_ASSETS]
        given = {
            name: {"assetSelection": keys, "partitionNames": [windows(window, window)[0] for window in range(first, last + 1)]}
            for name, (first, last) in {"a": (0, 4), "b": (2, 5)}.items()
        }
        program, answer = ["-c", "from dagster_graphql.cli import main; main()"], tmp_path / "answer.json"
        process = line.python(*program, "-w", str(ROOT / "workspace.yaml"), "-t", LAUNCH, "-v", json.dumps(given), "-o", str(answer))
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, (out, err)
        backfills = [launched["backfillId"] for launched in json.loads(answer.read_text())["data"].values()]
        line.start()

        def runs(backfill: str) -> Sequence[dg.DagsterRun]:
            return line.instance().get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}))

        line.wait_for(lambda: all(runs(one) and all(run.is_finished for run in runs(one)) for one in backfills), "both backfills to finish")
        line.wait_for(line.done, "all windows to be certified")
        line.stop()
        for backfill in backfills:
            assert [run.status for run in runs(backfill)] == [dg.DagsterRunStatus.SUCCESS]
        line.check()
