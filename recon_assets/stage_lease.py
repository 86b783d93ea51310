"""The lease that a run holds while it executes a stage; its heartbeats show sensors and other runs that the run is alive.

Dagster shows a run whose process was killed as STARTED for ever, so the leases in the store say what is in flight.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from recon.errors import WrongUsage
from recon.storage import lease
from recon.storage.port import ObjectStore

HEARTBEAT = "RECON_HEARTBEAT_S"
"""Environment variable: seconds without a heartbeat after which a run counts as dead."""
_HEARTBEAT_S = 60.0


def heartbeat_s() -> float:
    """Time to live of a stage's lease, in seconds. Raises WrongUsage if $RECON_HEARTBEAT_S is no number from 0 to 86,400."""
    text = os.environ.get(HEARTBEAT, "")
    try:
        seconds = float(text) if text else _HEARTBEAT_S
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86_400:
        raise WrongUsage(f"{HEARTBEAT}: {text!r} is no number of seconds from 0 to 86,400")
    return seconds


def lease_of(stage: str) -> str:
    """The name of a stage's lease. Further runs at the stage, such as a backfill, hold leases below it, named by run id."""
    return f"stages/{stage}"


@contextmanager
def at_work(store: ObjectStore, stage: str, run_id: str) -> Iterator[None]:
    """Holds the stage's lease for the run, or a lease of its own if another run has it. No run is refused: the timeline resolves two runs
    that do the same work."""
    ttl_s, name = heartbeat_s(), lease_of(stage)
    acquired = lease.acquire(store, name, run_id, ttl_s) or lease.acquire(store, f"{name}/{run_id}", run_id, ttl_s)
    if acquired is None:  # an attempt of this run was killed just now; its lease will expire
        yield
        return
    with acquired.keeping():
        yield
