"""Finds files with equal bytes in other windows, since a statement that is landed twice would count twice.

A note names a window; the newest manifest of that window decides whether it still has the bytes. Each caller puts its note, then reads the
notes, then puts its manifest. So of two callers that land the same bytes at once, at least one sees the other's note.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta

from recon.errors import TryAgain, WrongUsage
from recon.intake.manifests import read_manifest
from recon.model.windows import parse_instant
from recon.storage import clock, layout
from recon.storage.port import AlreadyExists, ObjectStore

UNDER_WAY_MAX = timedelta(minutes=10)
"""A note without a manifest counts as a landing in progress for this time, and then as one that was given up."""


def note(store: ObjectStore, window: datetime, digest: str) -> bool:
    """Notes that bytes of this SHA-256 are about to land in a window. False if the note exists."""
    with suppress(AlreadyExists):
        store.put_new(layout.landed_bytes(digest, window), [b""])
        return True
    return False


def forget(store: ObjectStore, window: datetime, digest: str) -> None:
    """Removes a note, where nothing landed."""
    store.delete(layout.landed_bytes(digest, window))


def note_or_refuse(store: ObjectStore, window: datetime, name: str, digest: str, again: bool) -> None:
    """Notes that the file ``name`` with this SHA-256 is about to land in a window. Raises WrongUsage if another window holds the same
    bytes, unless ``again``."""
    noted = note(store, window, digest)
    if not again and (windows := elsewhere(store, window, digest)):
        if noted:
            forget(store, window, digest)
        raise WrongUsage(
            f"{name}: the same bytes landed in window{'s' * (len(windows) > 1)} {', '.join(windows)} already; take them back there "
            "with 'recon unland', or say --again if they are to be in both"
        )


def elsewhere(store: ObjectStore, window: datetime, digest: str) -> list[str]:
    """The other windows that have a received file of this SHA-256, in order of time. Empty where this window has it, since landing it again
    adds nothing. Raises TryAgain where these bytes are landing elsewhere at the moment."""
    if _holds(store, window, digest):
        return []
    prefix, found = layout.landings_of(digest), []
    for path in store.list(prefix):
        name = layout.window_name(path[len(prefix) :])
        other = parse_instant(name, "window")
        if other == window:
            continue
        if _holds(store, other, digest):
            found.append(name)
        elif clock.now(store) - store.modified(path) < UNDER_WAY_MAX and not _was_taken_out(store, other, digest):
            raise TryAgain(f"the same bytes are landing in window {name} just now; run the same again in a few minutes")
    return sorted(found)


def _holds(store: ObjectStore, window: datetime, digest: str) -> bool:
    manifest = read_manifest(store, window)
    return manifest is not None and any(file.digest == digest for file in manifest.received)


def _was_taken_out(store: ObjectStore, window: datetime, digest: str) -> bool:
    """Whether an earlier revision of the window had the bytes, so that they are not landing now."""
    newest = read_manifest(store, window)
    earlier = (read_manifest(store, window, number) for number in range(1, 0 if newest is None else newest.revision))
    return any(any(file.digest == digest for file in manifest.received) for manifest in earlier if manifest is not None)
