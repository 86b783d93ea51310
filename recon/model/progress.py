"""The callback that reports progress, and names for spans of windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Progress(Protocol):
    """Told how far a run is; ``share`` counts up to 1 within a stage of a range."""

    def __call__(self, stage: str, windows: str, share: float) -> None: ...


def silent(stage: str, windows: str, share: float) -> None:
    """No progress."""


def spanned(windows: Sequence[str]) -> str:
    """``2026-11-01T00:00Z``, or ``2026-11-01T00:00Z..2026-11-01T05:00Z`` for several."""
    return windows[0] if len(windows) == 1 else f"{windows[0]}..{windows[-1]}"
