"""The processes that tests kill and race, and the store that they work on.

Starting Python with DuckDB takes longer than a run of a small store, so ``Server`` starts it once. It opens no database
itself: a fork of an open one would share its threads' locks.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import faulty_store
import strategies as s
from histories import carry_out, open_in, records, run_range

import recon
from recon.api import Reconciliation
from recon.errors import ReconError
from recon.intake.corrections import correct
from recon.operations.upkeep import sweep_store
from recon.state.certificates import read_certificates, ties
from recon.state.committed import committed_figures
from recon.state.compaction import compact
from recon.state.timeline import Timeline

YAML = s.STANDARD_YAML + "threads: 1\ncaps: {windows: 2}\n"
COUNTED = ("revision", "closed", "keys", "arrived", "accepted", "duplicates", "rejected", "suppressed", "counted", "measures")


# ---- the prepared store ----------------------------------------------------------------------------------------------


def rows_of(window: int, spoiled: str | None = None) -> tuple[s.Row, ...]:
    """12 events: 4 of their keys and ids stand in the window before too, so that they are duplicates of it."""
    return tuple(
        s.Row(
            order_id=f"K{number % 9}",
            event_id=f"e{number}",
            event_type=("INVOICE", "PAYMENT", "REFUND")[number % 3],
            amount=spoiled if spoiled and number % 8 == 0 else f"{number % 5}.50",
            currency=("EUR", "USD")[number % 2],
            booked_at=f"2026-11-01T{window:02d}:{number % 60:02d}:00Z",
        )
        for number in range(window * 8, window * 8 + 12)
    )


def history() -> tuple[s.Operation, ...]:
    """7 windows in a commit each, and what the killed run has to do: a correction and a new window, in a range each.

    The commit of the correction adds the eighth run, so that a merge of tiers follows. It counts window 3 again, which
    holds duplicates of events that are gone from window 2, and rejects some rows."""
    operations: list[s.Operation] = []
    for window in range(7):
        operations += [s.Land(window, s.File(f"w{window}", rows_of(window))), s.Close(window), s.Run((window,))]
    operations += [
        s.Replace(2, "w2.csv", s.File("w2-corrected", rows_of(2, "abc")[3:])),
        s.Land(7, s.File("w7", rows_of(7))),
        s.Close(7),
    ]
    return tuple(operations)


def state_after(operations: Sequence[s.Operation]) -> s.State:
    return s.History(tuple(operations)).states()[-1]


def prepare(folder: Path, operations: Sequence[s.Operation]) -> Reconciliation:
    folder.mkdir(parents=True, exist_ok=True)
    r = open_in(folder, YAML)
    for operation in operations:
        carry_out(r, operation)
    return r


def copy_of(base: Path, folder: Path) -> Path:
    """The same store anew. Objects are hard links: none is ever changed."""
    shutil.copytree(base, folder, copy_function=os.link)
    return folder


# ---- what a store comes to -------------------------------------------------------------------------------------------


def figures_of_all(r: Reconciliation) -> dict[str, dict[str, Any]]:
    """Window → its figures as the timeline holds them."""
    state = r.state()
    return committed_figures(r.store(), state, state.windows)


def outcome(r: Reconciliation) -> dict[str, Any]:
    """All that must be equal whatever happened on the way: artifacts, statuses, figures per window, certified figures."""
    state = r.state()
    certified = {name: r.certificate(name) for name in state.windows}
    return json.loads(
        json.dumps(
            {
                "records": records(r),
                "statuses": state.totals.get("statuses", {}),
                "windows": {name: {field: held[field] for field in COUNTED} for name, held in figures_of_all(r).items()},
                "certified": {
                    name: {field: made[field] for field in ("revision", "state", "in", "accepted", "duplicates", "rejected")}
                    for name, made in certified.items()
                    if made is not None
                },
            },
            sort_keys=True,
        )
    )


def faults(r: Reconciliation, verify: bool = True, full: bool = False) -> list[str]:
    """What is wrong with a settled store, in words: something merged twice, uncertified or untied, or found by verify."""
    found, state, timeline = [], r.state(), Timeline(r.store())
    merged: dict[tuple[str, int], int] = {}
    for number in range(1, state.commit + 1):
        entry = timeline.entry(number)
        assert entry is not None
        for name, held in entry.windows.items():
            earlier = merged.setdefault((name, held["revision"]), number)
            if earlier != number:
                found.append(f"commits {earlier} and {number} both hold {name} in revision {held['revision']}")
    for name, held in state.windows.items():
        made = read_certificates(r.store(), r.config.grid.parse(name))
        if not made or made[-1]["commit"] != held.commit:
            found.append(f"{name}: not certified as of commit {held.commit}")
        found += [f"{name}: certificate {c['number']} does not tie" for c in made if not c["ties"] or ties(c)]
        if [c["number"] for c in made] != list(range(1, len(made) + 1)):
            found.append(f"{name}: certificates are numbered {[c['number'] for c in made]}")
    return found + (list(r.verify(full=full).problems) if verify else [])


# ---- jobs ------------------------------------------------------------------------------------------------------------


def run(config: str, kill: str = "", number: int = 0, windows: Sequence[int] = ()) -> dict[str, Any]:
    """A run of all that is due (or of these windows as one range), killed at the ``number``-th object or delete."""
    r = recon.open(config)
    store = r.store()
    if kill in ("written", "linked"):
        faulty_store.killing_in_link(number, kill == "linked")
    elif kill == "delete":
        r._store = faulty_store.WatchedStore(store, before=faulty_store.killing_before_delete(number))
    report = run_range(r, tuple(windows)) if windows else r.run()
    return {"commits": report.commits, "windows": report.windows}


def settle(config: str, verify: bool = True, full: bool = False) -> dict[str, Any]:
    """Runs once more, and says what the store then comes to and what is wrong with it."""
    r = recon.open(config)
    report = r.run()
    assert not report.bad, report.bad
    again = r.run()
    assert (again.commits, again.certificates) == ([], 0), "a second run found something to do"
    return {"outcome": outcome(r), "faults": faults(r, verify, full)}


def make(folder: str) -> dict[str, Any]:
    """Prepares the store in ``folder``."""
    prepare(Path(folder), history())
    return {}


def writes(config: str) -> dict[str, Any]:
    """An undisturbed run. ``objects``: the paths that it creates, in order; ``deletes``: how many it deletes."""
    r = recon.open(config)
    r._store = watched = faulty_store.WatchedStore(r.store())
    report = r.run()
    kinds = [call.kind for call in watched.calls]
    timeline = Timeline(r.store())
    return {
        "objects": [call.path for call in watched.calls if call.kind in ("put_new", "copy_in")],
        "deletes": kinds.count("delete"),
        "commits": len(report.commits),
        "recounted": report.recounted,
        "kinds": [entry.kind for n in range(1, r.state().commit + 1) if (entry := timeline.entry(n))],
    }


def renew(config: str, what: str, kill: str = "", number: int = 0) -> dict[str, Any]:
    """A rebuild, or a compaction with the sweeps that follow it, killed at the ``number``-th object or delete."""
    r = recon.open(config)
    store = r.store()
    if kill in ("written", "linked"):
        faulty_store.killing_in_link(number, kill == "linked")
    before = faulty_store.killing_before_delete(number) if kill == "delete" else lambda call: None
    r._store = watched = faulty_store.WatchedStore(store, before=before)
    if what == "rebuild":
        r.rebuild()
    else:
        compact(watched, r.config, Timeline(watched), always=True)
        for day in (1, 3, 5):
            sweep_store(watched, r.config, Timeline(watched), datetime.now(UTC) + timedelta(days=day))
    kinds = [call.kind for call in watched.calls]
    return {"objects": kinds.count("put_new") + kinds.count("copy_in"), "deletes": kinds.count("delete")}


# ---- a writer that is suspended --------------------------------------------------------------------------------------

CORRECTED_AT = datetime(2026, 11, 1, 3, 30, tzinfo=UTC)


def _correct(r: Reconciliation) -> None:
    event = {"event_type": "PAYMENT", "amount": "3.25", "currency": "EUR"}
    correct(r.store(), r.config, ["K1"], event, "a test", CORRECTED_AT)


def _compact(r: Reconciliation) -> None:
    compact(r.store(), r.config, Timeline(r.store()), always=True)


def _others(r: Reconciliation) -> None:
    """What other processes do meanwhile: all that is due, a compaction, and sweeps days ahead."""
    r.run()
    _compact(r)
    for day in (1, 3, 5):
        sweep_store(r.store(), r.config, Timeline(r.store()), datetime.now(UTC) + timedelta(days=day))


WORK: Mapping[str, Callable[[Reconciliation], object]] = {
    "run": lambda r: r.run(),
    "correct": _correct,
    "compact": _compact,
    "rebuild": lambda r: r.rebuild(),
    "others": _others,
}


def suspend(config: str, what: str, number: int, linked: bool) -> dict[str, Any]:
    """A writer that stands still at its ``number``-th object, before or after that has its name, while others work; then it goes on.

    ``stopped``: whether it came to so many objects; without that nothing else was done. ``told``: the error that it ended with, if any."""
    writer, said = _forked(config, what, lambda: faulty_store.in_link(number, linked, faulty_store.stop_myself))
    _, status = os.waitpid(writer, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        return {"stopped": False, "told": _said(said)}
    try:
        other, theirs = _forked(config, "others")
        failed = _said(theirs)
        os.waitpid(other, 0)
        assert not failed, f"others: {failed}"
        os.kill(writer, signal.SIGCONT)
        return {"stopped": True, "told": _said(said)}
    finally:
        os.kill(writer, signal.SIGKILL)  # it has said all that it will; one that still stands would do so for ever
        os.waitpid(writer, 0)


def work(config: str, what: str) -> dict[str, Any]:
    """The same undisturbed; ``objects``: how many it creates."""
    created, link = 0, os.link

    def counted(*arguments: Any, **options: Any) -> None:
        nonlocal created
        created += 1
        link(*arguments, **options)

    os.link = counted
    WORK[what](recon.open(config))
    return {"objects": created}


def _forked(config: str, what: str, prepare: Callable[[], None] = lambda: None) -> tuple[int, int]:
    """A process that does this work, and a pipe that tells the error it ends with: nothing, or one that users are told."""
    answer, into = os.pipe()
    process = os.fork()
    if process:
        os.close(into)
        return process, answer
    told = ""
    try:
        prepare()
        WORK[what](recon.open(config))
    except ReconError as error:
        told = f"{type(error).__name__}: {error}"
    except BaseException:
        told = f"unexpected: {traceback.format_exc()}"
    os.write(into, told.encode()[-60_000:])
    os._exit(0)


def _said(answer: int) -> str:
    with open(answer, "rb") as stream:
        return stream.read().decode()


JOBS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "suspend": suspend,
    "work": work,
    "run": run,
    "settle": settle,
    "make": make,
    "writes": writes,
    "renew": renew,
}


# ---- the server ------------------------------------------------------------------------------------------------------


class Server:
    """A Python that has imported everything and forks a process for each job that it is told."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def all(self, *jobs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Does jobs (``do`` and its arguments) at once, each in a process. Answers {"signal": 9} for a killed one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(jobs) + "\n")
        self._process.stdin.flush()
        answers: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        for answer in answers:
            assert "error" not in answer, answer["error"]
        return answers

    def __call__(self, do: str, **arguments: Any) -> dict[str, Any]:
        return self.all({"do": do, **arguments})[0]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def _serve() -> None:
    for line in sys.stdin:
        answers = _at_once(json.loads(line))
        for name in {name for answer in answers for name in answer.pop("loaded", ())}:
            # What one process had to load, the next ones find loaded.
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        print(json.dumps(answers), flush=True)


def _at_once(jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    gate, opener = os.pipe()
    started = []
    for job in jobs:
        answer, into = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(opener)
            os.read(gate, 1)  # returns when the opener is closed: all have been forked then
            _do(job, into)
        os.close(into)
        started.append((process, answer))
    os.close(opener)
    os.close(gate)
    answers = []
    for process, answer in started:
        with open(answer, "rb") as stream:
            told = stream.read()
        _, status = os.waitpid(process, 0)
        answers.append({"signal": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else json.loads(told))
    return answers


def _do(job: dict[str, Any], into: int) -> None:
    """In the forked process; does not return."""
    known = set(sys.modules)
    try:
        answer = JOBS[job.pop("do")](**job)
        answer["loaded"] = sorted(set(sys.modules) - known)
    except BaseException:
        answer = {"error": traceback.format_exc()}
    with open(into, "wb") as stream:
        stream.write(json.dumps(answer).encode())
    os._exit(0)


if __name__ == "__main__":
    _serve()
