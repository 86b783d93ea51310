"""Land: each window's files are in the store and closed by a manifest."""

from __future__ import annotations

from collections.abc import Iterator

from recon.intake.manifests import Manifest
from recon.stages.ready import closed_batches
from recon.stages.work import WindowResult, Windows, Work


def land(work: Work, windows: Windows) -> Iterator[WindowResult[Manifest]]:
    """Yields each window's manifest. ``recon land`` puts files into the store; this stage only checks that the windows are closed.

    Raises NotReady naming the windows that hold no files or are open."""
    for manifest in closed_batches(work, windows):
        yield WindowResult(manifest.window, manifest)
