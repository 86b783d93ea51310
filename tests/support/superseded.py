"""A store most of which is superseded, and sweeps of it after the grace."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import faulty_store
import strategies as s
from histories import carry_out

from recon.api import Reconciliation
from recon.operations.upkeep import sweep_store
from recon.state.timeline import Timeline

YAML = s.STANDARD_YAML + "compaction: {disk: 1.1}\nretention: {grace: 1m}\n"


class Clock:
    """Each sweep an hour later than the one before, so that every grace is over."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC) + timedelta(hours=1)

    def sweep(self, r: Reconciliation) -> Any:
        self.now += timedelta(hours=1)
        return sweep_store(r.store(), r.config, Timeline(r.store()), self.now)


def story(r: Reconciliation, windows: int = 6) -> s.State:
    """Windows that touch the same keys, so that most of what was written is superseded; but for three of the first one, to be rewritten."""
    state = s.State()
    for window in range(windows):
        keys = range(7 if window else 10)
        rows = tuple(s.Row(order_id=f"K{n}", event_id=f"{window}-{n}", amount=f"{n}.25") for n in keys)
        for operation in (s.Land(window, s.File(f"w{window}", rows)), s.Close(window), s.Run((window,))):
            carry_out(r, operation)
            state = s.apply(state, operation)
    return state


class Suspended:
    """A writer that stops before its ``number``-th put under ``prefix``, while the test does something else."""

    def __init__(self, r: Reconciliation, prefix: str, number: int, meanwhile: Callable[[], None]) -> None:
        self.seen, self.prefix, self.number, self.meanwhile = 0, prefix, number, meanwhile
        self.store = faulty_store.WatchedStore(r.store(), before=self.before)

    def before(self, call: faulty_store.Call) -> None:
        if call.kind in ("put_new", "copy_in") and call.path.startswith(self.prefix):
            self.seen += 1
            if self.seen == self.number:
                self.meanwhile()
