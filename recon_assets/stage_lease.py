"""The lease that a run holds while it is at a stage: how others see that it lives, and that it does not any more.

Dagster keeps a run whose process was killed as STARTED for ever. So whoever wants to know what is in flight asks the store.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from recon.errors import WrongUsage
from recon.storage import lease
from recon.storage.port import ObjectStore

HEARTBEAT = "RECON_HEARTBEAT_S"
"""Environment: after how many seconds of silence a run is taken for dead."""
_HEARTBEAT_S = 60.0


def heartbeat_s() -> float:
    """Time to live of a stage's lease. Raises WrongUsage where $RECON_HEARTBEAT_S is no number of seconds above 0."""
    told = os.environ.get(HEARTBEAT, "")
    try:
        seconds = float(told) if told else _HEARTBEAT_S
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86_400:
        raise WrongUsage(f"{HEARTBEAT}: {told!r} is no number of seconds from 0 to 86,400")
    return seconds


def lease_of(stage: str) -> str:
    """The lease of the one run that is at a stage; those beside it (a backfill) lie below it, by their run's id."""
    return f"stages/{stage}"


@contextmanager
def at_work(store: ObjectStore, stage: str, run_id: str) -> Iterator[None]:
    """Holds the stage's lease in the run's name while the block lasts; beside another run a lease of one's own. Nothing is refused:
    the timeline keeps two that do the same work apart."""
    ttl_s, name = heartbeat_s(), lease_of(stage)
    held = lease.acquire(store, name, run_id, ttl_s) or lease.acquire(store, f"{name}/{run_id}", run_id, ttl_s)
    if held is None:  # an attempt of the same run was cut off just now; its lease runs out by itself
        yield
        return
    with held.keeping():
        yield
