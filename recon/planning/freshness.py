"""Freshness: how late the watermark is, how late it may be, and what the next window waits for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from recon.config import Config
from recon.planning import closing
from recon.state.timeline import State
from recon.storage.port import ObjectStore


@dataclass(frozen=True)
class Freshness:
    """``lag``: from the end of the watermark's window until now; from the start of the grid where there is no watermark yet.
    ``waits_for``: one sentence on the window after the watermark."""

    watermark: str
    lag: timedelta
    allowed: timedelta
    waits_for: str

    @property
    def fresh(self) -> bool:
        return self.lag <= self.allowed


def freshness(store: ObjectStore, config: Config, state: State, now: datetime) -> Freshness:
    """The watermark at ``now``. Reads only the next window."""
    after = config.grid.after(config.grid.parse(state.watermark)) if state.watermark else config.grid.start
    return Freshness(state.watermark, now - after, config.freshness, closing.why_not(store, config, state, after, now))
