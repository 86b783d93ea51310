"""A kill, a full disk or a lost reply at any point loses nothing, doubles nothing and leaves nothing half visible.

The laws: 4 (atomic) and 5 (fenced); the protocol: docs/decisions/002-timeline.md.

A kill between two reads leaves the store as a kill after the last write before them does, so kills at every write, before
and after its object has its name, are kills at every call.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crash_child as c
import faulty_store
import pytest
from histories import check_store, records

import recon
from recon import cli
from recon.errors import ReconError, TryAgain
from recon.state.timeline import Timeline

SOAK = os.environ.get("RECON_SOAK") == "1"
VERIFY_EVERY = 1 if SOAK else 4
KILLS, BATCHES = 3, 1
SOAK_KILLS, SOAK_BATCHES = 1000, 20


def is_verified(number: int) -> bool:
    """Every store is compared; `recon verify` besides, on some, for its time."""
    return number % VERIFY_EVERY == 0


@pytest.fixture(scope="module")
def undisturbed(server: c.Server, base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an undisturbed run writes and comes to, which the oracle confirms."""
    folder = c.copy_of(base, tmp_path_factory.mktemp("undisturbed") / "store")
    written = server("writes", config=str(folder / "recon.yaml"))
    settled = server("settle", config=str(folder / "recon.yaml"), full=True)
    assert settled["faults"] == []
    assert written["kinds"][-3:] == ["merge", "tiers", "merge"]
    assert written["recounted"], "the prepared run should count a window again"
    check_store(recon.open(folder / "recon.yaml"), c.state_after((*c.history(), c.s.Run((2, 7)))))
    return {**written, "outcome": settled["outcome"]}


def check_settled(server: c.Server, folder: Path, undisturbed: dict[str, Any], what: str, verify: bool = True) -> None:
    settled = server("settle", config=str(folder / "recon.yaml"), verify=verify)
    assert settled["faults"] == [], f"{what}: {settled['faults']}"
    found, expected = (
        # A rebuild begins the list of windows that no longer contribute anew.
        {**one, "records": {key: {**record, "withdrawn": []} for key, record in one["records"].items()}} if "rebuild" in what else one
        for one in (settled["outcome"], undisturbed["outcome"])
    )
    assert found == expected, what


def killed_after(paths: list[str]) -> list[int]:
    """Numbers of the objects that a run is killed after: in `make test` the last of each kind in a row, such as of a window's files, in
    `make soak` every one."""
    kinds = [*(path.split("/")[0] for path in paths), ""]
    return [number for number in range(1, len(paths) + 1) if SOAK or kinds[number - 1] != kinds[number]]


