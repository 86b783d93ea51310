"""What status and compact say of the two bounds of a store.

Belongs here: one line of it. Does not belong here: the figures (recon.bounds).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recon.cli.screen import NOTHING, say

_WHAT = {"disk": "disk ÷ live", "writes": "written ÷ changed"}


def say_bounds(figures: Mapping[str, Any]) -> None:
    """``disk ÷ live: 1.21, at most 1.5; written ÷ changed: 1.62``: the one that is configured with its bound, the other is told."""
    told = []
    for name, what in _WHAT.items():
        stands = NOTHING if figures[name] is None else f"{figures[name]:.2f}"
        told.append(f"{what}: {stands}" + (f", at most {figures[f'{name}_bound']:g}" if figures["bound"] == name else ""))
    say("; ".join(told))
