"""Files of equal bytes in several windows: a statement that is landed a second time would count a second time.

Belongs here: noting which windows a file's bytes landed in, and looking that up by digest. Does not belong here: landing (recon.batches).

A note says only where to look; the newest manifest of that window says whether the bytes are still in it. A note is put before its
manifest, so of two who land the same bytes one after the other the second finds the first.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from recon import layout
from recon.batches import read_manifest
from recon.store import AlreadyExists, ObjectStore
from recon.windows import parse_instant


def note(store: ObjectStore, window: datetime, digest: str) -> None:
    """Notes that bytes of this SHA-256 are about to land in a window."""
    with suppress(AlreadyExists):
        store.put_new(layout.landed_bytes(digest, window), [b""])


def elsewhere(store: ObjectStore, window: datetime, digest: str) -> list[str]:
    """The other windows that hold a received file of this SHA-256, in order of time."""
    prefix, found = layout.landings_of(digest), []
    for path in store.list(prefix):
        name = layout.window_name(path[len(prefix) :])
        other = parse_instant(name, "window")
        manifest = read_manifest(store, other) if other != window else None
        if manifest is not None and any(file.digest == digest for file in manifest.received):
            found.append(name)
    return sorted(found)
