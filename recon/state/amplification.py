"""Space and write amplification: part-files' bytes per live byte, and bytes written per byte changed, as sums that commits carry.

Bytes of part-files are those of their records. Their heads, a few hundred bytes each, are not counted: they are never superseded, and a
small state would seem worth compacting forever.

What is counted: docs/decisions/007-compaction-and-sweeping.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from recon.config import Config
from recon.state.runs import ENTRY_BYTES


@dataclass(frozen=True)
class StoredBytes:
    """Sums in bytes, under ``bytes`` of each commit's totals.

    ``parts``: part-files with live records. ``live``: the live records in them. Since the first commit or the last rebuild: ``changed``,
    records that merges wrote; ``written``, part-files and runs that merges, tiers and compactions wrote, ENTRY_BYTES for each entry of a
    run."""

    parts: int = 0
    live: int = 0
    written: int = 0
    changed: int = 0

    @staticmethod
    def of(totals: Mapping[str, Any]) -> StoredBytes:
        """The sums in the totals of a state. Commits of earlier versions have fewer of them; the others begin at 0."""
        return StoredBytes(**totals.get("bytes", {}))

    def in_totals(self, totals: Mapping[str, Any]) -> dict[str, Any]:
        return {**totals, "bytes": dict(vars(self))}

    def merged(self, written: int, superseded: int, entries: int) -> StoredBytes:
        """After a merge that wrote ``entries`` records of ``written`` bytes and superseded records of ``superseded`` bytes."""
        return StoredBytes(
            self.parts + written,
            self.live + written - superseded,
            self.written + written + entries * ENTRY_BYTES,
            self.changed + written,
        )

    def spent(self, written: int) -> StoredBytes:
        """After tiers or a compaction wrote ``written`` bytes."""
        return replace(self, written=self.written + written)

    def since(self, then: StoredBytes) -> StoredBytes:
        """The differences from ``then``, an earlier commit."""
        return StoredBytes(*(now - before for now, before in zip(vars(self).values(), vars(then).values(), strict=True)))

    def plus(self, other: StoredBytes) -> StoredBytes:
        return StoredBytes(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))


def allows(config: Config, stored: StoredBytes, added: int) -> bool:
    """Whether tiers or a compaction may write ``added`` bytes. Always where ``compaction.bound`` is ``disk``."""
    return config.compaction.bound == "disk" or stored.written + added <= config.compaction.writes * stored.changed


def figures(config: Config, totals: Mapping[str, Any]) -> dict[str, Any]:
    """Both amplifications with their configured bounds; None where nothing is live, or nothing has changed."""
    stored, bounds = StoredBytes.of(totals), config.compaction
    return {
        "bound": bounds.bound,
        "disk": round(stored.parts / stored.live, 3) if stored.live else None,
        "disk_bound": bounds.disk,
        "writes": round(stored.written / stored.changed, 3) if stored.changed else None,
        "writes_bound": bounds.writes,
    }
