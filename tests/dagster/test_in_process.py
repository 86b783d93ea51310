"""`recon run` as runs of Dagster: the report that plain calls give, in the instance that the UI shows, whatever happens on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from folders import ROOT
from small_reconciliation import YAML, die_before_certifying, landed, made, refuse_to_merge, window

import recon
from recon.api import Reconciliation
from recon.cli import main
from recon.cli.dagster_runs import Materializing
from recon.errors import Damaged, TryAgain
from recon.planning import quarantine
from recon.stages import index, reduce
from recon.stages.report import RunReport
from recon.state.certificates import uncertified
from recon.state.timeline import Timeline
from recon.storage import lease
from recon_assets.assets import STAGE_ASSETS
from resources.dagster_instance import open_instance

PATIENCE_S = 120


@pytest.fixture(autouse=True)
def _no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.delenv("RECON_CONFIG", raising=False)


def ran(opened: Reconciliation, first: str | None = None, last: str | None = None) -> RunReport:
    """`recon run` without its words."""
    with Materializing() as way:
        return opened.run(first, last, None, way)


def told(report: RunReport) -> dict[str, Any]:
    """A report without what no two runs have in common."""
    return {name: value for name, value in asdict(report).items() if name not in ("seconds", "bytes")}


@contextmanager
def shown(opened: Reconciliation) -> Iterator[dg.DagsterInstance]:
    with open_instance(opened.config.path) as instance:
        yield instance


def spoiled(opened: Reconciliation, hour: int) -> None:
    """A window whose file does not come to what its sender declared."""
    path = opened.config.path.parent / f"spoiled-{hour}.csv"
    path.write_text("order_id,event_id,event_type,amount,currency\nA,1,INVOICE,10.00,EUR\n")
    opened.land(
        [path],
        window(hour),
        close=True,
        again=True,
        expect={"rows": 9} if "rows" in opened.config.raw.get("control", {}) else {"amount": {"EUR": "9"}},
    )


def test_the_report_is_that_of_plain_calls_and_the_ui_shows_runs_windows_and_figures(tmp_path: Path) -> None:
    reports = []
    for name in ("direct", "dagster"):
        (tmp_path / name).mkdir()
        opened = made(tmp_path / name, hours=3)
        landed(opened, 4, "A0,e0-1,INVOICE,10.00,EUR\nC,e2-9,INVOICE,1O.00,USD\n")  # one that stands in 00:00 already, one unreadable
        landed(opened, 5, close=False)
        reports.append(ran(opened) if name == "dagster" else opened.run())
        assert opened.verify(full=True).problems == []
    assert told(reports[0]) == told(reports[1])
    assert reports[1].windows == [window(hour) for hour in (0, 1, 2, 4)]
    assert set(reports[1].seconds) - set(reports[0].seconds) == {"dagster"}
    with shown(opened) as instance:
        assert [(run.job_name, run.status.value) for run in instance.get_runs()] == [("orders_everything", "SUCCESS")] * 2
        for spec in STAGE_ASSETS:
            found = instance.get_materialized_partitions(dg.AssetKey(["orders", spec.name]))
            assert found == {window(hour) for hour in (0, 1, 2, 4)}, spec.name
        event = instance.get_latest_materialization_event(dg.AssetKey(["orders", "window_certificates"]))
        assert event is not None
        assert event.asset_materialization is not None
        assert event.asset_materialization.metadata["ties"].value is True


def test_the_home_lies_beside_the_configuration_wherever_the_command_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here").mkdir()
    opened = made(tmp_path / "here", hours=1)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["run", "--config", "../here/orders.yaml"]) == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []
    with shown(opened) as instance:
        assert len(instance.get_runs()) == 1


def test_a_bad_window_is_left_out_and_named_and_the_others_of_its_range_are_done(tmp_path: Path) -> None:
    reports = []
    for name in ("direct", "dagster"):
        (tmp_path / name).mkdir()
        opened = made(tmp_path / name)
        for hour in (0, 1, 3, 4):
            landed(opened, hour)
        spoiled(opened, 2)
        reports.append(ran(opened) if name == "dagster" else opened.run())
    report = reports[1]
    assert list(report.bad) == [window(2)]
    assert "the declared control totals do not tie" in report.bad[window(2)]
    assert report.windows == [window(hour) for hour in (0, 1, 3, 4)]
    assert report.certificates == 4
    plain = reports[0]
    # Without the bad window the range falls in two, since a run of Dagster takes consecutive windows only.
    assert (plain.commits, report.commits) == ([1], [1, 2])
    different = {"commits": [], "written": 0}  # B stands in all windows, so that the second commit writes it again
    assert {**told(plain), **different} == {**told(report), **different}
    with shown(opened) as instance:
        assert sorted(run.status.value for run in instance.get_runs()) == ["FAILURE", "SUCCESS", "SUCCESS"]


def test_a_range_that_cannot_be_merged_is_halved_until_the_bad_window_stands_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = made(tmp_path, hours=5)
    refuse_to_merge(monkeypatch, window(3))
    report = ran(opened)
    assert report.bad == {window(3): "the totals do not tie"}
    assert set(report.windows) == {window(hour) for hour in (0, 1, 2, 4)}
    assert quarantine.read(opened.store(), opened.config.grid.parse(window(3)), 1, opened.config.rules_version) is not None


def test_a_damaged_file_leaves_out_just_its_window_until_it_is_restored(tmp_path: Path) -> None:
    opened = made(tmp_path, hours=3)
    (file,) = (tmp_path / "orders_data" / "events" / "2026-11-01T0100Z" / "files").rglob("*.csv")
    kept = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(kept[:-3])
    report = ran(opened)
    assert list(report.bad) == [window(1)]
    assert report.windows == [window(0), window(2)]
    file.write_bytes(kept)
    assert ran(opened).windows == [window(1)]


def test_windows_that_a_died_run_committed_are_certified_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = made(tmp_path, hours=2)
    die_before_certifying(monkeypatch, opened)
    assert uncertified(opened.store(), opened.config, opened.state()) == [window(0), window(1)]
    assert main(["run", "--config", str(opened.config.path)]) == 0
    assert "certified 2 windows that an earlier run had committed" in capsys.readouterr().out
    assert not uncertified(opened.store(), opened.config, opened.state())
    with shown(opened) as instance:
        assert instance.get_materialized_partitions(dg.AssetKey(["orders", "window_certificates"])) == {window(0), window(1)}


def test_windows_that_are_due_to_be_closed_are_closed_first(tmp_path: Path) -> None:
    opened = made(tmp_path)
    opened.config.path.write_text(opened.config.path.read_text() + "closing: {files: 1}\n")
    opened = Reconciliation(opened.config.path)
    landed(opened, 0, close=False)
    assert ran(opened).windows == [window(0)]


def test_where_nothing_is_due_dagster_is_not_even_loaded_and_plain_calls_never_load_it(tmp_path: Path) -> None:
    opened = made(tmp_path, hours=1)
    code = (
        "import sys, recon; from recon.cli import main\n"
        f"recon.open({str(opened.config.path)!r}).run()\n"
        f"assert main(['run', '--config', {str(opened.config.path)!r}]) == 0\n"
        "assert 'dagster' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "nothing to do: everything that is closed is done\n"), done.stderr
    assert not (tmp_path / ".dagster").exists()


# ---- what goes wrong ---------------------------------------------------------------------------------------------------


HELD = """
import time
from pathlib import Path

