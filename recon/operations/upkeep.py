"""Upkeep, once a night: certificates that a died run did not come to, and the files that it left behind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from recon.config import Config
from recon.engines.prefetched import prefetched_files
from recon.intake import landing_log
from recon.model.progress import Progress
from recon.model.windows import parse_instant
from recon.remote import exchange
from recon.serving import builds
from recon.serving.sync import sync
from recon.stages.certify import certify_windows
from recon.state.certificates import note_certified, uncertified
from recon.state.compaction import Compacted, compact
from recon.state.sweep import Swept
from recon.state.sweep import sweep as sweep_state
from recon.state.timeline import State, Timeline
from recon.storage import clock, lease
from recon.storage.local import LocalStore
from recon.storage.port import ObjectStore

GRACE = timedelta(days=1)
"""How long a temporary file that nobody writes to, and a lease that was given back, stay."""


@dataclass(frozen=True)
class Tidied:
    """How many certificates were made, how many pre-fetched files, temporary files and leases were removed, what was compacted and
    swept."""

    certificates: int
    prefetched: int
    temporary: int
    leases: int
    compacted: Compacted
    swept: Swept


def tidy(store: ObjectStore, config: Config, state: State, now: datetime) -> Tidied:
    """Certifies and sweeps. Done again it finds nothing to do; beside runs at work it takes nothing that they need."""
    certificates = certify_windows(store, config, state, uncertified(store, config, state))
    note_certified(store, config, state, at_most=len(state.windows))
    Timeline(store).mend_checkpoints()
    _note_landings(store, state)
    swept = 0
    for path, found in prefetched_files(store):
        # What is committed, or newer than it, will never be merged from this file; what cannot be read is of no use to anybody.
        if found is None or all(state.revision(name) >= revision for name, revision in found.revisions.items()):
            store.delete(path)
            swept += 1
    exchange.sweep_requests(store, now)
    temporary = store.sweep_temporary(GRACE.total_seconds()) if isinstance(store, LocalStore) else 0
    compacted = compact(store, config, Timeline(store))
    leases = lease.sweep(store, now - GRACE)
    gone = sweep(store, config, Timeline(store), now)
    sync(store, config, Timeline(store))  # the last, as it may fail; until it is done a sweep leaves what the table leads to
    return Tidied(len(certificates), swept, temporary, leases, compacted, gone)


def compact_and_sweep(store: ObjectStore, config: Config, progress: Progress, always: bool = False) -> tuple[Compacted, Swept]:
    """Rewrites mostly superseded part-files if that is due (or ``always``), then sweeps."""
    timeline = Timeline(store)
    done = compact(store, config, timeline, lambda share: progress("compact", "", share), always)
    return done, sweep(store, config, timeline, clock.now(store))


def sweep(store: ObjectStore, config: Config, timeline: Timeline, now: datetime) -> Swept:
    """Sweeps the state; what the index tables lead to stays. See recon.state.sweep."""
    return sweep_state(store, config, timeline, now, lambda: builds.needed(store, timeline) if config.index.kind == "dynamodb" else set())


def _note_landings(store: ObjectStore, state: State) -> None:
    """Notes once more what waits: followers pass over the note of a machine whose clock was far off."""
    for name, revision in landing_log.since(store)[0].items():
        if revision > state.revision(name):
            landing_log.note(store, parse_instant(name, "window"), revision)
