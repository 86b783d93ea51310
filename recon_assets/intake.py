"""The assets in front of ``event_batches``: the files received from sources, and their clean rows, on the same grid of windows."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from recon.config import Config
from recon.errors import NotReady, WrongInput
from recon.intake.sources.arrivals import arrivals
from recon.intake.sources.deliver import Delivered, deliver, process_open
from recon.intake.sources.late import late_files
from recon.intake.sources.load import load_sources
from recon.intake.sources.site import Intake
from recon.intake.sources.standing import standing_of
from recon.intake.sources.tracking import Tracked, by_window
from recon.model.windows import name_of
from recon.stages.work import Windows, Work
from recon.storage.roles import role_of
from recon_assets.assets import STAGE_ASSETS, asset_key
from recon_assets.intake_metadata import in_progress, of_clean, of_processed, of_received, of_stored
from recon_assets.partitions import key_of, partitions_of, windows_asked
from recon_assets.reporting import Reporting, tag
from recon_assets.retries import COMPUTE, errors_as_failures
from recon_assets.stages import PerWindow
from resources.database import SiteDatabase, database_key
from resources.stores import resource_key

RECEIVED, CLEAN, STORED, PROCESSED = "received_files", "clean_files", "records_stored", "records_processed"
DESCRIPTIONS = {
    RECEIVED: "The files of each window as their senders delivered them, kept under their digest. Materializing a window takes what has "
    "arrived in the sources' inboxes.",
    CLEAN: "The rows of a window's received files after their sources' cleaning rules and checks, landed as Parquet of text. Every row of "
    "a file is landed, rejected with file, line and reason, or superseded by a newer delivery.",
    STORED: "The clean rows of sources whose function works on each record, in the record store. A file's records are there once, however "
    "often its messages are delivered.",
    PROCESSED: "The records that a source's function has finished, which land in their window, and those that it could not process: dead "
    "letters, which 'recon dlq' lists, edits and sends again.",
}
LAND = "land"
"""The stage whose role on AWS deliveries take."""
Figures = Callable[[Intake, datetime, Sequence[Tracked]], dict[str, Any]]
FIGURES: dict[str, Figures] = {RECEIVED: of_received, CLEAN: of_clean, STORED: of_stored, PROCESSED: of_processed}


def intake_names(config: Config) -> tuple[str, ...]:
    """The names of the assets in front of ``event_batches``, each downstream of the one before."""
    by_record = any(source.process is not None for source in load_sources(config).sources.values())
    return (RECEIVED, CLEAN, STORED, PROCESSED) if by_record else (RECEIVED, CLEAN)


def intake_pool(config: Config) -> str:
    """The pool of what takes files in, unless another is given."""
    return f"{config.name}_intake"


def intake_assets(config: Config, pool: str | None = None) -> list[dg.AssetsDefinition]:
    """The assets of a reconciliation that has sources."""
    names, pool = intake_names(config), pool or intake_pool(config)
    return [
        _asset(config, name, [asset_key(config.name, before) for before in names[max(0, at - 1) : at]], pool)
        for at, name in enumerate(names)
    ]


def _asset(config: Config, name: str, deps: list[dg.AssetKey], pool: str) -> dg.AssetsDefinition:
    every = [asset_key(config.name, other) for other in (*intake_names(config), *(spec.name for spec in STAGE_ASSETS))]
    store, database = resource_key(config.name), database_key(config.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # as for the six assets of the stages

        @dg.asset(
            key=asset_key(config.name, name),
            deps=deps,
            partitions_def=partitions_of(config.grid),
            backfill_policy=dg.BackfillPolicy.single_run(),
            pool=pool,
            group_name=config.name,
            owners=[f"team:{config.name}"],
            kinds={"file"} if name == RECEIVED else {"parquet"},
            tags={"recon/reconciliation": config.name},
            description=DESCRIPTIONS[name],
            required_resource_keys={store, database},
        )
        def intake(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
            tag(context)
            with errors_as_failures(context, COMPUTE), role_of(LAND):
                windows = windows_asked(config.grid, context.run.tags, datetime.now(UTC))
                opened: SiteDatabase = getattr(context.resources, database)
                made = opened.intake(config, context.run.run_id)
                take_inboxes(made) if name == RECEIVED else process_open(made, Delivered())
                work: Work = getattr(context.resources, store).work(config)
                with work.noting_errors():
                    Reporting(context, work, every).carry_out(lambda _, asked: _per_window(made, asked, FIGURES[name]), windows)
            return dg.MaterializeResult()

        return intake


def _per_window(intake: Intake, windows: Windows, figures: Figures) -> PerWindow:
    """Raises NotReady, before anything is reported, for windows without a received file or with rejected ones only, and for processed
    records while some are in progress."""
    files = by_window(intake.tracking.files(window=tuple(map(name_of, windows))))
    if empty := [name for name in map(name_of, windows) if not _taken(files.get(name, []))]:
        refused = "; ".join(f"{file.shown} is {file.state}: {file.reason}" for file in files.get(empty[0], []))
        raise NotReady(f"window {empty[0]}: {refused or 'no file was received for it'}", empty)
    if figures is of_processed and (busy := [name for name, here in files.items() if in_progress(intake, here)]):
        raise NotReady(f"window {busy[0]}: {in_progress(intake, files[busy[0]]):,} records are in progress in the queue", busy)
    return _each(intake, windows, files, figures)


def _taken(files: Sequence[Tracked]) -> list[Tracked]:
    """The files that are not rejected: a window that has no other is not done."""
    return [file for file in files if file.state not in ("rejected", "discarded")]


def _each(intake: Intake, windows: Windows, files: dict[str, list[Tracked]], figures: Figures) -> Iterator[tuple[str, dict[str, Any]]]:
    for window in windows:
        yield name_of(window), figures(intake, window, files[name_of(window)])


def take_inboxes(intake: Intake) -> Delivered:
    """Takes the new files of every source's inbox to their windows."""
    found = Delivered()
    for inbox in intake.inboxes:
        found = found + deliver(intake, inbox)
    return found


