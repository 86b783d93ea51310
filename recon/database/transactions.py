"""Transactions on a database, and its passing failures as TryAgain."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

from recon.database.locks import only_one
from recon.errors import ConnectionLost, TryAgain, WrongUsage


class Database:
    """Transactions on one database. ``shown``: its location for messages, without credentials."""

    def __init__(self, engine: sa.Engine, shown: str) -> None:
        self.engine, self.shown = engine, shown

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that writes. On SQLite it takes the write lock at its begin, so that what it read is still true when it writes.

        Raises TryAgain where the database is locked or away."""
        with passing(self.shown), self.engine.connect() as connection:
            # pysqlite begins no transaction by itself here; see recon.database.open.
            connection.exec_driver_sql("BEGIN IMMEDIATE" if self.is_sqlite else "SELECT 1")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads: all its queries see the same snapshot."""
        with passing(self.shown), self.engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
            else:
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield connection
            connection.rollback()

    def clock(self, connection: sa.Connection) -> datetime:
        """The time that all processes agree on: PostgreSQL's, for the whole transaction one; for SQLite that of this machine."""
        if self.is_sqlite:
            return datetime.now(UTC)
        found: datetime = connection.execute(sa.select(sa.func.now())).scalar_one()
        return found.astimezone(UTC)

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Waits until no other process or thread is in a block of the same ``what``. The lock ends with the block, or with its process.

        Raises TryAgain where the database is away."""
        if not self.is_sqlite:
            with passing(self.shown), self.engine.connect() as connection:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(what))))
                yield
                connection.rollback()
            return
        name = hashlib.sha256(what.encode()).hexdigest()[:16]
        with only_one(Path(f"{self.engine.url.database}.{name}.lock")):
            yield

    def close(self) -> None:
        """Closes its connections."""
        self.engine.dispose()


@contextmanager
def passing(shown: str) -> Iterator[None]:
    """Turns a locked or unreachable database into TryAgain."""
    try:
        yield
    except OperationalError as error:
        reason = str(error.orig).splitlines()[0]
        if "readonly" in reason or "unable to open" in reason:
            raise WrongUsage(f"database {shown}: {reason}; name a file that can be written under 'database'") from None
        raise TryAgain(f"database {shown}: {reason}; run the same again") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise ConnectionLost(f"database {shown}: the connection was lost; run the same again") from error
        raise