def test_a_kill_at_any_write_and_another_on_the_way_back_lose_nothing_and_the_next_run_completes(
    server: c.Server, base: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Each object in turn is the last one to get its name; the run after that is killed before some object gets its."""
    randomly, objects = random.Random(0), len(undisturbed["objects"])
    assert objects > 20
    for number in killed_after(undisturbed["objects"]):
        folder = c.copy_of(base, tmp_path / str(number))
        assert server("run", config=str(folder / "recon.yaml"), kill="linked", number=number) == {"signal": 9}
        if number < objects:
            # One object less than were missing: the note that a window is indexed is not made again for a commit that is found.
            second = randomly.randint(1, max(objects - number - 1, 1))
            assert server("run", config=str(folder / "recon.yaml"), kill="written", number=second) == {"signal": 9}
        what = f"killed at object {number} of {objects}"
        check_settled(server, folder, undisturbed, what, verify=is_verified(number))


@pytest.mark.soak
def test_a_kill_before_any_object_has_its_name_loses_nothing_and_the_next_run_completes(
    server: c.Server, base: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    for number in range(1, len(undisturbed["objects"]) + 1):
        folder = c.copy_of(base, tmp_path / str(number))
        assert server("run", config=str(folder / "recon.yaml"), kill="written", number=number) == {"signal": 9}
        check_settled(server, folder, undisturbed, f"killed before object {number}")


def test_a_kill_before_any_delete_loses_nothing_and_the_next_run_completes(
    server: c.Server, base: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    assert undisturbed["deletes"] >= 2
    for number in range(1, undisturbed["deletes"] + 1):
        folder = c.copy_of(base, tmp_path / str(number))
        assert server("run", config=str(folder / "recon.yaml"), kill="delete", number=number) == {"signal": 9}
        check_settled(server, folder, undisturbed, f"killed before delete {number}")


@pytest.mark.parametrize("what", [pytest.param("rebuild", marks=pytest.mark.soak), "compaction and sweeps"])
def test_a_kill_at_any_write_or_delete_of_a_rebuild_compaction_or_sweep_loses_nothing_and_the_next_one_completes(
    server: c.Server, base: Path, undisturbed: dict[str, Any], tmp_path: Path, what: str
) -> None:
    """In `make test` every sixteenth moment, in `make soak` all of them."""
    done = c.copy_of(base, tmp_path / "done")
    server("settle", config=str(done / "recon.yaml"), verify=False)
    whole = c.copy_of(done, tmp_path / "whole")
    counts = server("renew", config=str(whole / "recon.yaml"), what=what)
    check_settled(server, whole, undisturbed, f"{what}, not killed")
    moments = [(kill, n) for kill in ("linked", "written") for n in range(1, counts["objects"] + 1)]
    moments += [("delete", n) for n in range(1, counts["deletes"] + 1)]
    assert counts["objects"] > 4
    for at, (kill, number) in list(enumerate(moments))[:: 1 if os.environ.get("RECON_SOAK") else 16]:
        folder = c.copy_of(done, tmp_path / str(at))
        config = str(folder / "recon.yaml")
        assert server("renew", config=config, what=what, kill=kill, number=number) == {"signal": 9}
        check_settled(server, folder, undisturbed, f"{what} killed at {kill} {number}", verify=is_verified(at))
        server("renew", config=config, what=what)
        check_settled(server, folder, undisturbed, f"{what} killed at {kill} {number}, and done again", verify=is_verified(at))
        # Far ahead all that nothing stands on is gone, and nothing else.
        server("renew", config=config, what="compaction and sweeps")
        check_settled(server, folder, undisturbed, f"{what} killed at {kill} {number}, and swept far ahead", verify=is_verified(at))


# ---- the console command ---------------------------------------------------------------------------------------------


def recon_run(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "recon.cli", "run", "--config", str(folder / "recon.yaml"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def paths_in(folder: Path) -> set[str]:
    """Files, and the folders of unfinished work."""
    return {str(path.relative_to(folder / "data")) for path in (folder / "data").rglob("*")}


def died_in(new: set[str]) -> str:
    """The stage that a killed run had come to, by what it added to the store."""
    certificates = sum(path.startswith("certificates/") and path.endswith(".json") for path in new)
    commits = sum(path.startswith("timeline/") for path in new)
    if certificates:
        return "the second range" if commits < 3 else "the last certify"
    if commits:
        return "index" if commits == 1 else "certify"
    for beginning, stage in (("state/", "merge"), ("prefetched/", "merge"), ("stateless/", "reduce"), ("tmp/", "reduce")):
        if any(path.startswith(beginning) for path in new):
            return stage
    return "start"


@dataclass(frozen=True)
class Span:
    """Seconds that an undisturbed `recon run` takes: in all, and at work after it has started."""

    whole: float
    work: float


@pytest.fixture(scope="module")
def span(base: Path, undisturbed: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Span:
    folder = c.copy_of(base, tmp_path_factory.mktemp("measured") / "store")
    start = time.monotonic()
    out, errors = (running := recon_run(folder, "--json")).communicate(timeout=120)
    assert running.returncode == 0, errors
    return Span(time.monotonic() - start, sum(json.loads(out)["seconds"].values()))


def wait_for(running: subprocess.Popen[str], store: Path, pattern: str) -> None:
    """Until the run has made one path more that matches: a slow start of Python must not take all the kills."""
    before = len(list(store.glob(pattern)))
    while running.poll() is None and len(list(store.glob(pattern))) == before:
        time.sleep(0.005)


def kill_at_random(server: c.Server, base: Path, undisturbed: dict[str, Any], folder: Path, span: Span, seed: int, kills: int) -> None:
    """Of four kills one falls at any moment from the start of Python on, one into the work, two after the first reduce."""
    randomly = random.Random(seed)
    stages: Counter[str] = Counter()
    for number in range(kills):
        store = c.copy_of(base, folder / str(number))
        before = paths_in(store)
        running = recon_run(store)
        if number % 4:
            wait_for(running, store, "data/tmp/recon-*" if number % 4 == 1 else "data/stateless/*/*/figures.json")
        moment = randomly.uniform(0, (span.whole, span.work, span.work / 2, span.work / 2)[number % 4])
        try:
            running.wait(moment)
        except subprocess.TimeoutExpired:
            running.kill()
        _, errors = running.communicate()
        assert running.returncode in (0, -9), errors
        stages[died_in(paths_in(store) - before) if running.returncode else "not at all"] += 1
        what = f"seed {seed}, kill {number}, after {moment:.3f} s"
        check_settled(server, store, undisturbed, what, verify=is_verified(number))
        shutil.rmtree(store)
    print(f"\nseed {seed}: {kills} runs died in: " + ", ".join(f"{stage} {n}" for stage, n in stages.most_common()))
    assert stages.total() > stages["not at all"] + stages["start"], "no kill fell into the work"


@pytest.mark.parametrize("seed", range(BATCHES))
def test_recon_run_killed_at_a_random_moment_is_completed_by_the_next(
    server: c.Server,
    base: Path,
    undisturbed: dict[str, Any],
    span: Span,
    tmp_path: Path,
    seed: int,
) -> None:
    kill_at_random(server, base, undisturbed, tmp_path, span, seed, KILLS // BATCHES)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 100 + SOAK_BATCHES))
def test_recon_run_killed_a_thousand_times_is_completed_by_the_next(
    server: c.Server, base: Path, undisturbed: dict[str, Any], span: Span, tmp_path: Path, seed: int
) -> None:
    kill_at_random(server, base, undisturbed, tmp_path, span, seed, SOAK_KILLS // SOAK_BATCHES)


# ---- stores that fail ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calls(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """How many calls of each kind an undisturbed run makes. A folder is mapped; part-files and runs are read by calls here."""
    folder = c.copy_of(base, tmp_path_factory.mktemp("calls") / "store")
    r = recon.open(folder / "recon.yaml")
    r._store = watched = faulty_store.WatchedStore(r.store(), mapped=not_of_the_state)
    r.run()
    return Counter(call.kind for call in watched.calls)


def not_of_the_state(path: str) -> bool:
    return not path.startswith("state/")


def settled_here(folder: Path, undisturbed: dict[str, Any], verify: bool = True) -> None:
    answer = c.settle(str(folder / "recon.yaml"), verify)
    assert answer["faults"] == []
    assert answer["outcome"] == undisturbed["outcome"]


def run_with(folder: Path, monkeypatch: pytest.MonkeyPatch, wrap: Callable[[Any], Any]) -> int:
    """`recon run` in this process on a wrapped store. Returns its exit status."""
    from recon.reading import answers
    from recon.storage.open import open_for

    with monkeypatch.context() as patch:
        patch.setattr(answers, "open_for", lambda config, create=False: wrap(open_for(config, create)))
        return cli.main(["run", "--config", str(folder / "recon.yaml")])


FAILING = [kind for kind in faulty_store.CALLS if kind not in ("exists", "copy_out")]
"""A run in a folder never asks the others. In `make test` one call of each kind fails: the last one or the one in the middle."""


@pytest.mark.parametrize("kind", FAILING)
def test_a_call_that_fails_once_is_one_clear_line_with_status_3_and_the_next_run_completes(
    base: Path,
    undisturbed: dict[str, Any],
    calls: Counter[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    assert calls[kind]
    in_the_middle, last = (calls[kind] + 1) // 2, calls[kind]
    for number in sorted({in_the_middle, last}) if SOAK else [in_the_middle if FAILING.index(kind) % 2 else last]:
        folder = c.copy_of(base, tmp_path / str(number))
        hook = faulty_store.failing_once(kind, number)
        wrap = lambda store, hook=hook: faulty_store.WatchedStore(store, hook, mapped=not_of_the_state)  # noqa: E731
        assert run_with(folder, monkeypatch, wrap) == 3, f"{kind} {number}"
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1, said
        assert "the storage is away; run the same again" in said[0]
        settled_here(folder, undisturbed, verify=SOAK)


def for_a_lease() -> bool:
    """Whether the call under way is for a lease: that only tells others who is at work, and runs out where it cannot be given back."""
    return any(Path(frame.filename).name == "lease.py" for frame in traceback.extract_stack(limit=20))


@pytest.mark.parametrize(("function", "number"), [("fsync", 3), ("link", 14)])
def test_a_disk_that_is_full_once_is_one_clear_line_with_status_3_and_the_next_run_completes(
    base: Path,
    undisturbed: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    function: str,
    number: int,
) -> None:
    folder = c.copy_of(base, tmp_path / "store")
    real, seen = getattr(os, function), 0

    def full_once(*arguments: Any, **options: Any) -> Any:
        nonlocal seen
        seen += not for_a_lease()
        if seen == number and not for_a_lease():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, function, full_once)
        assert cli.main(["run", "--config", str(folder / "recon.yaml")]) == 3
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1, said
    assert "no space left" in said[0]
    settled_here(folder, undisturbed, verify=SOAK)


class ReplyLost(ReconError):
    """The put has succeeded; the one who asked will never know."""


def losing_the_reply(prefix: str) -> faulty_store.Hook:
    """As a client that gets no answer and asks again: the object is there, and the second try finds it there."""
    lost = False

    def hook(call: faulty_store.Call) -> None:
        nonlocal lost
        if call.kind == "put_new" and call.path.startswith(prefix) and not lost:
            lost = True
            raise ReplyLost(call.path)

    return hook


class RetryingStore(faulty_store.WatchedStore):
    """A client that repeats a put whose reply was lost, as clients of object stores do."""

    def put_new(self, path: str, chunks: Any) -> int:
        body = list(chunks)
        try:
            return super().put_new(path, body)
        except ReplyLost:
            return super().put_new(path, body)


def test_a_commit_whose_reply_is_lost_and_is_put_again_is_known_by_its_writer_and_not_made_twice(
    base: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    folder = c.copy_of(base, tmp_path / "store")
    r = recon.open(folder / "recon.yaml")
    head = r.state().commit
    r._store = RetryingStore(r.store(), after=losing_the_reply("timeline/"))
    report = r.run()
    assert report.commits[0] == head + 1
    kinds = [entry.kind for n in range(head + 1, r.state().commit + 1) if (entry := Timeline(r.store()).entry(n))]
    assert kinds == ["merge", "tiers", "merge"]
    settled_here(folder, undisturbed)


@pytest.mark.parametrize("prefix", ["timeline/", "certificates/", "state/", "prefetched/", "stateless/"])
def test_a_put_that_succeeds_but_is_reported_as_failed_is_not_made_twice_by_the_next_run(
    base: Path, undisturbed: dict[str, Any], tmp_path: Path, prefix: str
) -> None:
    folder = c.copy_of(base, tmp_path / "store")

    def fails(call: faulty_store.Call) -> None:
        if call.kind in ("put_new", "copy_in") and call.path.startswith(prefix):
            raise TryAgain(f"{call.path}: the reply was lost; run the same again")

    r = recon.open(folder / "recon.yaml")
    r._store = faulty_store.WatchedStore(r.store(), after=fails)
    with pytest.raises(TryAgain):
        r.run()
    settled_here(folder, undisturbed)


def test_records_are_compared_in_full(base: Path, tmp_path: Path) -> None:
    """The comparison above would notice: before the run the artifacts are others than after it."""
    r = recon.open(c.copy_of(base, tmp_path / "store") / "recon.yaml")
    before, outcome_before = records(r), c.outcome(r)
    r.run()
    assert records(r) != before
    assert c.outcome(r) != outcome_before