def delivery_job(config: Config, pool: str | None = None) -> dg.JobDefinition:
    """``<name>_deliver``: takes what has arrived to its windows, and reports each window that it touched."""
    store, database = resource_key(config.name), database_key(config.name)

    @dg.op(name=f"{config.name}_deliver_files", required_resource_keys={store, database}, pool=pool or intake_pool(config))
    def deliver_files(context: dg.OpExecutionContext) -> None:
        with errors_as_failures(context, COMPUTE), role_of(LAND):
            opened: SiteDatabase = getattr(context.resources, database)
            intake = opened.intake(config, context.run_id)
            found = take_inboxes(intake)
            touched = sorted({file.window for file in found.files if file.window is not None})
            for name, files in by_window(intake.tracking.files(window=tuple(touched))).items():
                if not _taken(files):
                    continue
                window = config.grid.parse(name)
                for asset in intake_names(config):
                    if asset == PROCESSED and in_progress(intake, files):
                        continue  # reported by the run that lands them
                    metadata = {"window": name, **FIGURES[asset](intake, window, files)}
                    key, partition = asset_key(config.name, asset), key_of(config.grid, name)
                    context.log_event(dg.AssetMaterialization(key, metadata=metadata, partition=partition))
            for file in found.files:
                context.log.info(f"{file.shown}: {file.state}" + (f": {file.reason}" if file.reason else ""))
            for name in found.unknown:
                context.log.warning(f"{name}: no source's pattern matches this name")
            for _, reason in found.changing:
                context.log.warning(reason)
            refuse_rejected(found)

    @dg.job(
        name=f"{config.name}_deliver",
        description="Takes the files that have arrived in the sources' folders to their windows.",
        executor_def=dg.in_process_executor,
        tags={"recon/reconciliation": config.name, "dagster/max_retries": "0"},
    )
    def deliver_job() -> None:
        deliver_files()

    return deliver_job


def refuse_rejected(found: Delivered) -> None:
    """Raises WrongInput, after everything else was done, where files of the inboxes are rejected or failed, or a source has a mistake: as
    ``recon land --from``, which exits with 1 or 2."""
    bad = [(f"source {name}", str(error)) for name, error in found.broken.items()]
    bad += [(f"source {name}", f"stopped by {file.shown}, file {file.id}") for name, file in found.stopped.items()]
    bad += [(file.shown, file.reason) for file in found.not_landed] + found.failed
    if bad:
        listed = "; ".join(f"{shown}: {reason}" for shown, reason in bad[:_NAMED_MAX])
        raise WrongInput(f"{len(bad)} problems kept files of this delivery out of their window: {listed}; 'recon files list' has all files")


_NAMED_MAX = 20
ARRIVED = "files_have_arrived"


def arrival_check(config: Config) -> dg.AssetChecksDefinition:
    """The check that no expected file is late or rejected."""
    store, database = resource_key(config.name), database_key(config.name)

    @dg.asset_check(
        asset=asset_key(config.name, CLEAN),
        name=ARRIVED,
        description="Every file that a source expects by now has landed, and no received file is rejected and not corrected. The metadata "
        "names the others.",
        required_resource_keys={store, database},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with errors_as_failures(context, COMPUTE), role_of(LAND):
            opened: SiteDatabase = getattr(context.resources, database)
            return arrival_verdict(opened.intake(config, context.run.run_id), datetime.now(UTC))

    return check


def arrival_verdict(intake: Intake, now: datetime) -> dg.AssetCheckResult:
    """The result of the check, from ``missing_files``."""
    late = missing_files(intake, now)
    description = f"{len(late)} files or sources are missing, first {late[0]}" if late else "no expected file is late, and none is rejected"
    metadata = {"late": dg.MetadataValue.json(late[:100]), "missing": dg.MetadataValue.int(len(late))}
    return dg.AssetCheckResult(passed=not late, description=description, metadata=metadata, severity=dg.AssetCheckSeverity.ERROR)


def missing_files(intake: Intake, now: datetime) -> list[str]:
    """Sources that take no file, expected files that are late at the newest windows, from that of the first received file on, and
    rejected files of any window."""
    late = [f"source {name} takes no file: {error}" for name, error in intake.broken.items()]
    late += [f"{found.window}: {found.text}" for found in late_files(intake, now)]
    return late + [f"{file.shown}, file {file.id}, is rejected: {file.reason}" for file in standing_of(intake).rejected]


def missing_now(intake: Intake, now: datetime) -> str:
    """The expected files that the newest begun window still lacks, for the reason of a sensor that starts nothing."""
    window = intake.config.grid.last_begun(now)
    expected = arrivals(intake.config.grid, intake.sources, window, intake.tracking.files(window=name_of(window)))
    missing = [arrival.missing for arrival in expected if arrival.file is None]
    if not expected:
        return "no file is expected by name"
    lacking = f", missing {', '.join(missing[:5])}" if missing else ""
    return f"window {name_of(window)}: {len(expected) - len(missing)} of {len(expected)} files{lacking}"
