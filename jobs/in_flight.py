"""What is in flight at a stage, and taking over from a run that died."""

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

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
UNHEARD_S = 120.0
"""How long a run may take to come to its lease, at least: a busy machine needs a while to load everything."""
_RUNS_MAX = 20


@dataclass
class InFlight:
    """``busy``: who is at work, in words. ``failed``: runs that were found dead by this look, in words. ``unheard``: run → since when it
    has been seen without a lease; to be given to the next look."""

    busy: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    unheard: dict[str, str] = field(default_factory=dict)


def look(
    instance: dg.DagsterInstance, store: ObjectStore, job: str, stages: Sequence[str], before: Mapping[str, str], now: datetime
) -> InFlight:
    """Who is at one of ``stages``, by a lease that beats, or as a run of ``job`` that has not come to its lease yet.

    A run whose heart stopped is failed in Dagster and its lease given back. So is one that was seen without a lease for too long."""
    found, living = InFlight(), set[str]()
    for stage in stages:
        for holding in take_over(instance, store, stage, found):
            living.add(holding.holder)
            found.busy.append(f"run {holding.holder} is at {stage} since {_clock(holding.since)}, last heard of at {_clock(holding.beat)}")
    for record in instance.get_run_records(dg.RunsFilter(job_name=job, statuses=_UNFINISHED), limit=_RUNS_MAX):
        run = record.dagster_run
        if run.run_id not in living:
            _without_lease(instance, run, record.create_timestamp, before, now, found)
    return found


def take_over(instance: dg.DagsterInstance, store: ObjectStore, stage: str, found: InFlight) -> list[lease.LeaseHolder]:
    """Who is at the stage. A run whose heart stopped is failed in Dagster, noted in ``found.failed``, and its lease given back. The lease
    of a run that is over in Dagster is given back at once."""
    living = []
    for name, holding in lease.holders(store, lease_of(stage)).items():
        run = instance.get_run_by_id(holding.holder)  # one of another instance is not known here: its heartbeat tells
        if not holding.expired and run is not None and run.is_finished:
            # Dagster saw its process go, or a person stopped it: there is nobody to wait for.
            lease.revoke(store, holding)
            found.failed.append(f"run {holding.holder} has ended without giving back {stage}; its windows are taken over")
            continue
        if not holding.expired:
            living.append(holding)
            continue
        if run is not None and _again_at(run) > datetime.now(UTC):
            continue  # it waits for its next attempt, and could not give its lease back: the disk is full
        told = f"run {holding.holder}: not heard of since {holding.beat:%Y-%m-%dT%H:%M:%SZ}; its process is gone"
        _fail(instance, holding.holder, told, found)
        if (taken := lease.acquire(store, name, "sensor", holding.ttl_s)) is not None:
            taken.release()
    return living


def _without_lease(
    instance: dg.DagsterInstance, run: dg.DagsterRun, created: datetime, before: Mapping[str, str], now: datetime, found: InFlight
) -> None:
    """A run that is queued, on its way to its lease, waiting for its next attempt, just done, or dead."""
    if run.status is dg.DagsterRunStatus.QUEUED:
        found.busy.append(f"run {run.run_id} waits in Dagster's queue since {_clock(created)}")
        return
    since = max(datetime.fromisoformat(before.get(run.run_id, now.isoformat())), _again_at(run))
    if now - since <= timedelta(seconds=max(UNHEARD_S, 2 * heartbeat_s())):
        found.unheard[run.run_id] = since.isoformat()
        said = "waits for its next attempt at" if since > now else f"is {run.status.value} without a heartbeat yet, since"
        found.busy.append(f"run {run.run_id} {said} {_clock(since)}")
        return
    _fail(instance, run.run_id, f"run {run.run_id}: {run.status.value} but without a heartbeat since {_clock(since)}", found)


def _again_at(run: dg.DagsterRun) -> datetime:
    """When the run's next attempt begins or has begun; long ago if there is none."""
    told = run.tags.get(AGAIN_AT_TAG)
    return datetime.fromisoformat(told) if told else datetime.min.replace(tzinfo=UTC)


def rest_of_range(instance: dg.DagsterInstance, store: ObjectStore, last: str) -> str:
    """The run at reduce whose range goes on after the partition ``last``, in words; empty if there is none. What it has done of its range
    is not merged piece by piece: one merge of the whole costs less than several."""
    for holding in lease.holders(store, lease_of("reduce")).values():
        run = None if holding.expired else instance.get_run_by_id(holding.holder)
        first, end = (run.tags.get(name, "") if run and not run.is_finished else "" for name in (RANGE_START, RANGE_END))
        if first <= last < end:  # keys sort as their times do
            return f"run {holding.holder} is at it up to {end}"
    return ""


def _fail(instance: dg.DagsterInstance, run_id: str, told: str, found: InFlight) -> None:
    run = instance.get_run_by_id(run_id)
    if run is not None and not run.is_finished:
        instance.report_run_failed(run, f"{told}; its windows are taken over by the next run")
        found.failed.append(told)


def _clock(instant: datetime) -> str:
    return f"{(instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC):%H:%M:%SZ}"
