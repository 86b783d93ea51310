"""A worker: claims requests, starts a process for each, and watches it until the request has ended."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

import psutil

from recon.errors import ReconError, TryAgain
from recon.service.claims import BEAT_S
from recon.service.elsewhere import end_step
from recon.service.scratch import Scratch, dead_workers, remove
from recon.service.site import Service
from recon.service.submissions import LANES, LaneName, Lost, Problem, Submission
from recon.service.work import Job, run
from recon.telemetry import logs

TICK_S = 0.2
"""Between two looks at the database, where nothing happens."""
SWEEP_S = 60.0
MEMORY_S = 0.5
TERM_S, STEP_TERM_S = 3.0, 300.0
"""How long a process may take to end by itself before it is killed; with a step, which ends first."""
NO_PROCESS = timedelta(seconds=5)
"""Before a request is claimed again for which no process could be started."""
LAST_S = 10.0
"""How long the end of a worker waits for the database and the sweep."""
Why = Literal["cancel", "time", "memory", "shutdown", "lost"]
Say = Callable[[str], None]


@dataclass
class _Running:
    """A request with its process. ``why``: the process was told to end. ``said``: the last event that was reported."""

    one: Submission
    process: BaseProcess
    alive: Connection
    folder: Path
    until: float
    why: Why | None = None
    kill_at: float = float("inf")
    memory: int = field(default=0)
    said: str = ""


class Worker:
    """Takes requests until its time is over. ``say``: receives a line for each request that ended.

    ``lanes``, ``only``: which requests. ``at_once``: at most, beside the service's own limit. One worker to a process."""

    def __init__(
        self, service: Service, lanes: Sequence[LaneName] = LANES, only: str | None = None, at_once: int | None = None, say: Say = print
    ) -> None:
        self._service, self._lanes, self._only, self._say = service, lanes, only, say
        self._at_once = at_once or service.settings.at_once
        self.name = f"{socket.gethostname()[:80]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._running: list[_Running] = []
        self._stopping = False
        self._beat_at = self._sweep_at = self._memory_at = 0.0
        self._sweeping: threading.Thread | None = None
        self.ended = 0

    def stop(self) -> None:
        """Claims nothing more; what runs may finish within the time that ``work`` was given for it."""
        self._stopping = True

    def work(self, for_s: float | None = None, idle_s: float | None = None, grace_s: float = 20.0) -> int:
        """Works for ``for_s`` seconds, or until nothing was to be done for ``idle_s``; by default until ``stop``. What runs at the end may
        finish; after ``stop`` within ``grace_s``, then it is queued again. Returns how many requests ended."""
        until = float("inf") if for_s is None else time.monotonic() + for_s
        with Scratch(self.name) as scratch:
            self._scratch = scratch
            try:
                self._turn(until, idle_s, grace_s)
            finally:
                self._end_all()
        return self.ended

    def _turn(self, until: float, idle_s: float | None, grace_s: float) -> None:
        busy_at, stop_at = time.monotonic(), float("inf")
        while True:
            now = time.monotonic()
            if self._running:
                busy_at = now
            if self._stopping:
                stop_at = min(stop_at, now + grace_s)
            taken = self._only is not None and self.ended > 0
            over = self._stopping or taken or now >= until or (idle_s is not None and now - busy_at >= idle_s)
            if over and (not self._running or now >= stop_at):
                return
            try:
                self._tick(now, claiming=not over)
            except TryAgain as error:
                self._say(f"{error}")
                time.sleep(1.0)
            self._wait()

    def _tick(self, now: float, claiming: bool) -> None:
        self._limit(now)  # first, since it needs no database
        self._reap()
        if now >= self._beat_at:  # before looking for overdue ones, which those of this worker may be after the machine slept
            self._beat_at = now + BEAT_S
            self._beat()
            self._remove_overdue()
            self._bury()
        elif self._running:
            self._tell(self._service.claims.asked_to_end([each.one for each in self._running]), "cancel")
        if now >= self._sweep_at and (self._sweeping is None or not self._sweeping.is_alive()):
            self._sweep_at = now + SWEEP_S
            self._sweeping = threading.Thread(target=self._sweep, daemon=True)  # a slow store must not delay the signs of life
            self._sweeping.start()
        if claiming:
            self._queue_arrived()
            while len(self._running) < self._at_once and self._start_next():
                pass

    def _beat(self) -> None:
        """Extends the leases, and the lives of the processes, which end themselves without."""
        if not self._running:
            return
        ending, lost = self._service.claims.beat([each.one for each in self._running])
        self._tell(ending, "cancel")
        self._tell(lost, "lost")
        for each in self._running:
            if each.why is None:
                with suppress(OSError):  # it has ended
                    each.alive.send_bytes(b"1")
        self._say_how_far()

    def _say_of(self, one: Submission, text: str) -> None:
        """Says something of a request; logs have its name and its try."""
        with logs.logged_with(request=one.name, attempt=one.tries):
            self._say(f"request {one.name}: {text}")

    def _say_how_far(self) -> None:
        """Says what the one request of a worker for one does now, where that is new."""
        for each in self._running if self._only is not None else ():
            last = self._service.requests.last_event(each.one)
            if last is not None and last.state == "running":
                text = f"{last.state}: {last.what}" + ("" if last.share is None else f" ({last.share}% of the request is done)")
                if text != each.said:
                    each.said = text
                    self._say_of(each.one, text)

    def _remove_overdue(self) -> None:
        with dead_workers() as names:
            overdue = self._service.claims.overdue(names)
        for one in overdue:
            self._say_of(one, "its worker gave no sign of life")
            if one.ended or not self._service.settings.lane(one.lane).engine.elsewhere:
                self._remove_what(one, one.place)

    def _sweep(self) -> None:
        try:
            self._service.sweep()
        except ReconError as error:
            self._say(f"sweep: {error}")

    def _queue_arrived(self) -> None:
        queue = self._service.queue
        while found := queue.receive():
            self._service.claims.arrived([each.body for each in found])
            queue.delete(found)

    def _bury(self) -> None:
        dead = self._service.queue.dead
        while found := dead.receive(10):
            self._service.claims.message_died([each.body for each in found])
            dead.delete(found)

    def _start_next(self) -> bool:
        one = self._service.claims.claim(self.name, self._lanes, self._only)
        if one is None:
            return False
        folder = self._scratch / f"{one.name}-{one.worker[-8:]}"
        ours, theirs = multiprocessing.Pipe(duplex=False)
        begun = f"running: try {one.tries}"  # the event that the claim has noted
        if self._only is not None:
            self._say_of(one, begun)
        try:
            folder.mkdir()
            # The reader is the process's; the writer closes when this worker ends, however it ends.
            job = Job(self._service.place.path, one, folder, self._service.open_readers, dict(os.environ))
            process = _context().Process(target=run, args=(job, ours), name=f"recon request {one.name}")
            process.start()
        except (OSError, EOFError) as error:  # a full disk, no more processes, or the process to fork from was killed
            theirs.close()
            shutil.rmtree(folder, ignore_errors=True)
            self._service.claims.give_back(one, f"no process could be started for it: {error}", NO_PROCESS)
            self._say_of(one, f"no process could be started for it: {error}")
            return False
        finally:
            ours.close()
        until = time.monotonic() + self._service.settings.lane(one.lane).time.total_seconds()
        self._running.append(_Running(one, process, theirs, folder, until, said=begun))
        return True

    def _tell(self, some: Sequence[Submission], why: Why) -> None:
        """Tells processes to end."""
        numbers = {one.id for one in some}
        for each in self._running:
            if each.one.id in numbers and each.why is None:
                self._told(each, why)

    def _told(self, each: _Running, why: Why) -> None:
        elsewhere = self._service.settings.lane(each.one.lane).engine.elsewhere
        each.why, each.kill_at = why, time.monotonic() + (STEP_TERM_S if elsewhere and why != "shutdown" else TERM_S)
        each.process.terminate()

    def _limit(self, now: float) -> None:
        measure = now >= self._memory_at
        if measure:
            self._memory_at = now + MEMORY_S
        for each in self._running:
            if now >= each.kill_at:
                _kill(each.process)
            elif each.why is None and now >= each.until:
                self._told(each, "time")
            elif measure and each.why is None:
                each.memory = _resident(each.process.pid)
                if each.memory > self._service.settings.lane(each.one.lane).memory:
                    each.why = "memory"
                    _kill(each.process)  # at once: it may take all that the machine has while it ends by itself

    def _reap(self) -> None:
        """Ends the requests whose processes have ended. One whose end the database did not take stays for the next look."""
        for each in [each for each in self._running if not each.process.is_alive()]:
            self._reaped(each)
            self._running.remove(each)

    def _reaped(self, each: _Running) -> None:
        """A process has ended: so must all that it started, and its folder; then its request, unless it ended that itself."""
        _kill(each.process)
        each.process.join()
        each.alive.close()
        remove(each.folder)
        with suppress(Lost):
            self._judge(each)
        self.ended += 1
        found = self._service.claims.state_of(each.one)
        self._say_of(each.one, str(found))

    def _judge(self, each: _Running) -> None:
        """Ends the request of a process that did not. Raises Lost where it did."""
        claims, one, lane = self._service.claims, each.one, self._service.settings.lane(each.one.lane)
        if not claims.is_mine(one):
            raise Lost(f"request {one.name} has ended")
        ends = each.why in ("cancel", "time", "memory") or bool(claims.asked_to_end([one]))
        if ends or not lane.engine.elsewhere:
            self._remove_what(one, claims.place_of(one))
        match each.why:
            case "cancel":
                claims.cancelled(one)
            case "time":
                claims.failed(one, Problem("time-limit"), f"it took longer than {lane.time}, the limit of the lane {one.lane}")
            case "memory":
                reason = f"it needed {each.memory / 1e9:.1f} GB; the lane {one.lane} has {lane.memory / 1e9:.1f} GB"
                claims.failed(one, Problem("memory-limit"), reason)
            case _ if ends:
                claims.cancelled(one)
            case _ if self._stopping or each.why == "shutdown":  # the signal may have gone to the processes too
                claims.give_back(one, "its worker was shut down")
            case _:
                died = claims.passed(one, Problem("died"), f"its process ended with status {each.process.exitcode}")
                if died.ended:
                    self._remove_what(died, died.place)

    def _remove_what(self, one: Submission, place: str | None) -> None:
        """Removes what is left of a request that ends: its results, and its step, for whose end the loop need not wait."""
        with suppress(ReconError):  # Service.sweep removes them later
            if place is not None:
                self._service.results.remove(place)
        if self._service.settings.lane(one.lane).engine.elsewhere:
            threading.Thread(target=end_step, args=(self._service, one), daemon=True).start()

    def _wait(self) -> None:
        if self._running:
            wait([each.process.sentinel for each in self._running], TICK_S)
        else:
            time.sleep(TICK_S)

    def _end_all(self) -> None:
        """Ends what still runs, and queues it again."""
        for each in self._running:
            if each.why is None:
                self._told(each, "shutdown")
        limit = time.monotonic() + TERM_S
        while self._running and time.monotonic() < limit + LAST_S:
            if time.monotonic() > limit:
                for each in self._running:
                    _kill(each.process)
            wait([each.process.sentinel for each in self._running], TICK_S)
            try:
                self._reap()
            except ReconError as error:  # the database is away: other workers find what ran here by its lease
                self._say(f"{error}")
                time.sleep(1.0)
        if self._sweeping is not None:
            self._sweeping.join(LAST_S)


def _context() -> Any:
    """Forks from a process that has the modules loaded, where the system can."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recon.service.preloaded"])
    return context


def _kill(process: BaseProcess) -> None:
    """Kills a process and all of its group."""
    if process.pid is None:
        return
    with suppress(ProcessLookupError, PermissionError):
        if os.getpgid(process.pid) == process.pid or not process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
    if process.is_alive():
        process.kill()


def _resident(pid: int | None) -> int:
    """Bytes that a process and its descendants have in memory."""
    if pid is None:
        return 0
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.Error):
                total += each.memory_info().rss
    return total


def stop_on_signals(worker: Worker) -> None:
    """SIGTERM and Ctrl-C stop a worker; a second one ends the process at once, and its requests with it."""

    text = "finishing what runs, or handing it back"
    line = logs.line_of("recon.worker", text) if logs.on() else f"recon: {text}"

    def stop(number: int, _frame: object) -> None:
        worker.stop()
        signal.signal(number, signal.SIG_DFL)
        os.write(sys.stderr.fileno(), f"{line}\n".encode())  # print may be at work already

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
