"""The coordinator of index workers: starts them, watches their heartbeats in the store, replaces dead ones, counts each share once.

Protocol: docs/decisions/013-index-workers.md. Its state can be recovered from the store: it may be killed at any point.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from recon.errors import ConnectionLost, Damaged, OutOfCapacity, ReconError, Throttled, TimedOut, TryAgain, WrongUsage
from recon.serving.dynamodb import TableGone
from recon.serving.shares import RunsGone
from recon.serving.workers import plans
from recon.serving.workers.attempts import AttemptEntry, AttemptId, ShareProgress, progress_of_shares, read_done, read_entry, revoke
from recon.serving.workers.launchers import Handle, Launcher
from recon.serving.workers.plans import Plan, ShareBody, rows_of
from recon.serving.workers.worker import Event
from recon.storage import layout
from recon.storage.port import NotFound, ObjectStore
from recon.telemetry import logs

UNCLAIMED = 5
"""An unclaimed attempt is revoked after this many times the silence: AWS may take a while to begin an invocation."""
BACKOFF_S_MAX = 60.0
THROTTLED_MAX = 12
"""Give up starting workers after this many throttled invocations in a row."""
_NAMED_MAX = 3


class WorkersFailed(ReconError):
    """Shares that always fail, with an error that is not transient."""


@dataclass(frozen=True)
class Timing:
    """How workers are watched, in seconds. ``attempts``: a share fails after so many attempts in a row without progress."""

    limit_s: float = 600.0
    silence_s: float = 60.0
    beat_s: float = 15.0
    look_s: float = 1.0
    backoff_s: float = 2.0
    attempts: int = 5


@dataclass
class WorkSummary:
    """What one coordinator did. ``taken_over``: shares that were done when it began. ``restarts``: attempts that failed, died or fell
    silent and were followed by another; ``handed_back``: attempts that ran out of time without a failure. ``throttled``: starts of workers
    that AWS refused. ``counts``: sums over the shares."""

    shares: int
    taken_over: int = 0
    restarts: int = 0
    handed_back: int = 0
    throttled: int = 0
    rows: int = 0
    counts: Mapping[str, float] = field(default_factory=dict)


Progress = Callable[[float], None]
"""Called with the share of the rows that is done, 0 to 1."""


@dataclass
class _Watched:
    """An attempt in flight. ``handle``: None if another coordinator started it. ``newest``: number of its newest entry, -1 before the
    claim; ``changed``: when this coordinator first saw that entry. ``rows``: rows of the share that were done before."""

    handle: Handle | None
    rows: int
    since: float
    changed: float
    newest: int = -1
    last: AttemptEntry | None = None


@dataclass
class _Share:
    """The coordinator's view of a share. ``failures``: attempts in a row without progress; ``reason``, ``kind``: of the last failure."""

    body: ShareBody
    done: bool = False
    given_up: bool = False
    rows: int = 0
    failures: int = 0
    not_before: float = 0.0
    reason: str = ""
    kind: str = ""
    watched: dict[str, _Watched] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Crew:
    """What starts workers, how many work at once, and how they are watched. ``now``, ``sleep``: the clock."""

    launcher: Launcher
    workers: int
    timing: Timing
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Coordinator:
    """Completes one plan. ``look`` does what is due now; ``run`` looks until nothing is left to do."""

    def __init__(self, store: ObjectStore, location: str, table: str, plan: Plan, crew: Crew) -> None:
        self._store, self._location, self._table, self._plan = store, location, table, plan
        self._launcher, self._workers, self._timing = crew.launcher, crew.workers, crew.timing
        self._clock, self._sleep = crew.now, crew.sleep
        self._shares = {name: _Share(body) for name, body in plan.shares.items()}
        self._looked = False
        self._done = WorkSummary(len(self._shares))
        self._throttled_in_row = 0
        self._start_after = self._clock()
        self._starved: TryAgain | None = None

    def run(self, progress: Progress = lambda part: None) -> WorkSummary:
        """Runs until all shares are done or given up. Raises one error that names the shares that were given up; the others are done."""
        try:
            while not self.look():
                progress(self._rows() / max(self._plan.rows, 1))
                self._sleep(self._timing.look_s)
        finally:
            self.stop()
        self._raise_failures()
        finished = plans.finish(self._store, self._plan, [read_done(self._store, self._plan.folder, name) for name in self._shares])
        progress(1.0)
        self._done.rows, self._done.counts = self._rows(), finished["counts"]
        return self._done

    def look(self) -> bool:
        """Reads the progress from the store, revokes silent attempts, starts workers. Returns whether nothing is left to do."""
        found = progress_of_shares(self._store, self._plan.folder)
        for name, share in self._shares.items():
            if not share.done:
                self._take_in(name, share, found.get(name, ShareProgress()))
        self._looked = True
        for name, share in self._shares.items():
            for attempt in list(share.watched):
                self._look_after(name, share, attempt)
        self._start_due()
        over = all(share.done or share.given_up for share in self._shares.values())
        return over or (self._starved is not None and not self._in_flight())

    def stop(self) -> None:
        """Stops the workers that this coordinator has started, if their launcher can."""
        for share in self._shares.values():
            self._forget(share)

    def _take_in(self, name: str, share: _Share, progress_of_shares: ShareProgress) -> None:
        if progress_of_shares.done:
            share.done, share.rows = True, rows_of(share.body)
            self._done.taken_over += not self._looked
            self._forget(share)
            return
        for attempt, number in progress_of_shares.newest.items():
            watched = share.watched.get(attempt)
            if attempt in share.ended or (watched is not None and watched.newest == number):
                continue
            try:
                entry = read_entry(self._store, AttemptId(self._plan.folder, name, attempt), number)
            except NotFound:
                continue  # a finished worker removes its heartbeats; the next look sees that it is done
            self._take_in_entry(share, attempt, number, entry)

    def _take_in_entry(self, share: _Share, attempt: str, number: int, entry: AttemptEntry) -> None:
        now = self._clock()
        adopted = attempt not in share.watched
        watched = share.watched.setdefault(attempt, _Watched(None, entry.rows, now, now))
        watched.newest, watched.changed, watched.last = number, now, entry
        share.rows = max(share.rows, entry.rows)
        if entry.ended and adopted and not self._looked:
            self._forget(share, attempt)  # it ended before this coordinator began, and does not count as a failure
        elif entry.ended:
            self._ended(share, attempt, entry)

    def _look_after(self, name: str, share: _Share, attempt: str) -> None:
        """Revokes an attempt that has died, is silent, or runs for too long."""
        watched, now = share.watched[attempt], self._clock()
        silence_s = self._timing.silence_s * (1 if watched.newest >= 0 else UNCLAIMED)
        end = None if watched.handle is None else self._launcher.poll(watched.handle)
        if end is not None:
            if self._store.exists(layout.share_done(self._plan.folder, name)):
                return  # it finished after this look began; the next look sees it
            reason = end
        elif now - watched.changed > silence_s:
            reason = f"no sign of life for {silence_s:g} s" if watched.newest >= 0 else f"it was not begun within {silence_s:g} s"
        elif now - watched.since > self._timing.limit_s + UNCLAIMED * self._timing.silence_s:
            reason = f"it went on beyond the time limit of {self._timing.limit_s:g} s"
        else:
            return
        self._revoke(name, share, attempt, reason)

    def _revoke(self, name: str, share: _Share, attempt: str, reason: str) -> None:
        watched = share.watched[attempt]
        of = AttemptId(self._plan.folder, name, attempt)
        if not revoke(self._store, of, watched.newest + 1, watched.last, reason):
            return  # the worker has just put an entry
        rows = 0 if watched.last is None else watched.last.rows
        self._ended(share, attempt, AttemptEntry("given_away", "", rows, {}, reason, TryAgain.__name__))

    def _ended(self, share: _Share, attempt: str, entry: AttemptEntry) -> None:
        """An attempt has ended without finishing its share."""
        progressed = entry.rows > share.watched[attempt].rows
        self._forget(share, attempt)
        share.reason, share.kind = entry.reason, entry.kind
        if progressed and entry.state == "handed_back":
            share.failures = 0
            self._done.handed_back += 1
            return
        share.failures = 1 if progressed else share.failures + 1
        share.not_before = self._clock() + self._backoff(share.failures)
        share.given_up = share.kind in _FINAL or share.failures >= self._timing.attempts
        self._done.restarts += not share.given_up

    def _forget(self, share: _Share, attempt: str | None = None) -> None:
        for name in [attempt] if attempt is not None else list(share.watched):
            watched = share.watched.pop(name)
            share.ended.add(name)
            if watched.handle is not None:
                self._launcher.stop(watched.handle)

    def _start_due(self) -> None:
        """Starts workers for shares without an attempt in flight, up to the number of workers."""
        room, now = self._workers - self._in_flight(), self._clock()
        for name, share in self._shares.items():
            if room <= 0 or self._starved is not None or now < self._start_after:
                return
            if not (share.done or share.given_up or share.watched or now < share.not_before):
                room -= self._start(name, share)

    def _start(self, name: str, share: _Share) -> bool:
        attempt, now = layout.new_attempt(), self._clock()
        event = Event(
            self._location, self._table, self._plan.after, name, attempt, self._timing.beat_s, self._timing.limit_s, logs.carried()
        )
        watched = share.watched[attempt] = _Watched(None, share.rows, now, now)
        try:
            watched.handle = self._launcher.start(event)
        except (Throttled, OutOfCapacity) as error:
            del share.watched[attempt]
            self._done.throttled += 1
            self._throttled_in_row += 1
            self._start_after = now + self._backoff(self._throttled_in_row)
            self._starved = error if self._throttled_in_row >= THROTTLED_MAX else None
            return False
        except TryAgain as error:
            # The worker may have been started nevertheless: unless it has claimed the share, it cannot any more.
            self._revoke(name, share, attempt, str(error))
            return True
        self._throttled_in_row = 0
        return True

    def _backoff(self, times: int) -> float:
        return min(self._timing.backoff_s * 2.0 ** (times - 1), BACKOFF_S_MAX)

    def _in_flight(self) -> int:
        return sum(len(share.watched) for share in self._shares.values())

    def _rows(self) -> int:
        return sum(share.rows for share in self._shares.values())

    def _raise_failures(self) -> None:
        failed = {name: share for name, share in self._shares.items() if share.given_up and not share.done}
        if not failed:
            if self._starved is not None:
                raise self._starved
            return
        reasons = "; ".join(self._described(name, share) for name, share in list(failed.items())[:_NAMED_MAX])
        more = f"; and {len(failed) - _NAMED_MAX} more" if len(failed) > _NAMED_MAX else ""
        kinds = [_KINDS.get(share.kind, WorkersFailed) for share in failed.values()]
        kind = next((kind for kind in kinds if not issubclass(kind, TryAgain)), kinds[0])
        raise kind(
            f"table {self._table}: {len(failed)} of {len(self._shares)} shares are not done, the others are: {reasons}{more}; "
            "fix that and run again; finished shares are kept"
        )

    def _described(self, name: str, share: _Share) -> str:
        rows = f"rows {share.body['first']} to {share.body['end']} of {share.body.get('run', 'its run')}"
        return f"share {name} ({rows}): {share.reason.rstrip('.')} ({_attempts(share.failures)})"


_KINDS: Mapping[str, type[ReconError]] = {
    kind.__name__: kind for kind in (TryAgain, Throttled, OutOfCapacity, ConnectionLost, TimedOut, Damaged, WrongUsage, RunsGone, TableGone)
}
_FINAL = {RunsGone.__name__, TableGone.__name__}
"""The next attempt would fail in the same way; the table must be rebuilt."""


def _attempts(failures: int) -> str:
    return "at the first attempt" if failures == 1 else f"after {failures} attempts without progress"
