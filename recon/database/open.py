"""Opens the database: SQLite with the settings that several processes need, or PostgreSQL; and brings its tables up to date."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from recon.config.model import Place
from recon.config.secrets import ReadSecret, boto3_secret, credentials
from recon.database.migrate import is_current, migrate
from recon.database.transactions import Database, passing
from recon.errors import WrongUsage

if TYPE_CHECKING:
    from recon.config.settings import DatabaseSettings

FOLDER = ".recon"
FILE = "recon.sqlite"
_BUSY_S = 60
_LOOK_S = 3


def open_database(place: Place, read_secret: ReadSecret = boto3_secret) -> Database:
    """The database of a configuration, its tables made or migrated. Each process and location has one.

    Raises WrongUsage where a library or a secret is missing, or the tables are newer than this version; TryAgain where it is away."""
    if (path := _sqlite_file(place)) is not None:
        return _opened(f"sqlite:///{path}", shown_of(place))
    return _opened(_postgres(place.database, read_secret), shown_of(place))


def shown_of(place: Place) -> str:
    """The location of a configuration's database for messages, without credentials."""
    path = _sqlite_file(place)
    return str(place.database.url) if path is None else str(path)


def is_there(place: Place) -> bool:
    """Whether a configuration's database may hold anything: false for a file of SQLite that does not exist."""
    path = _sqlite_file(place)
    return path is None or path.is_file()


def _sqlite_file(place: Place) -> Path | None:
    """The file of SQLite; None for PostgreSQL."""
    url = place.database.url
    if url is not None and url.startswith("postgresql://"):
        return None
    return (place.path.parent / (url or f"{FOLDER}/{FILE}")).resolve()


def _postgres(settings: DatabaseSettings, read_secret: ReadSecret) -> str:
    given = credentials("database", settings.user, settings.secret, read_secret)
    url = sa.engine.make_url(settings.url or "").set(drivername="postgresql+psycopg2", username=given.user, password=given.password)
    return url.render_as_string(hide_password=False)


def present_database(place: Place, read_secret: ReadSecret = boto3_secret) -> Database | None:
    """The database as it is, for a short look: no table is made or migrated, and PostgreSQL is given a few seconds to answer. None where it
    does not exist yet, or its tables are of another version. Raises WrongUsage and TryAgain as ``open_database``; close it."""
    if not is_there(place):
        return None
    if (path := _sqlite_file(place)) is not None:
        database = Database(_sqlite(sa.engine.make_url(f"sqlite:///{path}")), str(path))
    else:
        engine = sa.create_engine(_postgres(place.database, read_secret), connect_args={"connect_timeout": _LOOK_S})
        database = Database(engine, str(place.database.url))
    with passing(database.shown):
        return database if is_current(database) else None


@lru_cache(maxsize=16)
def _opened(url: str, shown: str) -> Database:
    parsed = sa.engine.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(str(parsed.database))
        path.parent.mkdir(parents=True, exist_ok=True)
        engine = _sqlite(parsed)
    else:
        try:
            engine = sa.create_engine(parsed, pool_pre_ping=True, pool_size=2, max_overflow=8)
        except ImportError:
            raise WrongUsage("database: PostgreSQL needs the postgres extra: pip install 'dagster-recon[postgres]'") from None
    database = Database(engine, shown)
    with passing(shown):
        migrate(database)
    return database


def _sqlite(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(url, connect_args={"timeout": _BUSY_S, "check_same_thread": False})
    sa.event.listen(engine, "connect", _configure)
    return engine


def _configure(connection: Any, _record: object) -> None:
    """WAL lets readers go on beside the writer; FULL syncs each commit, so that a state that was reported survives a power cut."""
    connection.isolation_level = None  # transactions begin where Database says so
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_S * 1000}"):
        connection.execute(f"PRAGMA {pragma}")
