"""Puts the next manifest of a window, and restores the list of files where the newest manifest is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from recon.errors import Damaged
from recon.intake import landing_log, manifests
from recon.intake.manifests import CORRECTION, LandedFile, Manifest, read_manifest
from recon.model.windows import name_of
from recon.state import revisions
from recon.storage import layout, numbered, sealing
from recon.storage.port import ObjectStore


def revise(
    store: ObjectStore, window: datetime, change: Callable[[Manifest], Manifest | None], allow_lost: bool = False
) -> tuple[Manifest, bool]:
    """Puts ``change`` of the newest manifest as the next one, or nothing where ``change`` returns None. ``change`` is called again where
    another writer put a manifest first. ``allow_lost``: see ``newest_manifest``.

    Returns the newest manifest, and whether this call put it."""

    def put() -> tuple[Manifest, bool]:
        current = newest_manifest(store, window, allow_lost)
        revised = change(current)
        if revised is None:
            return current, False
        now = max(datetime.now(UTC).isoformat(timespec="seconds"), current.time)  # the clocks of two machines differ
        revised = replace(revised, revision=current.revision + 1, by=manifests.operator(), time=now, previous=current.digest)
        body = revised.to_json()
        landing_log.note(store, window, revised.revision)
        store.put_new(layout.manifest(window, revised.revision), [body])
        return replace(revised, digest=sealing.digest_of(body)), True

    return numbered.put_next(put)


def newest_manifest(store: ObjectStore, window: datetime, allow_lost: bool = False) -> Manifest:
    """The newest manifest of a window, with revision 0 where no file ever landed. A lost manifest is restored from the figures of its
    reduction or its certificate.

    Raises Damaged where neither exists, unless ``allow_lost``: then the files of the newest manifest left get the lost revision."""
    none = Manifest(name_of(window), 0, (), closed=False, cause="")
    while True:
        current = read_manifest(store, window) or none
        known = revisions.known(store, window)
        if known <= current.revision:
            return current
        if (read_manifest(store, window) or none).revision == current.revision:
            break  # otherwise it was put between the two reads
    listed = revisions.files_of(store, window, known)
    if listed is not None:
        here = {file.name: file for file in current.files}
        files = (LandedFile(**file) for file in listed[0])
        kept = tuple(replace(file, **_only_in_manifest(here.get(file.name), file)) for file in files)
        return replace(current, revision=known, files=kept, closed=listed[1] or current.closed, expected=listed[2], cause="", reason="")
    if allow_lost:
        return replace(current, revision=known)
    raise Damaged(
        f"{layout.manifest(window, known)}: the manifest is gone and no other object lists its files; restore it from a copy of the "
        f"store, or go on from revision {current.revision} with 'recon replay {name_of(window)}'"
    )


def _only_in_manifest(before: LandedFile | None, file: LandedFile) -> dict[str, Any]:
    """The fields of a file that only manifests hold: declared totals, and a correction's reason and maker."""
    if before is not None and before.digest == file.digest:
        return {"expect": before.expect, "reason": before.reason, "by": before.by, "origin": before.origin}
    return {"reason": "the manifest that said why is lost"} if file.name.startswith(CORRECTION) else {}
