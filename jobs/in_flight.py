"""Finds the runs that execute a stage, and takes over from dead runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg

from recon.storage import lease
from recon.storage.port import ObjectStore
from recon_assets.partitions import RANGE_END, RANGE_START
from recon_assets.retries import AGAIN_AT_TAG
from recon_assets.stage_lease import heartbeat_s, lease_of

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
UNHEARD_S = 120.0
"""Seconds that a run may take to acquire its lease, at least: a busy machine is slow to load everything."""
_RUNS_MAX = 20


@dataclass
class InFlight:
    """``busy``: texts about running runs. ``failed``: texts about runs that were found dead. ``unheard``: run id → ISO time since which
    it has no lease; the argument ``before`` of the next ``look``."""

    busy: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    unheard: dict[str, str] = field(default_factory=dict)


def look(
    instance: dg.DagsterInstance, store: ObjectStore, job: str, stages: Sequence[str], before: Mapping[str, str], now: datetime
) -> InFlight:
    """The runs at one of ``stages``: those with a live lease, and runs of ``job`` that have not acquired their lease yet.

    Fails a run in Dagster if its heartbeats have stopped, and releases its lease; also a run without a lease for too long."""
    found, living = InFlight(), set[str]()
    for stage in stages:
        for holding in take_over(instance, store, stage, found):
            living.add(holding.holder)
            since, beat = _clock(holding.since), _clock(holding.beat)
            found.busy.append(f"run {holding.holder} is at {stage} since {since}, last heartbeat at {beat}")
    for record in instance.get_run_records(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=_RUNS_MAX):
        run = record.dagster_run
        if run.run_id not in living:
            _without_lease(instance, run, record.create_timestamp, before, now, found)
    return found


def take_over(instance: dg.DagsterInstance, store: ObjectStore, stage: str, found: InFlight) -> list[lease.LeaseHolder]:
    """The live leases of a stage. Fails a run in Dagster if its heartbeats have stopped, adds it to ``found.failed``, and releases its
    lease. Releases the lease of a run that has ended in Dagster at once."""
    living = []
    for name, holding in lease.holders(store, lease_of(stage)).items():
        run = instance.get_run_by_id(holding.holder)  # None for a run of another instance, which only its heartbeat shows
        if not holding.expired and run is not None and run.is_finished:
            # Dagster saw its process end, or a person stopped it: there is nothing to wait for.
            lease.revoke(store, holding)
            found.failed.append(f"run {holding.holder} has ended without giving back {stage}; its windows are taken over")
            continue
        if not holding.expired:
            living.append(holding)
            continue
        if run is not None and datetime.now(UTC) - _again_at(run) <= _unheard():
            continue  # it waits for its next attempt, or begins it, and could not release its lease, since the disk was full
        reason = f"run {holding.holder}: no heartbeat since {holding.beat:%Y-%m-%dT%H:%M:%SZ}; its process is dead"
        _fail(instance, holding.holder, reason, found)
        if (taken := lease.acquire(store, name, "sensor", holding.ttl_s)) is not None:
            taken.release()
    return living


def _without_lease(
    instance: dg.DagsterInstance, run: dg.DagsterRun, created: datetime, before: Mapping[str, str], now: datetime, found: InFlight
) -> None:
    """Handles a run without a lease: it is queued, starting, waiting for its next attempt, just done, or dead."""
    if run.status is dg.DagsterRunStatus.QUEUED:
        found.busy.append(f"run {run.run_id} waits in Dagster's queue since {_clock(created)}")
        return
    since = max(datetime.fromisoformat(before.get(run.run_id, now.isoformat())), _again_at(run))
    if now - since <= _unheard():
        found.unheard[run.run_id] = since.isoformat()
        status = "waits for its next attempt at" if since > now else f"is {run.status.value} without a heartbeat yet, since"
        found.busy.append(f"run {run.run_id} {status} {_clock(since)}")
        return
    _fail(instance, run.run_id, f"run {run.run_id}: {run.status.value} but without a heartbeat since {_clock(since)}", found)


def _unheard() -> timedelta:
    """How long a run may take to acquire its lease."""
    return timedelta(seconds=max(UNHEARD_S, 2 * heartbeat_s()))


def _again_at(run: dg.DagsterRun) -> datetime:
    """The time of the run's next or current attempt; long ago if it was never retried."""
    time = run.tags.get(AGAIN_AT_TAG)
    return datetime.fromisoformat(time) if time else datetime.min.replace(tzinfo=UTC)


def rest_of_range(instance: dg.DagsterInstance, store: ObjectStore, last: str) -> str:
    """A text about the run at reduce whose range continues after the partition ``last``; "" if there is none. The merge waits for it, since
    one merge of the range costs less than several."""
    for holding in lease.holders(store, lease_of("reduce")).values():
        run = None if holding.expired else instance.get_run_by_id(holding.holder)
        first, end = (run.tags.get(name, "") if run and not run.is_finished else "" for name in (RANGE_START, RANGE_END))
        if first <= last < end:  # keys sort by time
            return f"run {holding.holder} is at it up to {end}"
    return ""


def _fail(instance: dg.DagsterInstance, run_id: str, reason: str, found: InFlight) -> None:
    run = instance.get_run_by_id(run_id)
    if run is not None and not run.is_finished:
        instance.report_run_failed(run, f"{reason}; its windows are taken over by the next run")
        found.failed.append(reason)


def _clock(instant: datetime) -> str:
    return f"{(instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC):%H:%M:%SZ}"
