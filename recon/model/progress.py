"""The callback for progress, and the name of a span of windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Progress(Protocol):
    """Receives the progress of a run. ``share``: of the stage's work on these windows that is done, 0 to 1."""

    def __call__(self, stage: str, windows: str, share: float) -> None: ...


def silent(stage: str, windows: str, share: float) -> None:
    """Ignores progress."""


def spanned(windows: Sequence[str]) -> str:
    """``2026-11-01T00:00Z``, or ``2026-11-01T00:00Z..2026-11-01T05:00Z`` for several."""
    return windows[0] if len(windows) == 1 else f"{windows[0]}..{windows[-1]}"
