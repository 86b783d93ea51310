"""The current time for decisions that cannot be undone: closing a window, removing objects.

A machine whose clock is a day ahead would close windows that have not begun. So this machine's clock is compared with the storage's: the
modification time of an object that was just put. For a local folder that is the same clock; on NFS it is the file server's.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from recon.storage import layout
from recon.storage.port import ObjectStore

AHEAD_MAX = timedelta(minutes=5)
"""How far the two clocks may differ; the same as for notes of landings."""


def here() -> datetime:
    """This machine's clock."""
    return datetime.now(UTC)


def now(store: ObjectStore) -> datetime:
    """This machine's time, or the storage's where this machine is more than ``AHEAD_MAX`` ahead."""
    path = layout.clock(layout.new_attempt())
    store.put_new(path, [b""])
    try:
        there = store.modified(path)
    finally:
        store.delete(path)
    ours = here()
    return there if ours - there > AHEAD_MAX else ours