def judge(table, stage):
    Path(__file__).with_name("begun").touch()
    while Path(__file__).with_name("hold").exists():
        time.sleep(0.05)
    return table
"""


def held(folder: Path) -> Reconciliation:
    """Two windows whose reduction takes as long as a file ``hold`` stands in the folder."""
    (folder / "held.py").write_text(HELD)
    (folder / "hold").touch()
    (folder / "orders.yaml").write_text(YAML.format(name="orders") + "logic: held:judge\n")
    opened = recon.open(folder / "orders.yaml")
    opened.store(create=True)
    for hour in range(2):
        landed(opened, hour)
    return opened


def started(opened: Reconciliation, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "recon.cli", "run", "--config", str(opened.config.path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen(command, env=env, cwd=opened.config.path.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < end, f"waited {PATIENCE_S} s in vain for {path}"
        time.sleep(0.05)


def test_an_interrupted_run_is_failed_in_dagster_and_the_next_one_goes_on(tmp_path: Path) -> None:
    opened = held(tmp_path)
    process = started(opened)
    wait_for(tmp_path / "begun")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (130, "")
    assert err == "recon: interrupted; nothing half-done is visible, run it again to go on\n"
    with shown(opened) as instance:
        assert [run.status.value for run in instance.get_runs()] == ["FAILURE"]
    assert lease.holders(opened.store(), "stages") == {}
    (tmp_path / "hold").unlink()
    assert ran(opened).windows == [window(0), window(1)]


def test_a_killed_run_is_failed_in_dagster_by_the_next_one_once_it_was_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = held(tmp_path)
    process = started(opened, RECON_HEARTBEAT_S="0.5")
    wait_for(tmp_path / "begun")
    process.kill()
    process.communicate()
    (tmp_path / "hold").unlink()
    monkeypatch.setattr(lease, "SKEW_S", 0.1)
    time.sleep(1)
    assert ran(opened).windows == [window(0), window(1)]
    with shown(opened) as instance:
        assert sorted(run.status.value for run in instance.get_runs()) == ["FAILURE", "SUCCESS"]
    assert opened.verify(full=True).problems == []


def test_two_runs_beside_each_other_do_the_work_once(tmp_path: Path) -> None:
    opened = held(tmp_path)
    both = [started(opened), started(opened)]
    wait_for(tmp_path / "begun")
    time.sleep(1)
    (tmp_path / "hold").unlink()
    for process in both:
        _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, err
    assert opened.state().commit == 1
    assert opened.certificate(window(0))["number"] == 1
    assert opened.verify(full=True).problems == []
    with shown(opened) as instance:
        assert [run.status.value for run in instance.get_runs()] == ["SUCCESS"] * 2


def test_a_store_that_is_away_is_told_at_once_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = made(tmp_path, hours=1)
    calls = []

    def away(*_: Any) -> Any:
        calls.append(time.monotonic())
        raise TryAgain("the store is away")

    monkeypatch.setattr(reduce, "reduce_windows", away)
    with pytest.raises(TryAgain, match=r"^the store is away$"):
        ran(opened)
    assert len(calls) == 1


def test_a_mistake_of_ours_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    opened = made(tmp_path, hours=1)

    def broken(*_: Any) -> Any:
        raise LookupError("no such thing")

    monkeypatch.setattr(index, "merge_tiers", broken)
    assert main(["run", "--config", str(opened.config.path)]) == 1
    assert capsys.readouterr().err == "recon: LookupError: no such thing: this is a bug; run again with --debug for the traceback\n"


def test_a_broken_storage_of_dagster_is_told_in_one_line_and_the_store_is_none_the_worse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = made(tmp_path, hours=2)
    command = ["run", "--config", str(opened.config.path)]
    assert main([*command, "--to", window(0)]) == 0
    index = tmp_path / ".dagster" / "history" / "runs" / "index.db"
    index.write_bytes(b"no database at all" * 100)
    for leftover in index.parent.glob("index.db-*"):
        leftover.unlink()
    capsys.readouterr()
    assert main(command) == Damaged.exit_status
    err = capsys.readouterr().err
    assert err.startswith(
        f"recon: {tmp_path / '.dagster'}: Dagster's storage cannot be used (file is not a database); move this folder away"
    )
    assert err.count("\n") == 1
    (tmp_path / ".dagster").rename(tmp_path / "broken")
    assert main(command) == 0
    assert set(Timeline(opened.store()).head().windows) == {window(0), window(1)}


def test_a_home_that_cannot_be_made_or_read_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = made(tmp_path, hours=1)
    command = ["run", "--config", str(opened.config.path)]
    (tmp_path / ".dagster").write_text("a file")
    assert main(command) == 2
    assert f"{tmp_path / '.dagster'}: Dagster's home cannot be made" in capsys.readouterr().err
    (tmp_path / ".dagster").unlink()
    (tmp_path / ".dagster").mkdir()
    (tmp_path / ".dagster" / "dagster.yaml").write_text("storrage: {}\n")
    assert main(command) == 2
    err = capsys.readouterr().err
    assert f"{tmp_path / '.dagster' / 'dagster.yaml'}: cannot be read as the settings of Dagster" in err
    assert err.count("\n") == 1
    assert opened.state().commit == 0


def test_a_foreign_package_of_our_name_is_refused_naming_its_path(tmp_path: Path) -> None:
    opened = made(tmp_path, hours=1)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "__init__.py").write_text("raise SystemExit('foreign')")
    process = started(opened)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert err.startswith(f"recon: {tmp_path / 'jobs' / '__init__.py'}: a foreign package 'jobs' is imported in place of")


def test_a_run_from_another_thread_works_as_well(tmp_path: Path) -> None:
    opened = made(tmp_path, hours=1)
    reports: list[RunReport] = []
    thread = threading.Thread(target=lambda: reports.append(ran(Reconciliation(opened.config.path))))
    thread.start()
    thread.join(PATIENCE_S)
    assert [report.windows for report in reports] == [[window(0)]]


# ---- the demo ----------------------------------------------------------------------------------------------------------


def test_the_demo_starts_afresh_in_dagster_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["demo", str(tmp_path / "demo")]) == 0
        with open_instance(tmp_path / "demo" / "recon.yaml") as instance:
            assert [run.status.value for run in instance.get_runs()] == ["SUCCESS"] * 4
            found = instance.get_materialized_partitions(dg.AssetKey(["demo", "window_certificates"]))
            assert found == {window(hour) for hour in range(5)}
