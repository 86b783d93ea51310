"""What goes wrong while a real daemon is at work: processes die, the disk is full, the store or Dagster's records are away."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
import pytest
import strategies as s
from daemons import Site, file_of, site, span, windows

from jobs.asset_jobs import SENSED
from recon_assets.retries import FAILURE_TAG, TRIED_TAG

SUCCESS, FAILURE = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE


def outcomes(at: Site, job: str) -> list[tuple[tuple[str, str], dg.DagsterRunStatus]]:
    return [(span(run), run.status) for run in at.runs(job)]


def test_a_run_killed_in_each_stage_is_failed_in_dagster_and_taken_over(tmp_path: Path) -> None:
    with site(tmp_path) as line:
        line.land(0)
        # Just before: the window is reduced, the pre-fetched file stands, the merge is committed, the index noted, the certificate there.
        ends = ["stateless/", "prefetched/", "timeline/", "indexed/", "certificates/"]
        for path in ends:
            line.kill_at(path)
        line.start()
        line.wait_for(lambda: line.done() and all(run.is_finished for run in line.runs()), "all windows to be certified")
        line.stop()
        assert all(map(line.has_killed, ends))
        for stage, kills in {"reduce": 1, "merge": 2, "index": 1, "certify": 1}.items():
            assert outcomes(line, SENSED[stage]) == [(windows(0, 0), FAILURE)] * kills + [(windows(0, 0), SUCCESS)], stage
        for run in line.runs():
            assert run.status is SUCCESS or "terminated by signal 9 (SIGKILL)" in told(line, run.run_id), "a person sees what happened"
        line.check()


@pytest.mark.soak
def test_a_daemon_killed_with_its_runs_goes_on_when_it_is_started_again(tmp_path: Path) -> None:
    with site(tmp_path) as line:
        dead = line.start_and_wait_in_reduce(1)
        line.kill()
        line.release("reduce", 1)
        line.land(2)
        assert line.run(dead.holder).status is dg.DagsterRunStatus.STARTED, "nobody was there to see it die"
        line.start()
        line.wait_for(line.done, "all windows to be certified")
        line.stop()
        assert line.run(dead.holder).status is FAILURE
        assert f"run {dead.holder}: no heartbeat since" in told(line, dead.holder)
        line.check()


def told(line: Site, run_id: str) -> str:
    """All that a person can read in a run's log."""
    lines = []
    for entry in line.instance().all_logs(run_id):
        event = entry.dagster_event
        lines.append(entry.message or entry.user_message)
        if event is not None and event.is_step_failure and event.step_failure_data.error is not None:
            error = event.step_failure_data.error
            lines += [one.message for one in (error, error.cause) if one is not None]
    return "\n".join(lines)


@pytest.mark.soak
def test_two_recon_runs_beside_a_daemon_come_to_what_one_comes_to(tmp_path: Path) -> None:
    with site(tmp_path, "caps: {windows: 4}\n") as line:
        line.land(*range(6))
        line.start()
        line.wait_for(lambda: line.at("reduce"), "the daemon to be at work")
        runs = [line.python("-c", "from recon.cli import main; main()", "run") for _ in range(2)]
        line.land(6, 7)
        for run in runs:
            out, err = run.communicate(timeout=300)
            assert run.returncode == 0, (out, err)
        line.wait_for(line.done, "all windows to be certified")
        line.stop()
        line.check()


@contextmanager
def full_disk(line: Site) -> Iterator[None]:
    """Nothing can be written to the store while the block lasts: its file system is full where one may be mounted, else each write is
    refused with the same error."""
    ballast = line.folder / "data" / "ballast"
    if not os.path.ismount(line.folder / "data"):
        (line.folder / "faults" / "full").touch()
        yield
        (line.folder / "faults" / "full").unlink()
        return
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    yield
    ballast.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[None]:
    """A file system of 16 MB where the store is to be, if this user may mount one."""
    (tmp_path / "data").mkdir()
    mounted = (
        os.geteuid() == 0 and not subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "recon-test", tmp_path / "data"]).returncode
    )
    yield
    if mounted:
        subprocess.run(["umount", "--lazy", tmp_path / "data"], check=True)


# In `make test` test_retries.py and test_sensors.py show the same rule without a daemon, test_crash.py the full disk.
@pytest.mark.soak
@pytest.mark.usefixtures("small_disk")
def test_on_a_full_disk_a_run_waits_and_goes_on_when_there_is_space(tmp_path: Path) -> None:
    with site(tmp_path) as line:
        held = line.start_and_wait_in_reduce(0)
        with full_disk(line):
            line.release("reduce", 0)
            line.wait_for(lambda: "OutOfCapacity" in line.run(held.holder).tags.get(TRIED_TAG, ""), "the run to meet the full disk")
            line.wait_for(lambda: line.skipped("reduce", f"run {held.holder} waits for its next attempt at"), "a person to be told")
        line.wait_for(line.done, "all windows to be certified")
        line.stop()
        assert outcomes(line, SENSED["reduce"]) == [(windows(0, 1), SUCCESS)]
        line.check()


@pytest.mark.soak
def test_a_store_that_is_away_for_a_while_fails_a_range_that_is_launched_again_when_it_is_back(tmp_path: Path) -> None:
    with site(tmp_path) as line:
        held = line.start_and_wait_in_reduce(0)
        (tmp_path / "data").rename(tmp_path / "away")
        line.release("reduce", 0)
        line.wait_for(lambda: line.run(held.holder).is_finished, "the run to give up")
        line.wait_for(lambda: line.skipped("reduce", "there is no store"), "a sensor to say so")
        assert line.run(held.holder).tags.get(FAILURE_TAG) in ("TryAgain", "WrongUsage"), told(line, held.holder)
        assert not (tmp_path / "data").exists(), "nothing is made in its place"
        (tmp_path / "away").rename(tmp_path / "data")
        line.wait_for(line.done, "all windows to be certified")
        line.stop()
        assert outcomes(line, SENSED["reduce"]) == [(windows(0, 1), FAILURE), (windows(0, 1), SUCCESS)]
        line.check()


@pytest.mark.soak
def test_when_dagsters_records_are_lost_what_is_done_stays_done_and_the_rest_goes_on(tmp_path: Path) -> None:
    with site(tmp_path) as line:
        line.land(0, 1)
        line.start()
        line.wait_for(lambda: line.r.state().revision(windows(1, 1)[0]), "the windows to be merged")
        line.stop()
        line.close_instance()
        shutil.rmtree(line.home)
        line.home.mkdir()
        commit = line.r.state().commit
        line.land(2)
        line.start()
        line.wait_for(line.done, "all windows to be certified")
        line.stop()
        assert outcomes(line, SENSED["reduce"]) == outcomes(line, SENSED["merge"]) == [(windows(2, 2), SUCCESS)]
        assert line.r.state().commit > commit
        line.check()


@pytest.mark.soak
def test_a_window_revised_twice_while_it_is_processed_comes_out_as_last_revised(tmp_path: Path) -> None:
    with site(tmp_path) as line:
        line.start_and_wait_in_reduce(0)
        line.carry_out(s.Replace(0, "file-0.csv", file_of(0, "corrected", "75")))
        line.hold("merge", 0)
        line.release("reduce", 0)
        line.wait_for(lambda: line.at("merge"), "the first or the second revision to be merged")
        line.carry_out(s.Replace(0, "corrected-0.csv", file_of(0, "again", "50")), s.Land(1, file_of(1, "late")))
        line.release("merge", 0)
        line.wait_for(line.done, "the last revisions to be certified")
        line.stop()
        line.check()
