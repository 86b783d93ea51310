"""Figures for monitoring: windows by state, the watermark, artifacts by status. They cost the windows that wait, and no record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from recon.config import Config
from recon.model.windows import name_of, parse_instant
from recon.planning import quarantine
from recon.planning.due import due, peek
from recon.state.timeline import Mark, State
from recon.storage.port import ObjectStore


@dataclass(frozen=True)
class Monitored:
    """``windows``: state → number; a window may be in several: short ones are done, and late ones in any other state or in none.
    ``watermark_end``, ``committed``: seconds since 1970, None if there is none yet. ``artifacts``: status → number."""

    commit: int
    windows: Mapping[str, int]
    watermark_end: float | None
    committed: float | None
    allowed_s: float
    artifacts: Mapping[str, int]


def monitored(store: ObjectStore, config: Config, state: State, now: datetime) -> Monitored:
    """The figures of a state at ``now``."""
    waiting = due(store, config, state, windows=peek(store, state))
    bad = quarantine.windows(store) if waiting.ready else frozenset[str]()
    quarantined = sum(
        manifest.window in bad
        and quarantine.read(store, config.grid.parse(manifest.window), manifest.revision, config.judged_by) is not None
        for manifest in waiting.ready
    )
    marks = Counter(window.marks for window in state.windows.values())
    closed = sum(window.closed for window in state.windows.values())
    windows = {
        "open": len(state.windows) - closed + len([name for name in waiting.open if name not in state.windows]),
        "ready": len(waiting.ready) - quarantined,
        "quarantined": quarantined,
        "unreadable": len(waiting.bad),
        "short": sum(number for mark, number in marks.items() if mark & Mark.SHORT),
        "all_rejected": sum(number for mark, number in marks.items() if mark & Mark.ALL_REJECTED),
        "done": closed,
        "late": late_windows(config, state, now),
    }
    return Monitored(
        state.commit,
        windows,
        config.grid.after(config.grid.parse(state.watermark)).timestamp() if state.watermark else None,
        parse_instant(state.time, "commit").timestamp() if state.time else None,
        config.freshness.total_seconds(),
        {str(status): int(number) for status, number in state.totals.get("statuses", {}).items()},
    )


def late_windows(config: Config, state: State, now: datetime) -> int:
    """The windows that ended more than ``freshness`` ago and are not closed and committed."""
    grid, before = config.grid, now - config.freshness
    first = grid.index(grid.parse(state.watermark)) + 1 if state.watermark else 0
    last = grid.index(before) if before >= grid.start else -1
    last -= last >= 0 and grid.after(grid.at(last)) > before  # it has not ended
    if last < first:
        return 0
    begin, end = name_of(grid.at(first)), name_of(grid.at(last))  # names sort by time
    return last - first + 1 - sum(window.closed and begin <= name <= end for name, window in state.windows.items())
