"""The two bounds of a store, disk by what is live and bytes written by what changed: the sums that commits carry, and what they allow.

What is counted and what is not: docs/decisions/007-compaction-and-sweeping.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from recon.config import Config
from recon.state.runs import ENTRY_BYTES


@dataclass(frozen=True)
class StoredBytes:
    """Sums in bytes that each commit carries on under ``bytes`` of its totals.

    ``parts``: all part-files that hold anything live. ``live``: the live records in them. Since the first commit, or the last rebuild:
    ``changed``, the records that merges wrote; ``written``, all that merges, tiers and compactions put into part-files and runs, where a
    run counts ENTRY_BYTES an entry."""

    parts: int = 0
    live: int = 0
    written: int = 0
    changed: int = 0

    @staticmethod
    def of(totals: Mapping[str, Any]) -> StoredBytes:
        """Out of the totals of a state. Commits of an earlier recon carried fewer of them; the others begin at 0."""
        return StoredBytes(**totals.get("bytes", {}))

    def in_totals(self, totals: Mapping[str, Any]) -> dict[str, Any]:
        return {**totals, "bytes": dict(vars(self))}

    def merged(self, written: int, superseded: int, entries: int) -> StoredBytes:
        """After a merge that wrote ``entries`` records of ``written`` bytes in the place of some of ``superseded`` bytes."""
        return StoredBytes(
            self.parts + written,
            self.live + written - superseded,
            self.written + written + entries * ENTRY_BYTES,
            self.changed + written,
        )

    def spent(self, written: int) -> StoredBytes:
        """After tiers or a compaction wrote so many bytes."""
        return replace(self, written=self.written + written)

    def since(self, then: StoredBytes) -> StoredBytes:
        """What came between."""
        return StoredBytes(*(now - before for now, before in zip(vars(self).values(), vars(then).values(), strict=True)))

    def plus(self, more: StoredBytes) -> StoredBytes:
        return StoredBytes(*(one + other for one, other in zip(vars(self).values(), vars(more).values(), strict=True)))


def allows(config: Config, held: StoredBytes, more: int) -> bool:
    """Whether tiers or a compaction may write ``more`` bytes. Always, unless bytes written are what is bounded."""
    return config.compaction.bound == "disk" or held.written + more <= config.compaction.writes * held.changed


def figures(config: Config, totals: Mapping[str, Any]) -> dict[str, Any]:
    """Which of the two is bounded, and where both stand; None where nothing is live or has changed."""
    held, bounds = StoredBytes.of(totals), config.compaction
    return {
        "bound": bounds.bound,
        "disk": round(held.parts / held.live, 3) if held.live else None,
        "disk_bound": bounds.disk,
        "writes": round(held.written / held.changed, 3) if held.changed else None,
        "writes_bound": bounds.writes,
    }
