"""Alembic's scripts, read once by a process.

Dagster lets Alembic read all its migrations, some ninety modules, whenever it looks at the version of a database or writes it, ten times
in a ``recon run``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alembic.config import Config
from alembic.script import ScriptDirectory


@contextmanager
def migrations_read_once() -> Iterator[None]:
    """Within it, Alembic reads the migrations of each folder once."""
    read, known = ScriptDirectory.from_config, dict[str | None, ScriptDirectory]()

    def from_config(config: Config) -> ScriptDirectory:
        folder = config.get_main_option("script_location")
        return known.get(folder) or known.setdefault(folder, read(config))

    ScriptDirectory.from_config = from_config  # type: ignore[method-assign] # Dagster has no way to pass one
    try:
        yield
    finally:
        ScriptDirectory.from_config = read  # type: ignore[method-assign]
