"""Workers and the processes of requests that are cancelled, killed, suspended, deaf, too large, too slow: nothing is lost or left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import odd_readers as odd
import psutil
import pytest
import service_site as s
import sqlalchemy as sa
from daemons import end_with_parent

from recon.database.tables import REQUESTS
from recon.errors import TryAgain
from recon.service import claims, scratch, site
from recon.service.site import Service
from recon.service.submissions import Holder, Submission
from recon.service.worker import Worker

WAIT_S = 120.0
LANE = {"memory": "800MB", "engine_memory": "200MB", "time": "10m", "latency": "1m"}


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("RECON_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(claims, "PAUSES", (timedelta(0),) * 2)
    return _service(tmp_path)


def _service(folder: Path, **settings: Any) -> Service:
    s.service_in(folder, **{"small": LANE, **settings})
    return odd.service_at(folder / "recon.yaml")


def _submit(service: Service, what: str) -> Submission:
    return service.submit(s.holder(service, "finance", "submit", "read-all"), odd.request(what))[0]


@contextmanager
def _working(service: Service, **given: Any) -> Iterator[Worker]:
    worker = Worker(service, say=lambda line: None, **given)
    thread = threading.Thread(target=worker.work, kwargs={"grace_s": 0.0})
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(WAIT_S)
        assert not thread.is_alive()


@contextmanager
def _worker_process(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, odd.__file__, str(folder / "recon.yaml")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(Path(odd.__file__).parent)])}
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, preexec_fn=end_with_parent)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()


def _until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def _began(service: Service, count: int = 1) -> list[int]:
    """Process ids of what runs, once so many do."""
    folder = service.place.path.parent / "pids"
    _until(lambda: folder.is_dir() and len(list(folder.iterdir())) >= count, "it began")
    return [int(file.name) for file in folder.iterdir()]


def _ended(service: Service, one: Submission) -> Submission:
    """A request when it has ended; pauses between tries are skipped."""

    def over() -> bool:
        with service.database.write() as connection:
            connection.execute(REQUESTS.update().values(not_before=None))
        return s.now(service, one).ended

    _until(over, "it ended")
    return s.now(service, one)


def _alive(pids: list[int]) -> list[int]:
    def lives(pid: int) -> bool:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        return False

    return [pid for pid in pids if lives(pid)]


def _results(service: Service) -> list[str]:
    return [path.split("/")[1] for path in service.results.store.list("results")]


def _left(service: Service) -> list[Path]:
    """What requests left in their folders; the worker's own lock aside."""
    return [path for path in (service.place.path.parent / "scratch").glob(f"{scratch.PREFIX}*/*") if path.name != "lock"]


def _states(service: Service, one: Submission) -> list[str]:
    return [event.state for event in service.requests.events(one)]


@pytest.mark.parametrize(("what", "processes"), [("deaf", 2), ("other error", 1)])
def test_after_cancelled_nothing_is_left_of_a_process_that_is_deaf(service: Service, what: str, processes: int) -> None:
    one = _submit(service, what)
    with _working(service):
        pids = _began(service, processes)
        cancelled = service.requests.cancel(Holder("", frozenset({"admin"})), one.name)
        assert cancelled is not None
        assert cancelled.state == "running", "it is said to be cancelled when it has ended"
        found = _ended(service, one)
        assert (found.state, _alive(pids), _left(service), _results(service)) == ("cancelled", [], [], [])


@pytest.mark.parametrize(("what", "code"), [("sleep", "time-limit"), ("memory", "memory-limit")])
def test_a_request_beyond_its_limits_fails_and_nothing_is_left(service: Service, what: str, code: str) -> None:
    one = _submit(service, what)
    with _working(service) as worker:
        if what == "sleep":
            pids = _began(service)
            worker._running[0].until = 0.0
        found = _ended(service, one)
        assert (found.state, found.problem["code"], found.tries) == ("failed", code, 1)
        assert (_alive(pids if what == "sleep" else []), _left(service), _results(service)) == ([], [], [])


@pytest.mark.parametrize(
    ("what", "code", "reason"), [("die", "died", "its process ended with status -9"), ("busy", "may-pass", "the warehouse is away")]
)
def test_three_tries_then_it_is_dead_and_can_be_opened_again(service: Service, what: str, code: str, reason: str) -> None:
    one, other = _submit(service, what), _submit(service, "wait")
    (service.place.path.parent / "go").touch()
    with _working(service):
        dead = _ended(service, one)
        assert (dead.state, dead.problem["code"], dead.tries) == ("dead", code, 3)
        assert dead.reason.endswith(reason)
        assert _states(service, one) == ["received", "queued", *["running", "queued"] * 2, "running", "dead"]
        assert _ended(service, other).state == "done", "it holds up no other"
        (service.place.path.parent / odd.CALM).touch()
        service.requests.redrive(one.name, "it is mended")
        done = _ended(service, one)
        assert (done.state, done.tries, done.reason) == ("done", 1, "")
        _until(lambda: not _left(service), "nothing is left")


def test_requests_outlive_the_process_that_they_are_forked_from(service: Service) -> None:
    one = _submit(service, "sleep")
    with _working(service):
        pids = _began(service)
        (service.place.path.parent / odd.CALM).touch()
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]
        found = _ended(service, one)
        assert (found.state, found.tries, _alive(pids)) == ("done", 2, [])
        _until(lambda: not _left(service), "nothing is left")


def test_a_killed_worker_leaves_nothing_and_the_next_one_takes_its_requests_at_once(service: Service) -> None:
    one = _submit(service, "sleep")
    folder = service.place.path.parent
    with _worker_process(folder) as process:
        pids = _began(service)
        process.kill()
        process.wait()
        _until(lambda: not _alive(pids), "its processes end by themselves")
    (folder / odd.CALM).touch()
    with _working(service):
        found = _ended(service, one)
        assert (found.state, found.tries, _results(service)) == ("done", 2, [found.place] * 2)
        assert len(list((folder / "scratch").iterdir())) == 1, "the folder of the one that was killed is gone"


