"""The sensor that keeps a reconciliation up to date by itself.

Belongs here: which block of windows is started next, and saying exactly why nothing is. Does not belong here: what is due
(recon.pipeline) and doing it (recon_assets).

A tick takes the oldest block of consecutive windows that are closed and not done, up to the cap. A gap or a bad window does not hold up
later ones. A block that fails on its data is halved until the bad window stands alone; that one is left out until it is corrected,
which makes a new revision. Any other failure is tried again, ever later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg

from jobs.stage_jobs import EVERYTHING, job_name
from recon.batches import Manifest, read_manifest
from recon.config import Config
from recon.errors import ReconError
from recon.pipeline import Due, due, ranges
from recon.store import ObjectStore
from recon.timeline import Timeline
from recon_assets.failures import FAILURE_TAG
from recon_assets.grid import range_tags
from recon_assets.readiness import Work
from resources.stores import resource_key

BLOCK_TAG = "recon/block"
INTERVAL_S = 30
WAIT_S, WAIT_S_MAX = 60, 3600
_IN_FLIGHT = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Earlier:
    """An earlier run over a block at the same revisions that did not succeed. ``failure``: the class of its error, if it had one."""

    run_id: str
    failure: str
    ended: datetime


@dataclass
class Choice:
    """The block to start, if any, and why others were passed over."""

    block: Sequence[Manifest] = ()
    attempt: int = 1
    passed: list[str] = field(default_factory=list)


def due_windows_sensor(config: Config) -> dg.SensorDefinition:
    """``<name>_due_windows``: starts ``<name>_everything`` over what is closed and not done. On by default."""
    store = resource_key(config.name)

    @dg.sensor(
        name=f"{config.name}_due_windows",
        job_name=job_name(config, EVERYTHING),
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Takes the oldest block of consecutive windows that are closed and not done through all stages.",
        required_resource_keys={store},
    )
    def due_windows(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        try:
            return _tick(config, getattr(context.resources, store).open(), context.instance)
        except ReconError as error:
            return dg.SkipReason(str(error))

    return due_windows


def _tick(config: Config, store: ObjectStore, instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    busy = instance.get_run_records(dg.RunsFilter(job_name=job_name(config, EVERYTHING), statuses=_IN_FLIGHT), limit=1)
    if busy:
        run = busy[0].dagster_run
        return dg.SkipReason(
            f"run {run.run_id} is still {run.status.value} since {busy[0].create_timestamp:%Y-%m-%dT%H:%MZ}; "
            "if its process is gone, terminate it with 'force termination'"
        )
    waiting = due(store, config, Work(store, config, Timeline(store)).head())
    now = datetime.now(UTC)
    choice = choose(config, waiting, lambda digest: _earlier(instance, digest), now)
    if not choice.block:
        return dg.SkipReason(_why_nothing(config, store, waiting, choice))
    first, last, digest = choice.block[0].window, choice.block[-1].window, digest_of_block(choice.block)
    return dg.RunRequest(
        run_key=f"{config.name}:{EVERYTHING}:{first}..{last}:{digest}:{choice.attempt}",
        tags={**range_tags(first, last), BLOCK_TAG: digest},
    )


def digest_of_block(block: Sequence[Manifest]) -> str:
    """Names the windows *and* their revisions: a window that was corrected is another block, with no failures so far."""
    return hashlib.sha256(";".join(f"{one.window}/{one.revision}" for one in block).encode()).hexdigest()[:16]


def choose(config: Config, waiting: Due, earlier: Callable[[str], list[Earlier]], now: datetime) -> Choice:
    """The oldest block that may be started at ``now``, given the runs that each block had before."""
    choice = Choice()
    for whole in ranges(config, waiting.ready):
        for block in _parts(whole, earlier):
            runs = earlier(digest_of_block(block))
            named = block[0].window if len(block) == 1 else f"{block[0].window}..{block[-1].window}"
            if any(run.failure == "WrongInput" for run in runs):
                choice.passed.append(f"{named} is left out since run {runs[0].run_id} failed on its data; correct the file and land it")
                continue
            wait = timedelta(seconds=min(WAIT_S_MAX, WAIT_S * 2 ** min(10, len(runs) - 1))) if runs else timedelta(0)
            if runs and now < (again := max(run.ended for run in runs) + wait):
                choice.passed.append(f"{named} is tried again at {again:%H:%M:%SZ}: run {runs[0].run_id} did not succeed")
                continue
            return Choice(block, len(runs) + 1, choice.passed)
    return choice


def _parts(block: list[Manifest], earlier: Callable[[str], list[Earlier]]) -> Iterator[list[Manifest]]:
    """The block, or where it failed on its data its halves, until a bad window stands alone."""
    if len(block) > 1 and any(run.failure == "WrongInput" for run in earlier(digest_of_block(block))):
        middle = len(block) // 2
        yield from _parts(block[:middle], earlier)
        yield from _parts(block[middle:], earlier)
    else:
        yield block


def _earlier(instance: dg.DagsterInstance, digest: str) -> list[Earlier]:
    """Runs over a block that failed or were cancelled, newest first."""
    statuses = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    records = instance.get_run_records(dg.RunsFilter(tags={BLOCK_TAG: digest}, statuses=statuses))
    return [
        Earlier(record.dagster_run.run_id, record.dagster_run.tags.get(FAILURE_TAG, ""), record.update_timestamp.replace(tzinfo=UTC))
        for record in records
    ]


def _why_nothing(config: Config, store: ObjectStore, waiting: Due, choice: Choice) -> str:
    told = list(choice.passed)
    for name in waiting.open:
        manifest = read_manifest(store, config.grid.parse(name))
        files = len(manifest.files) if manifest else 0
        told.append(f"{name} is not closed: {files} file{'' if files == 1 else 's'} landed; 'recon close {name}' closes it")
    return "; ".join(told) or "everything that is closed is done"
