"""The embedded queue: SQS's rules over two tables, ``queue_messages`` and ``queue_dead_letters``."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from recon.database import Database
from recon.database.tables import QUEUE_DEAD_LETTERS as DEAD
from recon.database.tables import QUEUE_MESSAGES as MESSAGES
from recon.intake.queues.port import TRIES, VISIBILITY_S, Delivery

AT_ONCE = 10
"""Messages of one receive at most, as in SQS."""
_FIRST = "0" * 32  # as long as a receipt: SQLite overwrites a row of equal size in place, without its body


class SqlQueue:
    """One queue of a database. ``clock``: seconds since 1970; of several machines that share a PostgreSQL they must agree to seconds."""

    def __init__(self, database: Database, name: str, visibility_s: float = VISIBILITY_S, clock: Callable[[], float] = time.time) -> None:
        self._database, self.name, self._visibility_s, self._clock = database, name, visibility_s, clock

    @property
    def dead(self) -> SqlDeadLetters:
        return SqlDeadLetters(self._database, self.name)

    def send(self, bodies: Sequence[str]) -> None:
        if bodies:
            with self._database.write() as connection:
                self.send_in(connection, bodies)

    def send_in(self, connection: sa.Connection, bodies: Sequence[str]) -> None:
        """Sends as part of a transaction."""
        now = self._now()
        rows = [{"queue": self.name, "visible_at": now, "sent_at": now, "receipt": _FIRST, "body": body} for body in bodies]
        connection.execute(MESSAGES.insert(), rows)

    def receive(self, count: int) -> list[Delivery]:
        now = self._now()
        visible = sa.and_(MESSAGES.c.queue == self.name, MESSAGES.c.visible_at <= now)
        columns = (MESSAGES.c.id, MESSAGES.c.received, MESSAGES.c.body)
        next_ones = sa.select(*columns).where(visible).order_by(MESSAGES.c.visible_at).limit(min(count, AT_ONCE))
        with self._database.write() as connection:
            self._bury(connection, visible)
            found = connection.execute(next_ones.with_for_update(skip_locked=True)).all()
            receipt, until = secrets.token_hex(16), now + round(self._visibility_s * 1e6)
            if found:
                taken = MESSAGES.c.id.in_([row.id for row in found])
                values = {"receipt": receipt, "visible_at": until, "received": MESSAGES.c.received + 1}
                connection.execute(MESSAGES.update().where(taken).values(**values))
        return [Delivery(str(row.id), f"{row.id}:{receipt}", row.received + 1, row.body) for row in found]

    def delete(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            with self._database.write() as connection:
                connection.execute(MESSAGES.delete().where(_delivered(deliveries)))

    def release(self, deliveries: Sequence[Delivery], after_s: float) -> None:
        if deliveries:
            with self._database.write() as connection:
                at = self._now() + round(after_s * 1e6)
                connection.execute(MESSAGES.update().where(_delivered(deliveries)).values(visible_at=at))

    def next_s(self) -> float | None:
        """Seconds until a message is visible, 0 if one is; None if the queue is empty."""
        with self._database.read() as connection:
            at = connection.scalar(sa.select(sa.func.min(MESSAGES.c.visible_at)).where(MESSAGES.c.queue == self.name))
        return None if at is None else max(0.0, (at - self._now()) / 1e6)

    def _bury(self, connection: sa.Connection, visible: sa.ColumnElement[bool]) -> None:
        """Moves visible messages that were received too often to the dead letters."""
        spent = sa.select(MESSAGES.c.id).where(visible, MESSAGES.c.received >= TRIES).with_for_update(skip_locked=True)
        ids = list(connection.scalars(spent))
        if ids:
            columns = ("queue", "received", "sent_at", "body")
            moved = sa.select(*(MESSAGES.c[name] for name in columns)).where(MESSAGES.c.id.in_(ids))
            connection.execute(DEAD.insert().from_select(columns, moved))
            connection.execute(MESSAGES.delete().where(MESSAGES.c.id.in_(ids)))

    def _now(self) -> int:
        return round(self._clock() * 1e6)


class SqlDeadLetters:
    """The dead letters of one queue. They are received again until they are deleted."""

    def __init__(self, database: Database, name: str) -> None:
        self._database, self._name = database, name

    def receive(self, count: int) -> list[Delivery]:
        with self._database.read() as connection:
            found = connection.execute(
                sa.select(DEAD).where(DEAD.c.queue == self._name).order_by(DEAD.c.id).limit(min(count, AT_ONCE))
            ).all()
        return [Delivery(str(row.id), str(row.id), row.received, row.body) for row in found]

    def delete(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            with self._database.write() as connection:
                connection.execute(DEAD.delete().where(DEAD.c.id.in_([int(one.id) for one in deliveries])))


def _delivered(deliveries: Sequence[Delivery]) -> sa.ColumnElement[bool]:
    """Messages whose newest delivery is among these."""
    parts = [one.receipt.split(":") for one in deliveries]
    return sa.and_(MESSAGES.c.id.in_([int(number) for number, _ in parts]), MESSAGES.c.receipt.in_([receipt for _, receipt in parts]))
