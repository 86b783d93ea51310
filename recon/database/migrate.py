"""Brings the tables of a database up to date with Alembic, once, whoever opens it first."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from recon.database.transactions import Database
from recon.errors import WrongUsage

HEAD = "0006"
"""The newest revision in ``migrations/versions``."""
_LOCK = 0x7265636F6E  # a PostgreSQL advisory lock: "recon"


def migrate(database: Database) -> None:
    """Upgrades the tables to ``HEAD``. Raises WrongUsage where a newer version of Recon made them."""
    if is_current(database):
        return  # the usual case needs no Alembic, which takes a third of a second to load
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    with database.write() as connection:
        if not database.is_sqlite:  # SQLite's write lock does the same
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise WrongUsage(
                f"database {database.shown}: its tables were made by another version of recon ({error}); use that one"
            ) from None


def is_current(database: Database) -> bool:
    """Whether the tables are there, of this version."""
    return _revision(database) == HEAD


def _revision(database: Database) -> str | None:
    with database.read() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