@pytest.mark.parametrize("what", ["wait", "wait and fail"])
def test_a_worker_that_was_suspended_beyond_its_lease_changes_nothing(service: Service, what: str) -> None:
    one = _submit(service, what)
    folder = service.place.path.parent
    with _worker_process(folder) as process:
        pids = _began(service)
        process.send_signal(signal.SIGSTOP)  # its request's process goes on
        with service.database.write() as connection:
            now = service.database.clock(connection)
            connection.execute(REQUESTS.update().values(lease_until=now - timedelta(seconds=1)))
        (folder / odd.CALM).touch()
        with _working(service):
            found = _ended(service, one)
        (folder / "go").touch()  # it would put its results now, or end the request as failed
        _until(lambda: not _alive(pids), "the other process ended")
        process.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        process.terminate()
        process.wait(WAIT_S)
    after = s.now(service, one)
    assert (found.state, found.tries) == ("done", 2)
    assert after == found
    assert _results(service) == [found.place] * 2, "of the winner only"
    link = service.results.open(service.results.link(found, "out.csv"))
    assert link is not None
    assert str(pids[0]) not in b"".join(link[2]).decode()
    assert _states(service, one).count("done") == 1


def test_what_runs_at_a_shutdown_is_handed_back_and_costs_no_try(service: Service) -> None:
    """The signal may reach the worker alone, or all its processes at once."""
    one = _submit(service, "sleep")
    with _worker_process(service.place.path.parent) as process:
        [pid] = _began(service)
        process.terminate()
        os.kill(pid, signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    found = s.now(service, one)
    assert (found.state, found.tries, found.worker, _alive([pid]), _left(service)) == ("queued", 0, "", [], [])


def test_a_full_disk_of_results_may_pass(service: Service) -> None:
    """Nothing is left of what was cut off; once there is room, the request is done."""
    folder = service.place.path.parent
    (folder / "small").mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder / "small"]).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        full = _service(folder, results=str(folder / "small" / "results"))
        (folder / "in" / "t.csv").write_text("a,b\n" + "".join(f"{'k' * 40}{n},1.00\n" for n in range(4000)))
        who = s.holder(full)
        one, _ = full.submit(who, s.sums(f"{folder}/in/t.csv"))
        with _working(full):
            dead = _ended(full, one)
            assert (dead.state, dead.problem["code"]) == ("dead", "may-pass")
            assert dead.reason.startswith("sums.csv: no space left")
            assert _results(full) == []
            subprocess.run(["mount", "-o", "remount,size=16m", folder / "small"], check=True)
            full.requests.redrive(one.name, "there is room")
            assert _ended(full, one).state == "done"
    finally:
        subprocess.run(["umount", "-l", folder / "small"], check=True)


def test_a_full_disk_of_processes_may_pass(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that can start no process gives the request back and lives on."""
    one = _submit(service, "wait")
    (service.place.path.parent / "go").touch()
    mkdir, failures = Path.mkdir, list(range(2))

    def full(self: Path, *given: Any, **named: Any) -> None:
        if self.name.startswith(one.name) and failures:
            failures.pop()
            raise OSError(28, "No space left on device")
        mkdir(self, *given, **named)

    monkeypatch.setattr(Path, "mkdir", full)
    with _working(service):
        found = _ended(service, one)
    assert (found.state, found.tries, failures) == ("done", 1, [])
    assert sum("no process could be started" in event.what for event in service.requests.events(one)) == 2


def test_files_that_no_request_needs_are_removed_though_requests_run(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of a death between two steps, temporary files, and requests that expired: while others run all the time."""
    store = service.results.store
    store.put_new("results/stray/out.csv", [b"x"])
    temporary = store.local("tmp-file").parent / "tmp" / "1-cut-off"  # type: ignore[union-attr]
    temporary.write_bytes(b"x")
    old = _submit(service, "wait")
    service.requests.cancel(Holder("", frozenset({"admin"})), old.name)
    with service.database.write() as connection:
        expired = {"expires_at": service.database.clock(connection), "place": "of-the-old"}
        connection.execute(REQUESTS.update().where(REQUESTS.c.name == old.name).values(expired))
    store.put_new("results/of-the-old/out.csv", [b"x"])
    monkeypatch.setattr(site, "ORPHAN", timedelta(0))
    running = _submit(service, "sleep")
    with _working(service):
        _began(service)
        _until(
            lambda: not temporary.exists() and not (service.place.path.parent / ".recon/results/orders/results/stray").exists(),
            "they are gone",
        )
        with service.database.read() as connection:
            assert list(connection.scalars(sa.select(REQUESTS.c.name))) == [running.name]
        assert list(store.list("results/of-the-old")) == []
        service.requests.cancel(Holder("", frozenset({"admin"})), running.name)
        assert _ended(service, running).state == "cancelled"


def test_a_database_that_is_away_when_a_process_ends_does_not_turn_a_limit_into_a_try(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = _submit(service, "sleep")
    judge, away = service.claims.failed, list(range(3))

    def failed(*given: Any, **named: Any) -> Submission:
        if away:
            away.pop()
            raise TryAgain("the database is away")
        return judge(*given, **named)

    monkeypatch.setattr(service.claims, "failed", failed)
    with _working(service) as worker:
        _began(service)
        worker._running[0].until = 0.0
        found = _ended(service, one)
    assert (found.state, found.problem["code"], found.tries, away) == ("failed", "time-limit", 1, [])
