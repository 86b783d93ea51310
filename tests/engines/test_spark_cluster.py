"""A real standalone cluster, a master and two workers: the whole pipeline through spark-submit, and a worker that is killed meanwhile."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, cluster
from histories import records

import recon
from recon.operations.packaging.spark_zip import package
from recon.samples.generator import Sample, generate
from recon.state.runs.file import open_run
from recon.storage import layout

SLICES = 16
RUN_S_MAX = 240


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


def landed(folder: Path) -> Path:
    """Four windows of events, some of them twice and some not readable; two windows are merged at a time."""
    generate(Sample(12_000, 4_000, 4, 5, duplicate_share=0.05, reject_share=0.01), folder)
    file = folder / "recon.yaml"
    file.write_text(file.read_text() + f"caps: {{windows: 2}}\nengine: {{slices: {SLICES}}}\n")
    r = recon.open(file)
    for window, files in json.loads((folder / "files.json").read_text()).items():
        r.land([folder / name for name in files], window=window, close=True)
    return file


def parts(store: Path) -> list[Path]:
    return sorted((store / layout.STATE).glob("*/part-*.words"))


def answer(submitted: subprocess.Popen[str]) -> dict[str, object]:
    out, err = submitted.communicate(timeout=RUN_S_MAX)
    assert submitted.returncode == 0, err[-3000:]
    found: dict[str, object] = json.loads(out.strip().splitlines()[-1])
    return found


@pytest.mark.soak
def test_the_pipeline_runs_through_spark_submit_and_a_worker_killed_in_the_middle_of_the_merge_changes_nothing(
    running: Cluster, tmp_path: Path
) -> None:
    here, there = landed(tmp_path / "here"), landed(tmp_path / "there")
    package(tmp_path / "dist")
    store = tmp_path / "there" / "data"
    submitted = running.submit(
        ["--py-files", tmp_path / "dist" / "recon-spark.zip", tmp_path / "dist" / "recon_spark.py", "run", "--config", there]
    )
    deadline = time.monotonic() + RUN_S_MAX
    while not parts(store):
        assert submitted.poll() is None, submitted.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.kill("worker-0")
    before = len(parts(store))
    assert before < SLICES, "the merge was over when the worker was killed"
    report = answer(submitted)
    assert "Lost executor" in running.log("master") or "Removing" in running.log("master")

    expected = recon.open(here)
    expected.run()
    found = recon.open(there)
    assert report["windows"] == list(expected.state().windows)
    assert report["commits"] == [1, 2]
    assert records(found) == records(expected)
    assert len(parts(store)) > before
    assert found.verify(full=True).problems == []
    # Whatever attempts died left behind is named by no run, so that a sweep takes it.
    named = {file for run in found.state().runs for file in open_run(found.store(), run.path).part_files}
    assert {path.relative_to(store).as_posix() for path in parts(store)} >= named
