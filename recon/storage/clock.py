"""The time that decides what closes and what goes: this machine's, held back to the store's own where it is ahead.

A machine whose clock is a day ahead would close windows that have not begun, for good. So the clock of the storage is asked: when it says
that an object which was put just now was written. In a folder on this machine that is this machine's clock; on NFS it is the file server's.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from recon.storage import layout
from recon.storage.port import ObjectStore

AHEAD_MAX = timedelta(minutes=5)
"""How far clocks may differ; the same as for notes of landings."""


def here() -> datetime:
    """This machine's clock."""
    return datetime.now(UTC)


def now(store: ObjectStore) -> datetime:
    """This machine's time, or the store's own where that is more than ``AHEAD_MAX`` earlier."""
    path = layout.clock(layout.new_attempt())
    store.put_new(path, [b""])
    try:
        there = store.modified(path)
    finally:
        store.delete(path)
    ours = here()
    return there if ours - there > AHEAD_MAX else ours
