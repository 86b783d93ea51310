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
from recon.state.reduced import Figures

VERSION = "recon/data_version"
"""The name under which a stage's metadata hand it to the report; it is not shown as metadata."""
_COUNTED = ("arrived", "counted", "duplicates", "suppressed", "rejected", "conflicts", "measures")


def of_files(manifest: Manifest) -> dict[str, str]:
    """Of a window's files."""
    return _version(sorted((file.name, file.digest) for file in manifest.files), manifest.closed)


def of_reduced(figures: Figures) -> dict[str, str]:
    """Of a reduced window."""
    return _version(figures.rules, figures.content or figures.revision)


def of_committed(committed: Mapping[str, Any], *more: object) -> dict[str, str]:
    """Of a committed window: also what counts in it, which the windows around it may change. ``more``: what else it says. Entries of
    earlier versions do not tell the content, so there each revision counts as new."""
    content = committed.get("content") or committed["revision"]
    return _version(content, {name: committed.get(name) for name in _COUNTED}, *more)


def _version(*parts: object) -> dict[str, str]:
    return {VERSION: hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]}
