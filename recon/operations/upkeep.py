"""Upkeep, once a night: makes certificates that dead runs did not make, and removes the files that they left."""

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
from recon.state.sweep import Swept, sweep
from recon.state.timeline import State, Timeline
from recon.storage import clock, lease
from recon.storage.local import LocalStore
from recon.storage.port import ObjectStore

GRACE = timedelta(days=1)
"""How long abandoned temporary files and released leases stay."""


@dataclass(frozen=True)
class Tidied:
    """Numbers of certificates that were made, and of pre-fetched files, temporary files and leases that were removed; what was compacted
    and swept."""

    certificates: int
    prefetched: int
    temporary: int
    leases: int
    compacted: Compacted
    swept: Swept


def tidy(store: ObjectStore, config: Config, state: State, now: datetime) -> Tidied:
    """Certifies, compacts and sweeps. A second call finds nothing to do. Active runs lose nothing that they need."""
    certificates = certify_windows(store, config, state, uncertified(store, config, state))
    note_certified(store, config, state, at_most=len(state.windows))
    Timeline(store).mend_checkpoints()
    _note_landings(store, state)
    swept = 0
    for path, found in prefetched_files(store):
        # A file is useless if it cannot be read, or if the state has its revisions or newer ones.
        if found is None or all(state.revision(name) >= revision for name, revision in found.revisions.items()):
            for one in [path] if found is None else found.paths:
                store.delete(one)
            swept += 1
    exchange.sweep_requests(store, now)
    temporary = store.sweep_temporary(GRACE.total_seconds()) if isinstance(store, LocalStore) else 0
    compacted = compact(store, config, Timeline(store))
    leases = lease.sweep(store, now - GRACE)
    gone = sweep_store(store, config, Timeline(store), now)
    sync(store, config, Timeline(store))  # last, because it may fail; until it succeeds, sweeps keep what the table points to
    return Tidied(len(certificates), swept, temporary, leases, compacted, gone)


def compact_and_sweep(store: ObjectStore, config: Config, progress: Progress, always: bool = False) -> tuple[Compacted, Swept]:
    """Rewrites mostly superseded part-files if that is due (or ``always``), then sweeps."""
    timeline = Timeline(store)
    done = compact(store, config, timeline, lambda share: progress("compact", "", share), always)
    return done, sweep_store(store, config, timeline, clock.now(store))


def sweep_store(store: ObjectStore, config: Config, timeline: Timeline, now: datetime) -> Swept:
    """Sweeps the state, except objects that index tables point to. See recon.state.sweep."""
    return sweep(store, config, timeline, now, lambda: builds.needed(store, timeline) if config.index.kind == "dynamodb" else set())


def _note_landings(store: ObjectStore, state: State) -> None:
    """Repeats the notes of landings that wait: followers miss a note by a machine with a wrong clock."""
    for name, revision in landing_log.since(store)[0].items():
        if revision > state.revision(name):
            landing_log.note(store, parse_instant(name, "window"), revision)
