"""Connections to DuckDB for single files: to a database in memory that the process keeps, since to open one takes as long as to convert a
small file."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb


def connection(threads: int, memory_limit: str | None = None) -> duckdb.DuckDBPyConnection:
    """A new connection, with registered tables of its own. Connections of equal settings share threads and memory.

    ``memory_limit``: None is DuckDB's own."""
    return _database(os.getpid(), threads, memory_limit).cursor()


@lru_cache(maxsize=2)
def _database(process: int, threads: int, memory_limit: str | None) -> duckdb.DuckDBPyConnection:
    """``process``: a forked process opens its own."""
    import duckdb

    settings: dict[str, Any] = {"threads": threads, "autoinstall_known_extensions": False}
    return duckdb.connect(config=settings if memory_limit is None else {**settings, "memory_limit": memory_limit})
