"""What status and compact say of the two bounds of a store.

Belongs here: one line of it. Does not belong here: the figures (recon.state.amplification).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recon.cli.screen import NOTHING, say

_WHAT = {"disk": "disk ÷ live", "writes": "written ÷ changed"}


def say_bounds(figures: Mapping[str, Any]) -> None:
    """``disk ÷ live: 1.21 (bound 1.5); written ÷ changed: 1.62``: both ratios, and the bound of the one that is configured."""
    parts = []
    for name, what in _WHAT.items():
        ratio, bound = figures[name], figures[f"{name}_bound"]
        text = f"{what}: {NOTHING if ratio is None else f'{ratio:.2f}'}"
        if figures["bound"] == name:
            text += f" (bound {bound:g})" if ratio is None or ratio <= bound else f" (above its bound {bound:g} until the next compaction)"
        parts.append(text)
    say("; ".join(parts))
