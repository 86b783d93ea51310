"""Opening DuckDB with the limits of the configuration.

Belongs here: connections and their settings. Does not belong here: any query of a stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from recon.config import Config
from recon.errors import TryAgain

if TYPE_CHECKING:
    import duckdb


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def connect(config: Config, scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A private in-memory database that spills to ``scratch``. Times are read and written in UTC whatever the machine's zone is.

    Raises TryAgain where the disk fills up while it spills or writes."""
    import duckdb

    connection = duckdb.connect(
        config={"threads": config.threads, "memory_limit": config.memory_limit, "temp_directory": str(scratch / "spill")}
    )
    try:
        for setting in (
            "TimeZone = 'UTC'",
            "preserve_insertion_order = false",
            "autoinstall_known_extensions = false",
            "enable_progress_bar = false",
        ):
            connection.execute(f"SET {setting}")
        yield connection
    except duckdb.IOException as error:
        if "No space left" in str(error):
            raise TryAgain(f"{scratch}: the disk is full; free some room and run again, nothing was committed") from error
        raise
    finally:
        connection.close()
