"""A worker process whose table is an SQLite file and which, once, does as it is told: dies, stops, or fails at a row.

Called as ``python worker_child.py TABLE.db``; beside the
file lie ``<what>-<row>`` marks, each removed by the one worker that obeys it ("poison" stays): kill, stop, poison, slow.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from recon.errors import Damaged
from recon.serving.workers.plans import ShareBody
from recon.serving.workers.worker import main

STEP = 10


class Table:
    """Key (a row's number) → sequence; an update takes effect only if its sequence is higher, as in the real one."""

    def __init__(self, file: Path) -> None:
        self._file = file
        with self._open() as database:
            database.execute("create table if not exists pointers (key text primary key, sequence int, writes int)")

    def update(self, key: str, sequence: int) -> bool:
        with self._open() as database:
            done = database.execute(
                "insert into pointers values (?, ?, 1) on conflict (key) do update set sequence = excluded.sequence, writes = writes + 1 "
                "where sequence < excluded.sequence",
                (key, sequence),
            )
            return done.rowcount == 1

    def rows(self) -> dict[str, tuple[int, int]]:
        """Key → sequence, and how often it was written."""
        with self._open() as database:
            return {key: (sequence, writes) for key, sequence, writes in database.execute("select * from pointers")}

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._file, timeout=30, isolation_level=None)
        database.execute("pragma journal_mode = wal")
        database.execute("pragma synchronous = off")
        return database


def mark(file: Path, what: str, row: int) -> Path:
    return file.with_name(f"{what}-{row}")


def loading(file: Path) -> Callable[[ShareBody, Callable[[], None]], Mapping[str, int]]:
    """Loads rows into the table, and obeys the marks."""
    table = Table(file)

    def load(share: ShareBody, beat: Callable[[], None]) -> Mapping[str, int]:
        items = 0
        for row in range(share["first"], share["end"]):
            if row % STEP == 0:
                beat()
            _obey(file, row)
            items += table.update(f"{share['run']}-{row}", share["sequence"])
        return {"entries": share["end"] - share["first"], "items": items}

    return load


def _obey(file: Path, row: int) -> None:
    if mark(file, "poison", row).exists():
        raise Damaged(f"state/x/part-0000.words: the record of row {row} is not that of its entry; run 'recon verify'")
    for what, do in (("kill", signal.SIGKILL), ("stop", signal.SIGSTOP)):
        if _mine(mark(file, what, row)):
            os.kill(os.getpid(), do)
    if _mine(mark(file, "slow", row)):
        time.sleep(1.5)


def _mine(told: Path) -> bool:
    try:
        told.rename(told.with_name(f"{told.name}-by-{os.getpid()}"))
    except FileNotFoundError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(loading(Path(sys.argv[1]))))
