"""Verifies landed files: the files of every manifest are there, with their digests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recon.intake import landing_log
from recon.intake.manifests import LandedFile, Manifest, landed_windows
from recon.model.windows import parse_instant
from recon.storage import layout
from recon.storage.documents import RESTORE
from recon.storage.port import NotFound, ObjectStore
from recon.storage.scratch import object_digest
from recon.verification.findings import Findings
from recon.verification.reduced import _manifests, _revisions_named
from recon.verification.timeline import History

if TYPE_CHECKING:
    from collections.abc import Callable


def check_landed(store: ObjectStore, history: History, findings: Findings, progress: Callable[[str, float], None]) -> set[str]:
    """Checks the manifests of every window and the bytes of every file that they name. Each commit, reduction and quarantine must have its
    manifest, and each manifest its note in the landing log.

    Returns the paths of the damaged files."""
    damaged: set[str] = set()
    required, (noted, _) = _revisions_named(store, history), landing_log.since(store)
    newest = landed_windows(store)
    windows = sorted({*newest, *required})
    for done, name in enumerate(windows):
        progress(name, done / len(windows))
        window = parse_instant(name, "window")
        if newest.get(name, 0) > noted.get(name, 0):
            findings.add(
                f"{layout.LANDINGS}: window {name}: the note of its revision {newest[name]} is gone, so that no run would find it; "
                f"{RESTORE}, or 'recon replay {name}'"
            )
        manifests = _manifests(store, name, history, findings)
        for revision, by in sorted(required.get(name, {}).items()):
            if revision not in manifests:
                findings.add(f"{layout.manifest(window, revision)}: window {name}: the manifest is gone though {by} names it; {RESTORE}")
        seen: set[str] = set()
        for manifest in manifests.values():
            if manifest is not None:
                damaged |= _check_files(store, manifest, seen, findings)
    return damaged


def _check_files(store: ObjectStore, manifest: Manifest, seen: set[str], findings: Findings) -> set[str]:
    damaged = set()
    for file in manifest.files:
        if file.path in seen:
            continue
        seen.add(file.path)
        if file.origin:
            _check_origin(store, manifest, file, findings)
        try:
            size, digest = store.size(file.path), object_digest(store, file.path)
            wrong = f"has {size} bytes, its manifest says {file.bytes}" if size != file.bytes else ""
            if not wrong and digest != file.digest:
                wrong = "has another SHA-256 than its manifest says"
        except NotFound:
            wrong = "is gone"
        if wrong:
            damaged.add(file.path)
            findings.add(f"{file.path}: window {manifest.window}: the landed file {file.name} {wrong}; {RESTORE}")
    return damaged


def _check_origin(store: ObjectStore, manifest: Manifest, file: LandedFile, findings: Findings) -> None:
    """Checks that the received bytes that a source made a landed file of are there, and the rows that it rejected."""
    digest, rejects = str(file.origin.get("digest", "")), file.origin.get("rejects")
    kept = layout.received(digest)
    if not any(object_digest(store, path) == digest for path in store.list(kept)):
        findings.add(
            f"{kept}: window {manifest.window}: the bytes of {file.origin.get('file')} as received are gone or damaged; {RESTORE}, or "
            "deliver the file again"
        )
    if rejects is not None and not store.exists(str(rejects)):
        findings.add(f"{rejects}: window {manifest.window}: the rows that were rejected of {file.origin.get('file')} are gone; {RESTORE}")
