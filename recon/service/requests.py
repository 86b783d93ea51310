"""The requests in the database: submitted, found, listed, cancelled, and removed."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from recon.config.service import Rights, ServiceSettings
from recon.database import Database
from recon.database.tables import REQUEST_EVENTS, REQUEST_TURNS, REQUEST_UPLOADS, REQUESTS, UPLOADS
from recon.errors import WrongInput
from recon.service import fairness
from recon.service.admission import Admitted
from recon.service.messages import Messages
from recon.service.submissions import ENDED, Event, Holder, KeyTaken, LaneName, Problem, Refused, State, Submission, TooMany, submission

QUEUE = "requests"
KEY_FOR = timedelta(days=1)
"""How long an Idempotency-Key names the same request."""
_T = REQUESTS.c
_WAITS: tuple[State, ...] = ("received", "queued")


class Requests:
    """The requests of a service. ``messages``: the queue of their names."""

    def __init__(self, database: Database, settings: ServiceSettings, messages: Messages) -> None:
        self._database, self._settings, self._messages = database, settings, messages

    def submit(self, holder: Holder, admitted: Admitted, key: str | None = None) -> tuple[Submission, bool]:
        """Stores a request, and sends its message: in one transaction, or after it, as the queue can; whether it is new. Raises KeyTaken,
        TooMany, and Refused for an upload that is gone."""
        one, new = self._stored(holder, admitted, key)
        if new:
            self._messages.send_after([one.name])
        return one, new

    def _stored(self, holder: Holder, admitted: Admitted, key: str | None) -> tuple[Submission, bool]:
        digest = hashlib.sha256(admitted.body.encode()).hexdigest()
        with self._database.write() as connection:
            if not self._database.is_sqlite:  # an owner's submissions one after the other, as SQLite's write lock does
                lock = sa.func.pg_advisory_xact_lock(sa.func.hashtext(f"recon requests of {holder.owner}"))
                connection.execute(sa.select(lock))
            now = self._database.clock(connection)
            if key is not None and (there := self._with_key(connection, holder.owner, key, now)) is not None:
                return _same(there, digest), False
            connection.execute(REQUESTS.update().where(_T.owner == holder.owner, _T.key == key).values(key=None))  # older than a day
            self._refuse_too_many(connection, holder.owner, now)
            name = secrets.token_hex(16)
            values = {
                "name": name,
                "owner": holder.owner,
                "token": holder.token,
                "lane": admitted.lane,
                "size": admitted.size,
                "body": admitted.body,
                "digest": digest,
                "key": key,
                "key_until": None if key is None else now + KEY_FOR,
                "state": "received",
                "received_at": now,
                "sent_at": now,
            }
            number = connection.execute(REQUESTS.insert().values(values)).inserted_primary_key[0]  # type: ignore[index]
            self._keep_uploads(connection, number, holder.owner, admitted.uploads)
            note(connection, number, now, "received")
            self._messages.send_in(connection, [name])
            return read(connection, number), True

    def with_key(self, owner: str, key: str, body: str) -> Submission | None:
        """The request that a key names, which needs its inputs no more. Raises KeyTaken where it has another body."""
        with self._database.read() as connection:
            there = self._with_key(connection, owner, key, self._database.clock(connection))
        return None if there is None else _same(there, hashlib.sha256(body.encode()).hexdigest())

    def _with_key(self, connection: sa.Connection, owner: str, key: str, now: datetime) -> Submission | None:
        """The request that a key names; a key that is older than a day names none any more."""
        mine = sa.and_(_T.owner == owner, _T.key == key, _T.key_until > now)
        row = connection.execute(sa.select(REQUESTS).where(mine)).one_or_none()
        return None if row is None else submission(row)

    def _refuse_too_many(self, connection: sa.Connection, owner: str, now: datetime) -> None:
        rights = self.rights(owner)
        minute = now - timedelta(minutes=1)
        recent = connection.scalar(sa.select(sa.func.count()).where(_T.owner == owner, _T.received_at > minute)) or 0
        if recent >= rights.a_minute:
            oldest = sa.select(sa.func.min(_T.received_at)).where(_T.owner == owner, _T.received_at > minute)
            at: datetime = connection.scalar(oldest) or now
            wait = max(1, round((at - minute).total_seconds()) + 1)
            raise TooMany(f"{rights.a_minute} requests a minute are reached; submit it again in {wait} s", wait)
        waiting = connection.scalar(sa.select(sa.func.count()).where(_T.owner == owner, _T.state.not_in(ENDED))) or 0
        if waiting >= rights.waiting:
            raise TooMany(f"{rights.waiting} requests have not ended; submit it again when some have", 60)

    def _keep_uploads(self, connection: sa.Connection, number: int, owner: str, names: Sequence[str]) -> None:
        for name in names:
            found = connection.scalar(sa.select(UPLOADS.c.id).where(UPLOADS.c.name == name, UPLOADS.c.owner == owner))
            if found is None:
                raise Refused(Problem("no-such-input"), f"upload:{name} is not there any more; upload the file again")
            connection.execute(REQUEST_UPLOADS.insert().values(request=number, upload=found))

    def rights(self, owner: str) -> Rights:
        """An owner's rights. One that the configuration does not name has none."""
        return self._settings.owners.get(owner, Rights())

    def find(self, holder: Holder, name: str) -> Submission | None:
        """A request that a holder may see; None where there is none, or it is another's."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(REQUESTS).where(_T.name == name, *_seen_by(holder))).one_or_none()
        return None if row is None else submission(row)

    def all(self, holder: Holder, state: State | None = None, before: int | None = None, most: int = 100) -> list[Submission]:
        """The newest requests that a holder may see, newest first. ``before``: of numbers below."""
        where = [*_seen_by(holder)]
        if state is not None:
            where.append(_T.state == state)
        if before is not None:
            where.append(_T.id < before)
        with self._database.read() as connection:
            return [submission(row) for row in connection.execute(sa.select(REQUESTS).where(*where).order_by(_T.id.desc()).limit(most))]

    def events(self, of: Submission, after: int = 0, most: int = 1000) -> list[Event]:
        """What happened to a request, oldest first. ``after``: of numbers above."""
        e = REQUEST_EVENTS.c
        query = sa.select(e.id, e.at, e.state, e.what, e.share).where(e.request == of.id, e.id > after).order_by(e.id).limit(most)
        with self._database.read() as connection:
            return [Event(*row) for row in connection.execute(query)]

    def last_event(self, of: Submission) -> Event | None:
        """What happened to a request last."""
        e = REQUEST_EVENTS.c
        query = sa.select(e.id, e.at, e.state, e.what, e.share).where(e.request == of.id).order_by(e.id.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Event(*row)

    def counts(self) -> dict[tuple[str, str], int]:
        """State and lane → number of requests."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(_T.state, _T.lane, sa.func.count()).group_by(_T.state, _T.lane))
            return {(state, lane): count for state, lane, count in rows}

    def place(self, of: Submission) -> int | None:
        """The place in its lane, 1 for the next; None for a request that does not wait."""
        return self.places([of]).get(of.id)

    def places(self, some: Sequence[Submission]) -> dict[int, int]:
        """Number of each request that waits → its place in its lane, 1 for the next. One that was claimed since has none."""
        found, waits = dict[int, int](), [one for one in some if one.state in _WAITS]
        with self._database.read() as connection:
            lanes = {lane: waiting_in(connection, lane, self.rights, _WAITS) for lane in {one.lane for one in waits}}
            for lane, owner in {(one.lane, one.owner) for one in waits}:
                if owner not in {one.owner for one in lanes[lane]}:
                    continue
                asked = {one.id for one in waits if (one.lane, one.owner) == (lane, owner)}
                mine = (_T.owner == owner, _T.lane == lane, _T.state.in_(_WAITS))
                before = connection.scalar(sa.select(sa.func.count()).where(*mine, _T.id < min(asked))) or 0
                between = sa.select(_T.id).where(*mine, _T.id.between(min(asked), max(asked))).order_by(_T.id)
                for number, each in enumerate(connection.scalars(between), before):
                    if each in asked:
                        found[each] = fairness.ahead(lanes[lane], owner, number) + 1
        return found

    def cancel(self, holder: Holder, name: str) -> Submission | None:
        """Ends a request that waits; asks the worker of one that runs to end it. One that has ended stays as it is. None is not found."""
        with self._database.write() as connection:
            row = connection.execute(sa.select(REQUESTS).where(_T.name == name, *_seen_by(holder)).with_for_update()).one_or_none()
            if row is None:
                return None
            now = self._database.clock(connection)
            if row.state in ("received", "queued"):
                values = {"state": "cancelled", "ended_at": now, "cancel_at": now, "expires_at": now + self._settings.keep}
                connection.execute(REQUESTS.update().where(_T.id == row.id).values(**values))
                note(connection, row.id, now, "cancelled", "before it began")
            elif row.state == "running" and row.cancel_at is None:
                connection.execute(REQUESTS.update().where(_T.id == row.id).values(cancel_at=now))
                note(connection, row.id, now, "running", "its end was asked for")
            return read(connection, row.id)

    def waiting(self, lane: LaneName, most: int = 100) -> list[Submission]:
        """The oldest requests of a lane that a worker may begin now, oldest first."""
        with self._database.read() as connection:
            now = self._database.clock(connection)
            due = (_T.lane == lane, _T.state.in_(("received", "queued")), sa.or_(_T.not_before.is_(None), _T.not_before <= now))
            return [submission(row) for row in connection.execute(sa.select(REQUESTS).where(*due).order_by(_T.id).limit(most))]

    def active(self, owner: str) -> list[str]:
        """Names of an owner's requests that have not ended."""
        with self._database.read() as connection:
            return list(connection.scalars(sa.select(_T.name).where(_T.owner == owner, _T.state.not_in(ENDED)).order_by(_T.id)))

    def redrive(self, name: str, reason: str) -> Submission:
        """Opens a dead request again, with three new tries. Raises WrongInput for one that is not dead."""
        with self._database.write() as connection:
            row = connection.execute(sa.select(REQUESTS).where(_T.name == name).with_for_update()).one_or_none()
            if row is None or row.state != "dead":
                raise WrongInput(f"request {name} is {'not there' if row is None else row.state}; only a dead one can be opened again")
            now = self._database.clock(connection)
            fresh: dict[str, Any] = {"state": "received", "sent_at": now, "tries": 0, "reason": "", "problem": "{}", "step": None}
            fresh |= dict.fromkeys(("ended_at", "expires_at", "not_before", "cancel_at", "queued_at", "started_at"))
            connection.execute(REQUESTS.update().where(_T.id == row.id).values(fresh))
            note(connection, row.id, now, "received", f"opened again: {reason}")
            self._messages.send_in(connection, [name])
            opened = read(connection, row.id)
        self._messages.send_after([name])
        return opened


