"""A real daemon keeps up by itself: windows land faster than they are processed, and a run is killed on the way.

Belongs here: what only several processes show. Does not belong here: what a tick decides (test_dagster_sensor).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import driving
import pytest
import strategies as s

from jobs.stage_jobs import SENSED
from recon import lease
from recon.api import Reconciliation
from recon.certify import uncertified
from recon.windows import name_of
from resources.instance import open_instance

ROOT = Path(__file__).resolve().parents[1]
WINDOWS, CAP = 24, 12
UNTIL_S = 600.0
_SLOW = """
import time
from pathlib import Path

def judge(table, stage):
    \"\"\"Changes nothing; a reduction takes as long as the file beside it stands.\"\"\"
    while stage == "reduce" and Path(__file__).with_name("hold").exists():
        time.sleep(0.05)
    return table
"""


def wait_for(what: Callable[[], Any], told: Callable[[], str]) -> Any:
    end = time.monotonic() + UNTIL_S
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError(told())


@contextmanager
def daemon(r: Reconciliation) -> Iterator[Path]:
    """A ``dagster-daemon`` in a process group of its own, with its code server and its runs; it ends with the block."""
    folder = r.config.path.parent
    log = folder / "daemon.log"
    env = {
        **os.environ,
        "DAGSTER_HOME": str(folder / ".dagster"),
        "RECON_CONFIG": str(r.config.path),
        "RECON_TICK_S": "1",
        "RECON_HEARTBEAT_S": "6",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(ROOT / "workspace.yaml")]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=out, start_new_session=True)
        try:
            yield log
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def pid_of(instance: dg.DagsterInstance, run_id: str) -> int | None:
    """The process that the launcher started for a run, as it has told in the run's log."""
    for entry in instance.all_logs(run_id):
        event = entry.dagster_event
        if event is not None and event.is_engine_event and "pid" in (shown := event.engine_event_data.metadata):
            return int(str(shown["pid"].value))
    return None


def landed(r: Reconciliation, state: s.State, window: int) -> s.State:
    rows = tuple(s.Row(f"K{key % 7}", f"{window}-{key}", ("INVOICE", "PAYMENT")[key % 2], f"{key}.25") for key in range(10))
    for operation in (s.Land(window, s.File(f"file-{window}", rows)), s.Close(window)):
        driving.carry_out(r, operation)
        state = s.apply(state, operation)
    return state


@pytest.mark.e2e
def test_a_daemon_keeps_up_with_clearly_fewer_runs_than_windows_and_takes_over_from_a_killed_run(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(_SLOW)
    r = driving.open_in(tmp_path, s.STANDARD_YAML + f"logic: slow:judge\ncaps: {{windows: {CAP}}}\n")
    state = s.State()
    hold = tmp_path / "hold"
    hold.touch()
    for window in range(3):
        state = landed(r, state, window)
    with open_instance(r.config.path) as instance, daemon(r) as log:

        def told() -> str:
            runs = [(run.job_name, run.status.value, run.tags.get("recon/failure")) for run in instance.get_runs()]
            return f"done: {sorted(r.state().windows)}; runs: {runs}\n{log.read_text()[-6000:]}"

        held = wait_for(lambda: lease.current(r.store(), "stages/reduce"), told)
        os.kill(wait_for(lambda: pid_of(instance, held.holder), told), signal.SIGKILL)
        hold.unlink()
        for window in range(3, WINDOWS):  # they land while nobody, and then while everybody, is at work
            state = landed(r, state, window)
            time.sleep(0.5)

        def done() -> bool:
            found = r.state()
            return len(found.windows) == WINDOWS and not uncertified(r.store(), r.config, found)

        wait_for(done, told)
        killed = instance.get_run_by_id(held.holder)
        assert killed is not None
        assert killed.status is dg.DagsterRunStatus.FAILURE
        for stage, job in SENSED.items():
            count = instance.get_runs_count(dg.RunsFilter(job_name=f"orders_{job}"))
            assert count <= WINDOWS // 3, f"{stage}: {count} runs for {WINDOWS} windows"
    state = s.apply(state, s.Run(tuple(range(WINDOWS))))
    driving.check_store(r, state)
    assert r.state().windows.keys() == {name_of(s.at(window)) for window in range(WINDOWS)}
