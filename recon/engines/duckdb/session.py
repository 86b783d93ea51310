"""Opens DuckDB with the limits of the configuration."""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from recon.config import Config
from recon.errors import OutOfCapacity, TryAgain, WrongInput, WrongUsage
from recon.storage.hashing import define, salt_of
from recon.storage.port import ObjectStore

if TYPE_CHECKING:
    import duckdb

# DuckDB bounds what it spills by the room that was free when it began, and names that bound where it is reached.
DISK_FULL = (*(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)), "max_temp_directory_size", "failed to offload")
_SETTINGS = (
    "TimeZone = 'UTC'",
    "preserve_insertion_order = false",
    "enable_progress_bar = false",
)


@contextmanager
def connect(store: ObjectStore, config: Config, scratch: Path, place: str = "") -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with temporary tables of its own and the hashes of ``store``; the database is in memory and spills into a private folder
    beside ``scratch``. Times are read and written in UTC whatever the machine's zone is. Raises TryAgain where the disk fills up while it
    spills or writes, and WrongInput, which begins with ``place``, where a sum outgrows the widest decimal: it is never rounded. Ctrl-C in
    a query is KeyboardInterrupt."""
    import duckdb

    connection = _opened(config, scratch.parent).cursor()
    try:
        for setting in _SETTINGS:
            connection.execute(f"SET {setting}")
        define(connection, salt_of(store))
        yield connection
    except duckdb.OutOfRangeException as error:
        raise WrongInput(
            f"{place}a sum outgrew the 38 digits that a decimal holds ({str(error).splitlines()[0]}); "
            "look for amounts that are far too large and correct their file with 'recon land --replace'"
        ) from error
    except duckdb.Error as error:
        if any(why in str(error) for why in DISK_FULL):
            raise OutOfCapacity(f"{scratch}: the disk is full; free some room and run again, nothing was committed") from error
        if isinstance(error, duckdb.InterruptException):
            raise KeyboardInterrupt from error
        if isinstance(error, (duckdb.FatalException, duckdb.InternalException)):
            # DuckDB refuses everything after such an error; the next connection, for another window, is to a new database.
            _database.cache_clear()
        raise
    except RuntimeError as error:
        if str(error) == "Query interrupted":  # what DuckDB makes of Ctrl-C
            raise KeyboardInterrupt from error
        raise
    finally:
        connection.close()


def execute_interruptible(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    """Executes a long statement that Ctrl-C ends at once. DuckDB itself often notices a signal only at the end, since the main thread
    is busy with the statement; here the main thread waits."""
    with ThreadPoolExecutor(1) as beside:
        done = beside.submit(connection.execute, statement)
        try:
            done.result()
        except KeyboardInterrupt:
            connection.interrupt()
            raise


@dataclass(frozen=True)
class _Database:
    """A database and the folder that it spills into."""

    connection: duckdb.DuckDBPyConnection
    spill: Path


def _opened(config: Config, place: Path) -> duckdb.DuckDBPyConnection:
    """The process's database; a new one where its folder is gone, since DuckDB would recreate the folder, readable by all users."""
    key = os.getpid(), config.threads, config.memory_limit, place
    if not _database(*key).spill.is_dir():
        _database.cache_clear()
    return _database(*key).connection


@lru_cache(maxsize=1)
def _database(process: int, threads: int, memory_limit: str, place: Path) -> _Database:
    """One database per process: opening one takes longer than merging a small window. Raises WrongUsage where DuckDB refuses the limits."""
    import duckdb

    try:
        spill = Path(tempfile.mkdtemp(prefix="spill-", dir=place))
    except OSError as error:
        raise TryAgain(f"{place}: {error.strerror} while making a folder in it; see to that, then run the same again") from error
    atexit.register(shutil.rmtree, spill, ignore_errors=True)
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": threads,
        "memory_limit": memory_limit,
        "temp_directory": str(spill),
        "autoinstall_known_extensions": False,
    }
    try:
        return _Database(duckdb.connect(config=config), spill)
    except duckdb.Error as error:
        raise WrongUsage(f"DuckDB cannot be opened with memory_limit: {memory_limit} and threads: {threads} ({error})") from error
