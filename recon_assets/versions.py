"""The data version of a window in each asset: what it holds, so that a correction has another one, and a replay that changed nothing the
same.

It is a digest of the window's content and of the rules; revisions and commits are not in it, since a replay has new ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from recon.intake.manifests import Manifest
from recon.stages.work import Work
from recon.state import reduced
from recon.state.reduced import Figures
from recon.storage.port import NotFound

VERSION = "recon/data_version"
"""The name under which a stage's metadata hand it to the report; it is not shown as metadata."""
_COUNTED = ("arrived", "counted", "duplicates", "suppressed", "rejected", "conflicts", "measures")


def of_files(manifest: Manifest) -> dict[str, str]:
    """Of a window's files."""
    return _version(sorted((file.name, file.digest) for file in manifest.files), manifest.closed)


def of_reduced(figures: Figures) -> dict[str, str]:
    """Of a reduced window."""
    return _version(_content(figures))


def of_committed(work: Work, committed: Mapping[str, Any], *more: object) -> dict[str, str]:
    """Of a committed window: also what counts in it, which the windows around it may change. ``more``: what else it says."""
    try:
        content: object = _content(reduced.read(work.store, committed["folder"]))
    except NotFound:  # beyond the history that is kept
        content = committed["revision"]
    return _version(content, {name: committed.get(name) for name in _COUNTED}, *more)


def _content(figures: Figures) -> list[object]:
    """The digests of its files; stores of earlier formats have none, so there each revision counts as new content."""
    return [figures.rules, sorted(figures.digests.items()) or figures.revision]


def _version(*parts: object) -> dict[str, str]:
    return {VERSION: hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]}