def _same(there: Submission, digest: str) -> Submission:
    if there.digest != digest:
        raise KeyTaken(f"the Idempotency-Key names request {there.name}, which has another body; use a new key")
    return there


def _seen_by(holder: Holder) -> list[sa.ColumnElement[bool]]:
    return [] if holder.has("read-all") else [_T.owner == holder.owner]


def read(connection: sa.Connection, number: int) -> Submission:
    """A request by its number."""
    return submission(connection.execute(sa.select(REQUESTS).where(_T.id == number)).one())


def note(connection: sa.Connection, number: int, at: datetime, state: State, what: str = "", share: int | None = None) -> None:
    """Adds an event."""
    connection.execute(REQUEST_EVENTS.insert().values(request=number, at=at, state=state, what=storable(what)[:2000], share=share))


def storable(text: str) -> str:
    """A text that every database stores: PostgreSQL refuses NUL, and none takes half a surrogate; a hostile file may have put both into
    an error."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def waiting_in(
    connection: sa.Connection, lane: str, rights: Callable[[str], Rights], states: Sequence[State], *where: sa.ColumnElement[bool]
) -> list[fairness.Waiting]:
    """The owners that have requests waiting in a lane."""
    turns = {row.owner: row.turn for row in connection.execute(sa.select(REQUEST_TURNS).where(REQUEST_TURNS.c.lane == lane))}
    counted = sa.select(_T.owner, sa.func.count().label("waiting"), sa.func.min(_T.id).label("oldest"))
    rows = connection.execute(counted.where(_T.state.in_(states), _T.lane == lane, *where).group_by(_T.owner))
    return [
        fairness.Waiting(row.owner, row.waiting, row.oldest, fairness.turn_of(turns, row.owner), rights(row.owner).weight) for row in rows
    ]
