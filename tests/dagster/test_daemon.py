"""A real daemon keeps up by itself, on SQLite and on PostgreSQL: windows land faster than they are processed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import postgres
import pytest
import yaml
from daemons import ROOT, Site, site, span, windows
from dagster_postgres.run_storage import PostgresRunStorage
from range_runs import materialize_range

from jobs.asset_jobs import SENSED
from recon_assets.assets import asset_key

WINDOWS, CAP = 20, 12


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Site]:
    """A reconciliation whose Dagster keeps its records in SQLite."""
    with site(tmp_path, f"caps: {{windows: {CAP}}}\n") as made:
        yield made


@pytest.fixture
def on_postgresql(tmp_path: Path) -> Iterator[Site]:
    """A reconciliation whose Dagster keeps its records in PostgreSQL, as docs/operations.md says."""
    with ExitStack() as stack:
        server = stack.enter_context(postgres.server())
        env = {
            "DAGSTER_PG_HOST": server.host,
            "DAGSTER_PG_PORT": str(server.port),
            "DAGSTER_PG_DATABASE": server.database,
            "DAGSTER_PG_USER": server.user,
            "DAGSTER_PG_PASSWORD": server.password,
        }
        yield stack.enter_context(site(tmp_path, "", documented_storage(), env))


def documented_storage() -> str:
    """The part of dagster.yaml that docs/operations.md tells people to add."""
    (block,) = [part for part in (ROOT / "docs" / "operations.md").read_text().split("```yaml\n")[1:] if part.startswith("storage:")]
    text = block.split("```")[0]
    assert yaml.safe_load(text)["storage"].keys() == {"postgres"}
    return text


def test_windows_that_land_faster_than_they_are_processed_are_taken_in_ranges_by_stages_that_overlap(line: Site) -> None:
    first, second, third = windows(0, 2), windows(3, 8), windows(9, WINDOWS - 1)
    # Each range is kept at its stage until what lands behind it has landed, so that the ranges to come are known.
    for stage, window in (("reduce", 0), ("reduce", 3), ("reduce", 9), ("merge", 0), ("merge", 3)):
        line.hold(stage, window)
    line.land(0, 1, 2)
    line.start()
    line.wait_for(lambda: at_once(line, reduce=first), "the first range to be reduced")
    line.land(3, 4, 5, 6, 7, 8)
    line.release("reduce", 0)
    line.wait_for(lambda: at_once(line, reduce=second, merge=first), "the second range to be reduced while the first is merged")
    line.land(*range(9, WINDOWS))
    line.release("reduce", 3)
    line.wait_for(lambda: at_once(line, reduce=third, merge=first), "the third range to be reduced while the first is merged")
    line.release("merge", 0)
    line.wait_for(lambda: at_once(line, reduce=third, merge=second), "the third range to be reduced while the second is merged")
    line.release("reduce", 9)
    line.wait_for(lambda: line.reduced(*range(9, WINDOWS)), "the third range to be reduced")
    line.release("merge", 3)
    line.wait_for(line.done, "all windows to be certified")
    line.stop()

    ranges = {stage: [span(run) for run in line.runs(job)] for stage, job in SENSED.items()}
    assert ranges["reduce"] == ranges["merge"] == [first, second, third]
    assert all(len(taken) <= WINDOWS // 4 for taken in ranges.values()), f"clearly fewer runs than {WINDOWS} windows: {ranges}"
    assert {run.status for run in line.runs(SENSED["merge"])} == {dg.DagsterRunStatus.SUCCESS}
    assert set(landed_to_visible(line)) == {name_of_window(window) for window in range(WINDOWS)}
    assert all(seconds > 0 for seconds in landed_to_visible(line).values())
    line.check()


def test_a_run_with_its_records_in_postgresql_takes_a_window_to_its_certificate(on_postgresql: Site) -> None:
    """As the daemon does it below, which is for `make e2e`."""
    line = on_postgresql
    line.land(0)
    materialize_range(line.r.config, *windows(0, 0), line.instance()).raise_failure()
    assert isinstance(line.instance().run_storage, PostgresRunStorage)
    assert [run.status for run in line.runs()] == [dg.DagsterRunStatus.SUCCESS]
    assert line.done()
    line.check()


@pytest.mark.soak
def test_a_daemon_with_its_records_in_postgresql_takes_windows_to_their_certificates(on_postgresql: Site) -> None:
    line = on_postgresql
    line.land(0, 1)
    line.start()
    line.wait_for(lambda: line.done() and all(run.is_finished for run in line.runs()), "all windows to be certified")
    line.stop()
    assert {run.status for job in SENSED.values() for run in line.runs(job)} == {dg.DagsterRunStatus.SUCCESS}
    assert set(landed_to_visible(line)) == {name_of_window(0), name_of_window(1)}
    line.check()


def at_once(line: Site, **asked: tuple[str, str]) -> bool:
    """Whether the named stages are at work now, each on its range."""
    holdings = {stage: line.at(stage) for stage in asked}
    if not all(holdings.values()):
        return False
    ranges = {run.run_id: span(run) for run in line.runs()}
    return all(holding and ranges.get(holding.holder) == asked[stage] for stage, holding in holdings.items())


def landed_to_visible(line: Site) -> dict[str, float]:
    """Window → the time that the metadata of its merge tells."""
    found: dict[str, float] = {}
    for run in line.runs(SENSED["merge"]):
        for event in line.instance().all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
            made = event.asset_materialization
            if made is not None and made.asset_key == asset_key("orders", "stateful_artifacts"):
                assert made.partition is not None
                found[made.partition] = float(str(made.metadata["landed_to_visible_seconds"].value))
    return found


def name_of_window(window: int) -> str:
    return windows(window, window)[0]
