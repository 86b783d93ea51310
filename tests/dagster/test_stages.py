"""What plain calls and Dagster runs have in common, stage by stage, where a block fails or another worker does the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from small_reconciliation import landed, made, window

from jobs.build import build_definitions
from recon.api import Reconciliation
from recon.cli.dagster_runs import Materializing
from recon.errors import ConnectionLost, TryAgain, WrongInput
from recon.intake.batches import read_manifest
from recon.planning import quarantine
from recon.stages import index, merge
from recon.stages.pipeline import STAGES, PlainCalls, process
from recon.stages.report import RunReport
from recon.stages.work import Work
from recon.state.certificates import uncertified
from recon.state.timeline import Timeline
from recon.storage import layout
from recon_assets.partitions import WINDOWS_TAG
from resources.stores import ReconciliationStore

Run = Callable[[Reconciliation], RunReport]


def plain_calls(opened: Reconciliation) -> RunReport:
    return opened.run()


def dagster_runs(opened: Reconciliation) -> RunReport:
    with Materializing() as way:
        return opened.run(way=way)


both_ways = pytest.mark.parametrize("run", [plain_calls, dagster_runs])


@pytest.fixture(autouse=True)
def _no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.delenv("RECON_CONFIG", raising=False)


def prefetched(opened: Reconciliation) -> list[str]:
    return list(opened.store().list(layout.PREFETCHED))


def fail_on(patch: pytest.MonkeyPatch, hour: int, error: Exception) -> None:
    """The merge of a block fails if the block has this window."""
    real = merge.merge_windows

    def merged(store: Any, config: Any, timeline: Any, block: Any, *more: Any) -> Any:
        if window(hour) in {figures.window for figures in block}:
            raise error
        return real(store, config, timeline, block, *more)

    patch.setattr(merge, "merge_windows", merged)


# ---- bad windows -------------------------------------------------------------------------------------------------------


@both_ways
def test_a_block_that_cannot_be_merged_is_halved_and_its_prefetched_files_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    opened = made(tmp_path, hours=5)
    fail_on(monkeypatch, 3, WrongInput("the totals do not tie"))
    report = run(opened)
    assert report.bad == {window(3): "the totals do not tie"}
    assert report.windows == [window(hour) for hour in (0, 1, 2, 4)]
    assert quarantine.read(opened.store(), opened.config.grid.parse(window(3)), 1, opened.config.rules_version) is not None
    assert prefetched(opened) == []


class Recorded:
    """Fails by ``fault``, which may leave windows out; notes the windows of each call."""

    def __init__(self, consecutive: bool, fault: Callable[[Work, Sequence[str]], None]) -> None:
        self.consecutive, self.fault = consecutive, fault
        self.calls: list[str] = []

    def __call__(self, work: Work, windows: Sequence[str], stages: Sequence[str]) -> None:
        assert tuple(stages) == tuple(STAGES)
        self.calls.append("".join(str(int(name[11:13])) for name in windows))
        self.fault(work, windows)


def work_of(opened: Reconciliation) -> Work:
    return Work(opened.store(), opened.config, Timeline(opened.store()))


@pytest.mark.parametrize(("consecutive", "calls"), [(False, ["01234", "0134"]), (True, ["01234", "01", "34"])])
def test_windows_that_a_stage_has_left_out_are_left_out_and_the_others_go_on(tmp_path: Path, consecutive: bool, calls: list[str]) -> None:
    def fault(work: Work, windows: Sequence[str]) -> None:
        if window(2) in windows:
            work.report.bad[window(2)] = "bad"
            raise WrongInput("bad")

    carry_out = Recorded(consecutive, fault)
    process(work_of(made(tmp_path)), [window(hour) for hour in range(5)], carry_out)
    assert carry_out.calls == calls


def test_a_block_is_halved_while_nobody_knows_which_window_is_bad(tmp_path: Path) -> None:
    def fault(work: Work, windows: Sequence[str]) -> None:
        if window(2) in windows:
            if len(windows) == 1:
                work.report.bad[window(2)] = "bad"
            raise WrongInput("bad")

    carry_out = Recorded(True, fault)
    process(work_of(made(tmp_path)), [window(hour) for hour in range(5)], carry_out)
    assert carry_out.calls == ["01234", "01", "234", "2", "34"]


def test_an_error_of_a_single_window_that_no_stage_has_left_out_is_raised(tmp_path: Path) -> None:
    def fault(work: Work, windows: Sequence[str]) -> None:
        raise WrongInput("the range is in the future")

    with pytest.raises(WrongInput, match="in the future"):
        process(work_of(made(tmp_path)), [window(0), window(1)], Recorded(True, fault))


# ---- pre-fetched files -------------------------------------------------------------------------------------------------


@both_ways
def test_a_prefetched_file_stays_for_the_next_attempt_after_an_error_that_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    opened = made(tmp_path, hours=2)
    with monkeypatch.context() as patch:
        fail_on(patch, 1, TryAgain("the store is away"))
        with pytest.raises(TryAgain):
            run(opened)
    (file,) = prefetched(opened)
    used: list[str] = []
    real = merge.merge_windows

    def merged(store: Any, config: Any, timeline: Any, block: Any, found: Any, *more: Any) -> Any:
        used.append(found.path)
        return real(store, config, timeline, block, found, *more)

    monkeypatch.setattr(merge, "merge_windows", merged)
    assert run(opened).windows == [window(0), window(1)]
    assert used == [file]
    assert prefetched(opened) == []


@both_ways
def test_a_prefetched_file_that_another_worker_deletes_before_the_merge_reads_it_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    opened = made(tmp_path, hours=1)
    opened.run()  # so that the next window's key B has a record
    landed(opened, 1)
    real, found_by = merge.merge_windows, []

    def merged(store: Any, config: Any, timeline: Any, block: Any, found: Any, *more: Any) -> Any:
        found_by.append(found)
        if found is not None:
            store.delete(found.path)
        return real(store, config, timeline, block, found, *more)

    monkeypatch.setattr(merge, "merge_windows", merged)
    report = run(opened)
    assert (report.bad, report.windows) == ({}, [window(1)])
    assert [found is None for found in found_by] == [False, True]
    assert opened.verify(full=True).problems == []


@both_ways
def test_of_another_workers_files_for_other_windows_none_is_deleted(tmp_path: Path, run: Run) -> None:
    opened = made(tmp_path, hours=3)
    work = work_of(opened)
    PlainCalls()(work, [window(2)], ("reduce", "prefetch"))
    (other,) = prefetched(opened)
    opened.run(first=window(0), last=window(1))
    assert prefetched(opened) == [other]
    assert run(opened).windows == [window(2)]
    assert prefetched(opened) == []


# ---- certificates and the index table ----------------------------------------------------------------------------------


@both_ways
def test_what_is_committed_is_certified_while_dynamodb_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    opened = made(tmp_path, hours=2)

    def away(*_: Any) -> Any:
        raise ConnectionLost("DynamoDB is away")

    monkeypatch.setattr(index, "sync", away)
    with pytest.raises(ConnectionLost, match=r"^DynamoDB is away$"):
        run(opened)
    assert uncertified(opened.store(), opened.config, opened.state()) == []
    assert [certificate["ties"] for hour in range(2) if (certificate := opened.certificate(window(hour)))] == [True, True]


# ---- replays -----------------------------------------------------------------------------------------------------------


@both_ways
def test_files_of_replayed_windows_are_mended_before_the_merge_of_any_other_window(tmp_path: Path, run: Run) -> None:
    opened = made(tmp_path, hours=2)
    opened.config.path.write_text(opened.config.path.read_text() + "caps: {windows: 1}\n")
    opened = Reconciliation(opened.config.path)
    opened.run()
    for hour in (0, 1):
        # The second window's event lands in the first window, too, whose merge then reads the second window's files.
        opened.replay(window(hour))
    landed(opened, 0, "B,e1-2,INVOICE,0.50,USD\n")
    opened.store().delete(opened.state().windows[window(1)].folder + "events.parquet")
    report = run(opened)
    assert report.bad == {}
    assert opened.verify(full=True).problems == []


# ---- schedules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closing", ["{files: 1}", "{files: 1, process_open: true}"])
def test_the_schedule_closes_what_a_run_closes(tmp_path: Path, closing: str) -> None:
    closed = []
    for name in ("run", "schedule"):
        (tmp_path / name).mkdir()
        opened = made(tmp_path / name)
        landed(opened, 0, close=False)
        opened.config.path.write_text(opened.config.path.read_text() + f"closing: {closing}\n")
        opened = Reconciliation(opened.config.path)
        if name == "run":
            opened.run()
        else:
            built = build_definitions(opened.config.path).schedules or ()
            (clock,) = [one for one in built if isinstance(one, dg.ScheduleDefinition) and one.name == "orders_on_the_clock"]
            stores = {"orders_store": ReconciliationStore(config_file=str(opened.config.path))}
            with (
                dg.DagsterInstance.ephemeral() as instance,
                dg.build_schedule_context(instance=instance, resources=stores) as context,
            ):
                (request,) = clock.evaluate_tick(context).run_requests or []
            assert request.tags[WINDOWS_TAG] == window(0)
        manifest = read_manifest(opened.store(), opened.config.grid.parse(window(0)))
        closed.append(manifest is not None and manifest.closed)
    assert closed == [True, True]
