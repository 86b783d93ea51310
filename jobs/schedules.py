"""Schedules: closed windows on the clock, as an alternative to the sensors, and upkeep at night."""

from collections.abc import Iterator
from dataclasses import asdict

import dagster as dg

from jobs.asset_jobs import EVERYTHING, job_name
from recon.config import Config
from recon.errors import ReconError
from recon.operations.upkeep import tidy
from recon.planning.due import due_after_closing, waiting
from recon.planning.ranges import ranges
from recon.reading.breaks import by_status
from recon.reading.day import day_report, last_day_over
from recon.stages.work import Work
from recon.state.kept_rules import rules_of
from recon.state.timeline import State
from recon.storage import clock
from recon.storage.roles import role_of
from recon_assets.assets import CERTIFICATES, asset_key
from recon_assets.day_metadata import of_day
from recon_assets.metadata import of_statuses
from recon_assets.partitions import chosen_tags, cron_of, key_of, zone_of
from recon_assets.retries import COMPUTE, errors_as_failures
from resources.stores import resource_key

UPKEEP = "upkeep"
_RUNS_MAX = 10


def reconciliation_schedules(config: Config) -> list[dg.ScheduleDefinition]:
    """The schedules ``<name>_on_the_clock`` (off by default) and ``<name>_nightly`` (on)."""
    nightly = dg.ScheduleDefinition(
        name=f"{config.name}_nightly",
        job_name=job_name(config, UPKEEP),
        cron_schedule="17 3 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Certifies windows whose last change has no certificate, and deletes files that dead runs left behind.",
    )
    return [_on_the_clock(config), nightly]


def _on_the_clock(config: Config) -> dg.ScheduleDefinition:
    store = resource_key(config.name)

    @dg.schedule(
        name=f"{config.name}_on_the_clock",
        job_name=job_name(config, EVERYTHING),
        cron_schedule=cron_of(config.grid.every),
        execution_timezone=zone_of(config.grid),
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Processes closed windows through all stages, once per window. Turn the sensors off when you turn this on.",
        required_resource_keys={store},
    )
    def on_the_clock(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        try:
            work: Work = getattr(context.resources, store).work(config)
            opened, state = work.store, work.head()
            now = clock.now(opened)
            todo = due_after_closing(opened, config, state, look=lambda: waiting(opened, state))
        except ReconError as error:
            yield dg.SkipReason(str(error))
            return
        blocks = list(ranges(config, todo.ready))[:_RUNS_MAX]
        for block in blocks:
            first, last = block[0].window, block[-1].window
            # With the tick's time in its key, a range that failed is launched again by a later tick.
            yield dg.RunRequest(run_key=f"{config.name}:{first}..{last}:{now:%Y-%m-%dT%H:%MZ}", tags=chosen_tags(config.grid, first, last))
        if not blocks:
            yield dg.SkipReason("everything that is closed is done")

    return on_the_clock


def _by_status(work: Work, config: Config, state: State) -> dg.AssetObservation:
    """Artifacts and money by status, observed on the newest committed window. Nightly, since it reads all records."""
    figures = of_statuses(by_status(work.store, config, state))
    newest = max(state.windows)
    return dg.AssetObservation(asset_key(config.name, "stateful_artifacts"), partition=key_of(config.grid, newest), metadata=figures)


def _day(work: Work, config: Config, state: State) -> dg.AssetObservation | None:
    """The report of the newest day that is over, observed on its last processed window; None before there is one."""
    day = last_day_over(config, state, clock.now(work.store))
    if day is None:
        return None
    report = day_report(work.store, config, rules_of(work.store, config, state.rules), state, day)
    window = report.through or max(state.windows)
    return dg.AssetObservation(asset_key(config.name, CERTIFICATES), partition=key_of(config.grid, window), metadata=of_day(report))


def upkeep_job(config: Config, pool: str | None = None) -> dg.JobDefinition:
    """The job ``<name>_upkeep``: one step, without windows."""
    store = resource_key(config.name)

    @dg.op(name=f"{config.name}_{UPKEEP}_step", required_resource_keys={store}, pool=pool or f"{config.name}_{UPKEEP}")
    def step(context: dg.OpExecutionContext) -> None:
        with errors_as_failures(context, COMPUTE), role_of(UPKEEP):
            work: Work = getattr(context.resources, store).work(config)
            done = tidy(work.store, config, work.head(), clock.now(work.store))
            context.add_output_metadata(asdict(done))
            context.log.info(str(done))
            if (state := work.head()).runs:
                context.log_event(_by_status(work, config, state))
                if (observed := _day(work, config, state)) is not None:
                    context.log_event(observed)

    @dg.job(
        name=job_name(config, UPKEEP),
        description="Certifies windows whose last change has no certificate, and deletes files that dead runs left behind.",
        tags={"recon/reconciliation": config.name, "recon/stage": f"{config.name}.{UPKEEP}"},
        executor_def=dg.in_process_executor,
    )
    def upkeep() -> None:
        step()

    return upkeep
