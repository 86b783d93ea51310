"""The bytes of objects that no longer belong to the state."""

from __future__ import annotations

from contextlib import suppress

from recon.state import reachable
from recon.state.timeline import State
from recon.storage import layout
from recon.storage.port import NotFound, ObjectStore


def orphaned_bytes(store: ObjectStore, state: State) -> int:
    """Bytes below ``state/`` that look-ups at ``state`` do not read: superseded part-files, merged runs, leftovers of dead processes, and
    the output of a running rebuild."""
    used, found = reachable.needed(store, state), 0
    for path in store.list(layout.STATE):
        if path not in used:
            with suppress(NotFound):
                found += store.size(path)
    return found
