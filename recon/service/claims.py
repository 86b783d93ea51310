"""What workers do with requests: queue those that arrived, claim the next, give signs of life, end them.

Every change of a claimed request names its claim (the worker with a number of its own) and try, and has no effect where they are no
longer the request's.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from recon.config.service import Rights, ServiceSettings
from recon.database import Database
from recon.database.tables import REQUEST_TURNS, REQUESTS
from recon.service import fairness
from recon.service.requests import note, read, storable, waiting_in
from recon.service.submissions import LANES, LaneName, Lost, Problem, State, Submission, submission

LEASE = timedelta(seconds=30)
FAR = timedelta(minutes=10)
"""No lease and no pause ends so far ahead, unless the clock was put back."""
BEAT_S = 5.0
TRIES = 3
PAUSES = (timedelta(seconds=5), timedelta(seconds=25))
"""Before the second and the third try."""
LATE = timedelta(minutes=1)
"""After which a request whose message did not come is sent again."""
_T = REQUESTS.c


class Claims:
    """The requests as workers change them."""

    def __init__(self, database: Database, settings: ServiceSettings) -> None:
        self._database, self._settings = database, settings

    def arrived(self, names: Sequence[str]) -> None:
        """Queues requests whose message came; one that is further already stays as it is."""
        with self._database.write() as connection:
            now = self._database.clock(connection)
            ids = list(connection.scalars(sa.select(_T.id).where(_T.name.in_(names), _T.state == "received").with_for_update()))
            connection.execute(REQUESTS.update().where(_T.id.in_(ids)).values(state="queued", queued_at=now))
            for number in ids:
                note(connection, number, now, "queued")

    def unsent(self) -> list[str]:
        """Names of requests whose message has not come for ``LATE``, to be sent again now; each once in this time, whoever asks."""
        with self._database.write() as connection:
            now = self._database.clock(connection)
            sent = sa.func.coalesce(_T.sent_at, _T.received_at)
            late = sa.or_(sent < now - LATE, sent > now + LATE)  # a clock that was put back must not hold it up
            chosen = sa.select(_T.id, _T.name).where(_T.state == "received", late).limit(1000)
            rows = connection.execute(chosen.with_for_update(skip_locked=True)).all()
            if rows:
                connection.execute(REQUESTS.update().where(_T.id.in_([row.id for row in rows])).values(sent_at=now))
        return [row.name for row in rows]

    def message_died(self, names: Sequence[str]) -> None:
        """Makes requests dead whose message was received too often, and that no worker could queue; one that is further stays as it is."""
        reason = "its message was received three times, and no worker could queue it; the workers' logs say why"
        with self._database.write() as connection:
            now = self._database.clock(connection)
            ids = list(connection.scalars(sa.select(_T.id).where(_T.name.in_(names), _T.state == "received").with_for_update()))
            ended = {"state": "dead", "reason": reason, "problem": Problem("may-pass").written(), "ended_at": now}
            connection.execute(REQUESTS.update().where(_T.id.in_(ids)).values(**ended, expires_at=now + self._settings.keep))
            for number in ids:
                note(connection, number, now, "dead", reason)

    def claim(self, worker: str, lanes: Sequence[LaneName] = LANES, only: str | None = None) -> Submission | None:
        """The next request, which is this worker's from now on; None where none may run. ``only``: its name."""
        if not self._any_queued(lanes):  # many workers that look for work must not take turns at the write lock
            return None
        with self._database.write() as connection:
            if not self._database.is_sqlite:  # SQLite's write lock does the same
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext("recon requests"))))
            now = self._database.clock(connection)
            free, first = self._free(connection)
            for lane in (lane for lane in first if lane in lanes and free[lane] > 0):
                while (chosen := self._next(connection, lane, now, only)) is not None:
                    if (begun := self._begun(connection, lane, chosen, worker, now)) is not None:
                        return begun
        return None

    def _any_queued(self, lanes: Sequence[LaneName]) -> bool:
        with self._database.read() as connection:
            return connection.scalar(sa.select(_T.id).where(_T.state == "queued", _T.lane.in_(lanes)).limit(1)) is not None

    def _free(self, connection: sa.Connection) -> tuple[dict[LaneName, int], Sequence[LaneName]]:
        """Places of each lane, and the order of the lanes: while no large request runs, one goes first, so that small ones, which may take
        every place, do not hold large ones up for ever."""
        rows = connection.execute(sa.select(_T.lane, sa.func.count()).where(_T.state == "running").group_by(_T.lane)).all()
        running = {str(lane): int(count) for lane, count in rows}
        free = self._settings.at_once - sum(running.values())
        most = self._settings.at_once - self._settings.kept_for_small - running.get("large", 0)
        return {"small": free, "large": min(free, most)}, (LANES if running.get("large") else LANES[::-1])

    def _next(self, connection: sa.Connection, lane: LaneName, now: datetime, only: str | None) -> fairness.Waiting | None:
        ready = [sa.or_(_T.not_before.is_(None), _T.not_before <= now, _T.not_before > now + FAR)]
        busy = connection.execute(sa.select(_T.owner, sa.func.count()).where(_T.state == "running").group_by(_T.owner)).all()
        full = [owner for owner, count in busy if count >= self._rights(owner).at_once]
        if full:
            ready.append(_T.owner.not_in(full))
        if only is not None:
            ready.append(_T.name == only)
        return fairness.next_one(waiting_in(connection, lane, self._rights, ("queued",), *ready))

    def _set_turn(self, connection: sa.Connection, lane: str, owner: str, turn: int) -> None:
        mine = sa.and_(REQUEST_TURNS.c.lane == lane, REQUEST_TURNS.c.owner == owner)
        if not connection.execute(REQUEST_TURNS.update().where(mine).values(turn=turn)).rowcount:
            connection.execute(REQUEST_TURNS.insert().values(lane=lane, owner=owner, turn=turn))

    def _begun(self, connection: sa.Connection, lane: LaneName, chosen: fairness.Waiting, worker: str, now: datetime) -> Submission | None:
        """The request, running; None where it was cancelled since it was chosen, which PostgreSQL allows."""
        claim = f"{worker}-{secrets.token_hex(4)}"  # two claims of a request differ, also of one worker in one try
        values = {"state": "running", "worker": claim, "started_at": now, "lease_until": now + LEASE, "tries": _T.tries + 1}
        queued = REQUESTS.update().where(_T.id == chosen.oldest, _T.state == "queued")
        if not connection.execute(queued.values(**values, not_before=None)).rowcount:
            return None
        self._set_turn(connection, lane, chosen.owner, chosen.turn + fairness.step(chosen.weight))
        self._set_turn(connection, lane, "", chosen.turn)
        begun = read(connection, chosen.oldest)
        note(connection, begun.id, now, "running", f"try {begun.tries}")
        return begun

    def _rights(self, owner: str) -> Rights:
        return self._settings.owners.get(owner, Rights())

    def beat(self, mine: Sequence[Submission]) -> tuple[list[Submission], list[Submission]]:
        """Extends the leases of requests. Returns those whose end was asked for, and those that are no longer this worker's."""
        ending, lost = [], []
        with self._database.write() as connection:
            until = self._database.clock(connection) + LEASE
            for one in mine:
                if not self._change(connection, one, lease_until=until):
                    lost.append(one)
                elif connection.scalar(sa.select(_T.cancel_at).where(_T.id == one.id)) is not None:
                    ending.append(one)
        return ending, lost

    def asked_to_end(self, mine: Sequence[Submission]) -> list[Submission]:
        """Those whose end was asked for."""
        with self._database.read() as connection:
            ids = set(connection.scalars(sa.select(_T.id).where(_T.id.in_([one.id for one in mine]), _T.cancel_at.is_not(None))))
        return [one for one in mine if one.id in ids]

    def is_mine(self, one: Submission) -> bool:
        """Whether it still runs in this worker, in this try."""
        with self._database.read() as connection:
            return connection.scalar(sa.select(_T.id).where(*_mine(one))) is not None

    def state_of(self, one: Submission) -> str:
        """Its state now, and why."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(_T.state, _T.reason).where(_T.id == one.id)).one_or_none()
        return "removed" if row is None else f"{row.state}: {row.reason}" if row.reason else str(row.state)

    def put_in(self, one: Submission, **values: Any) -> None:
        """Notes the place of its results, or the step that carries it out. Raises Lost."""
        with self._database.write() as connection:
            if not self._change(connection, one, **values):
                raise _lost(one)

    def place_of(self, one: Submission) -> str | None:
        """Where its results are put, of this try or an earlier one; None where it is no longer this worker's, whose results stay."""
        with self._database.read() as connection:
            return connection.scalar(sa.select(_T.place).where(*_mine(one)))

    def step_of(self, one: Submission) -> str | None:
        """The step that carries it out, or did, as it was noted."""
        with self._database.read() as connection:
            return connection.scalar(sa.select(_T.step).where(_T.id == one.id))

    def age(self, one: Submission) -> timedelta:
        """For how long it has run in this try."""
        with self._database.read() as connection:
            return self._database.clock(connection) - (one.started_at or one.received_at)

    def progress(self, one: Submission, what: str, share: int) -> None:
        """Notes how far it is. Raises Lost."""
        with self._database.write() as connection:
            now = self._database.clock(connection)
            if not self._change(connection, one, lease_until=now + LEASE):
                raise _lost(one)
            note(connection, one.id, now, "running", what, share)

    def done(self, one: Submission, results: Sequence[Mapping[str, Any]], figures: Mapping[str, Any]) -> Submission:
        """Ends it well, unless its end was asked for. Raises Lost."""
        with self._database.write() as connection:
            now = self._database.clock(connection)
            values = {"results": json.dumps(list(results)), "figures": json.dumps(figures), "expires_at": now + self._settings.keep}
            values |= {"state": "done", "ended_at": now, "lease_until": None, "reason": "", "problem": "{}"}
            if not self._change(connection, one, _T.cancel_at.is_(None), **values):
                raise _lost(one)
            note(connection, one.id, now, "done", share=100)
            return read(connection, one.id)

    def failed(self, one: Submission, problem: Problem, reason: str, figures: Mapping[str, Any] | None = None) -> Submission:
        """Ends it for good. Raises Lost."""
        return self._end(one, "failed", problem, reason, figures)

    def cancelled(self, one: Submission, figures: Mapping[str, Any] | None = None) -> Submission:
        """Ends it as was asked for: its processes are gone. Raises Lost."""
        return self._end(one, "cancelled", None, "", figures)

    def passed(self, one: Submission, problem: Problem, reason: str) -> Submission:
        """After an error that may pass, or the death of its process: queued for another try, or dead after three. Raises Lost."""
        with self._database.write() as connection:
            return self._tried(connection, one, self._database.clock(connection), problem, reason)

    def give_back(self, one: Submission, why: str, pause: timedelta = timedelta(0)) -> Submission:
        """Queues it again; this costs no try. Raises Lost."""
        with self._database.write() as connection:
            now = self._database.clock(connection)
            return self._queued_again(connection, one, now, pause, why, tries=one.tries - 1)

    def overdue(self, dead: Sequence[str] = ()) -> list[Submission]:
        """Requests whose worker gave no sign of life: queued for another try, or dead. One whose end was asked for is cancelled. ``dead``:
        names of workers that are known to be."""
        with self._database.write() as connection:
            now = self._database.clock(connection)
            gone = [_T.worker.startswith(f"{name}-", autoescape=True) for name in dead]
            late = sa.or_(_T.lease_until < now, _T.lease_until > now + FAR, *gone)
            found = connection.execute(sa.select(REQUESTS).where(_T.state == "running", late).with_for_update(skip_locked=True))
            why = "its worker {} gave no sign of life"
            return [self._tried(connection, one, now, Problem("died"), why.format(one.worker)) for one in map(submission, found.all())]

    def _tried(self, connection: sa.Connection, one: Submission, now: datetime, problem: Problem, reason: str) -> Submission:
        """A try that came to nothing: the next one, or the last word."""
        if self._is_cancelled(connection, one):
            return self._ended(connection, one, now, "cancelled", None, reason)
        if one.tries >= TRIES:
            return self._ended(connection, one, now, "dead", problem, reason)
        return self._queued_again(connection, one, now, PAUSES[one.tries - 1], f"try {one.tries}: {reason}")

    def _is_cancelled(self, connection: sa.Connection, one: Submission) -> bool:
        """Whether its end was asked for. PostgreSQL holds the row, so that no other can ask for it until the transaction ends."""
        return connection.scalar(sa.select(_T.cancel_at).where(_T.id == one.id).with_for_update()) is not None

    def _queued_again(
        self, connection: sa.Connection, one: Submission, now: datetime, pause: timedelta, why: str, **values: Any
    ) -> Submission:
        """A request whose end was asked for meanwhile is cancelled instead."""
        if self._is_cancelled(connection, one):
            return self._ended(connection, one, now, "cancelled", None, "")
        again = {"state": "queued", "not_before": now + pause, "lease_until": None, "worker": ""}
        if not self._change(connection, one, **again, **values):
            raise _lost(one)
        note(connection, one.id, now, "queued", why)
        return read(connection, one.id)

    def _end(
        self, one: Submission, state: State, problem: Problem | None, reason: str, figures: Mapping[str, Any] | None = None
    ) -> Submission:
        with self._database.write() as connection:
            return self._ended(connection, one, self._database.clock(connection), state, problem, reason, figures)

    def _ended(
        self,
        connection: sa.Connection,
        one: Submission,
        now: datetime,
        state: State,
        problem: Problem | None,
        reason: str,
        figures: Mapping[str, Any] | None = None,
    ) -> Submission:
        values = {
            "reason": storable(reason),
            "problem": "{}" if problem is None else problem.written(),
            "figures": json.dumps(figures or {}),
        }
        if not self._change(connection, one, state=state, ended_at=now, expires_at=now + self._settings.keep, lease_until=None, **values):
            raise _lost(one)
        note(connection, one.id, now, state, reason)
        return read(connection, one.id)

    def _change(self, connection: sa.Connection, one: Submission, *where: sa.ColumnElement[bool], **values: Any) -> bool:
        """Changes a request that is still this worker's, in this try."""
        return connection.execute(REQUESTS.update().where(*_mine(one), *where).values(**values)).rowcount == 1


def _mine(one: Submission) -> tuple[sa.ColumnElement[bool], ...]:
    """A request as it was claimed: it still runs, in this claim and try."""
    return (_T.id == one.id, _T.state == "running", _T.worker == one.worker, _T.tries == one.tries)


def _lost(one: Submission) -> Lost:
    return Lost(f"request {one.name} was ended, or another worker has it")
