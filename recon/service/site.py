"""Everything of a service, opened by its configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path

import sqlalchemy as sa

from recon.config import Place
from recon.config.service import Rights
from recon.database import Database
from recon.database.open import open_database
from recon.database.tables import REQUEST_TURNS, REQUEST_UPLOADS, REQUESTS, SERVICE, TOKENS, UPLOADS
from recon.errors import TryAgain, WrongUsage
from recon.intake.queues.sql_queue import SqlQueue
from recon.operations.transforming import Opened
from recon.service.admission import Admitted, admitted, canonical, refuse_local
from recon.service.claims import Claims
from recon.service.messages import VISIBLE_AFTER_S, EmbeddedMessages, Messages, SqsMessages
from recon.service.requests import QUEUE, Requests
from recon.service.results import RESULTS, Results
from recon.service.results import UPLOADS as UPLOADED
from recon.service.submissions import ENDED, Holder, Submission
from recon.service.tokens import Tokens
from recon.service.uploads import Upload, Uploads
from recon.storage.local import LocalStore
from recon.storage.port import NotFound

ORPHAN = timedelta(hours=1)
OpenReaders = Callable[[Path], Opened]
"""Opens a reconciliation by its configuration, in another process."""


class Service:
    """The service of one reconciliation. ``open_readers``: opens what reads inputs that are artifacts, breaks or tables of it."""

    def __init__(self, place: Place, open_readers: OpenReaders) -> None:
        self.place, self.settings, self.open_readers = place, place.service, open_readers

    @cached_property
    def database(self) -> Database:
        """The database. Raises WrongUsage where it has the requests of another reconciliation's service."""
        found = open_database(self.place)
        _refuse_other(found, self.place)
        return found

    @cached_property
    def queue(self) -> Messages:
        if self.settings.queue is not None:
            return SqsMessages(self.settings.queue)
        return EmbeddedMessages(SqlQueue(self.database, f"{self.place.name}-{QUEUE}", VISIBLE_AFTER_S))

    @cached_property
    def tokens(self) -> Tokens:
        return Tokens(self.database)

    @cached_property
    def requests(self) -> Requests:
        return Requests(self.database, self.settings, self.queue)

    @cached_property
    def claims(self) -> Claims:
        return Claims(self.database, self.settings)

    @cached_property
    def results(self) -> Results:
        return Results(self.place)

    @cached_property
    def uploads(self) -> Uploads:
        return Uploads(self.database, self.settings, self.results)

    def admitted(self, holder: Holder, body: bytes) -> Admitted:
        """Judges what is submitted. Raises Refused."""
        found = admitted(holder, body, self.rights(holder.owner), self.settings.small_up_to, self.uploads.size)
        if self.settings.lane(found.lane).engine.elsewhere:
            refuse_local(found.request)
        return found

    def submit(self, holder: Holder, body: bytes, key: str | None = None) -> tuple[Submission, bool]:
        """Stores a request; whether it is new. ``body``: its JSON. ``key``: the same key and body is the same request for a day.

        Raises Refused, KeyTaken and TooMany."""
        if key is not None and (there := self.requests.with_key(holder.owner, key, canonical(body))) is not None:
            return there, False  # though its inputs may be gone by now
        return self.requests.submit(holder, self.admitted(holder, body), key)

    def ready(self) -> None:
        """Asks the database and the store of results something. Raises what they raise where they do not answer."""
        with self.database.read() as connection:
            self.database.clock(connection)
        with suppress(NotFound):
            self.results.store.size("ready")

    def rights(self, owner: str) -> Rights:
        """An owner's rights."""
        return self.settings.owners.get(owner, Rights())

    def upload(self, name: str) -> Upload | None:
        """An upload of any owner."""
        return self.uploads.find(None, name)

    def sweep(self) -> int:
        """Removes what expired: requests that ended, with their results and uploads; uploads; files of results that no request needs.
        Sends messages again that did not come. Returns the number of removed requests."""
        with self.database.read() as connection:
            now = self.database.clock(connection)
            late = (REQUESTS.c.state.in_(ENDED), REQUESTS.c.expires_at < now)
            gone = list(connection.scalars(sa.select(REQUESTS.c.id).where(*late).limit(1000)))
        self._remove(gone)
        self.uploads.sweep()
        self.send_again()
        self._sweep_orphans()
        return len(gone)

    def send_again(self) -> None:
        """Sends messages again that did not come within a minute. What the embedded queue holds up after a clock was put back is queued."""
        names = self.claims.unsent()
        if self.queue.may_be_lost:
            self.queue.send_after(names)
        elif names:
            self.claims.arrived(names)

    def forget(self, owner: str) -> int:
        """Removes all of an owner's requests, results, uploads and tokens. Returns the number of requests. Raises WrongUsage while some
        have not ended, and TryAgain where one came in meanwhile: tokens are withdrawn first, so it was the last."""
        theirs = sa.select(REQUESTS.c.id, REQUESTS.c.state).where(REQUESTS.c.owner == owner)
        with self.database.write() as connection:
            rows = list(connection.execute(theirs))
            if active := sum(row.state not in ENDED for row in rows):
                raise WrongUsage(f"{active} requests of {owner} have not ended; cancel them first: recon requests cancel --owner {owner}")
            valid = (TOKENS.c.owner == owner, TOKENS.c.withdrawn_at.is_(None))
            connection.execute(TOKENS.update().where(*valid).values(withdrawn_at=self.database.clock(connection)))
        self._remove([row.id for row in rows])
        with self.database.write() as connection:
            if late := list(connection.execute(theirs)):
                raise TryAgain(f"{len(late)} requests of {owner} came in meanwhile; once they have ended, run this again")
            names = list(connection.scalars(sa.select(UPLOADS.c.name).where(UPLOADS.c.owner == owner)))
            connection.execute(UPLOADS.delete().where(UPLOADS.c.owner == owner))
            connection.execute(TOKENS.delete().where(TOKENS.c.owner == owner))
            connection.execute(REQUEST_TURNS.delete().where(REQUEST_TURNS.c.owner == owner))
        for name in names:
            self.results.remove_upload(name)
        return len(rows)

    def _remove(self, numbers: Sequence[int]) -> None:
        """Removes requests: their files, then their rows with events; then uploads that no other request reads."""
        for start in range(0, len(numbers), 500):
            some = numbers[start : start + 500]
            with self.database.read() as connection:
                places = list(connection.scalars(sa.select(REQUESTS.c.place).where(REQUESTS.c.id.in_(some), REQUESTS.c.place.is_not(None))))
            for place in places:
                self.results.remove(place)
            with self.database.write() as connection:
                uploads = list(connection.scalars(sa.select(REQUEST_UPLOADS.c.upload).where(REQUEST_UPLOADS.c.request.in_(some))))
                connection.execute(REQUESTS.delete().where(REQUESTS.c.id.in_(some), REQUESTS.c.state.in_(ENDED)))
                used = set(connection.scalars(sa.select(REQUEST_UPLOADS.c.upload).where(REQUEST_UPLOADS.c.upload.in_(uploads))))
                free = [number for number in uploads if number not in used]
                names = list(connection.scalars(sa.select(UPLOADS.c.name).where(UPLOADS.c.id.in_(free))))
                connection.execute(UPLOADS.delete().where(UPLOADS.c.id.in_(free)))
            for name in names:
                self.results.remove_upload(name)

    def _sweep_orphans(self) -> None:
        """Removes files of results and uploads that no row needs, once they are an hour old: their process died between two steps."""
        with self.database.read() as connection:
            now = self.database.clock(connection)
            used = (REQUESTS.c.place.is_not(None), REQUESTS.c.state.not_in(("failed", "cancelled", "dead")))
            places = set(connection.scalars(sa.select(REQUESTS.c.place).where(*used)))
            uploads = set(connection.scalars(sa.select(UPLOADS.c.name)))
        store = self.results.store
        for folder, known in ((RESULTS, places), (UPLOADED, uploads)):
            for path in list(store.list(folder)):
                with suppress(NotFound):  # another worker sweeps too
                    if path.split("/")[1] not in known and store.modified(path) < now - ORPHAN:
                        store.delete(path)
        self.results.remove_empty(places, now - ORPHAN)
        if isinstance(store, LocalStore):
            store.sweep_temporary(ORPHAN.total_seconds())


def _refuse_other(database: Database, place: Place) -> None:
    """Raises WrongUsage where a database serves another reconciliation: its workers would carry out requests by this one's rights, and read
    this one's artifacts for them. The first service that opens a database has it."""
    with database.read() as connection:
        there = connection.scalar(sa.select(SERVICE.c.reconciliation))
    if there is None:
        with suppress(sa.exc.IntegrityError), database.write() as connection:  # another service was first
            connection.execute(SERVICE.insert().values(id=1, reconciliation=place.name))
        with database.read() as connection:
            there = connection.scalar(sa.select(SERVICE.c.reconciliation))
    if there != place.name:
        raise WrongUsage(
            f"{place.path}: database {database.shown} has the service of the reconciliation {there}, and {place.name} would carry out its "
            "requests; name a database of its own under 'database'"
        )
