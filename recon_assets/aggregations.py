"""The tables of the warehouse as assets, one per aggregation. The asset is the table: one aggregation writes it, and nothing else does."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import dagster as dg
from dagster._core.storage.tags import PARENT_RUN_ID_TAG

from recon.aggregations.definitions.load import Definition
from recon.aggregations.definitions.read import Definitions, Reader
from recon.aggregations.preconditions.snapshot import ALL
from recon.aggregations.runs.carry_out import carry_out, state_of
from recon.aggregations.runs.compute import reduce_here
from recon.aggregations.runs.monitor import end_dead
from recon.aggregations.runs.site import Aggregations
from recon.aggregations.runs.tracking import Run, State
from recon.aggregations.tick import asked_run
from recon.config import Config
from recon.database import present_database
from recon.errors import NotReady, ReconError, WrongInput
from recon.intake.manifests import Manifest, operator
from recon.intake.sources.deliver import deliver_breaks
from recon.intake.sources.load import Source, load_sources
from recon.model.windows import name_of
from recon.stages.aggregate import reduce_on_cluster
from recon.stages.work import Work
from recon.state.reduced import Figures
from recon.state.timeline import Timeline
from recon.storage.port import ObjectStore
from recon.storage.roles import role_of
from recon_assets.aggregation_metadata import columns_of, of_run
from recon_assets.assets import CERTIFICATES, asset_key
from recon_assets.intake import CLEAN, PROCESSED
from recon_assets.partitions import key_of, partitions_of, windows_asked
from recon_assets.reporting import tag
from recon_assets.retries import ONCE, errors_as_failures
from resources.database import SiteDatabase, database_key
from resources.engines import engine_resources, placed
from resources.redis import dagster_secret
from resources.stores import resource_key

FOLDER = "aggregations"
ROLE = "aggregate"
"""The stage whose AWS role runs and checks have."""
RUN_TAG = "recon/aggregation_run"
"""Tag of a run of Dagster that the sensor started: the number of the aggregation's run, which it carries out."""
_OBSERVED_MAX = 200


@dataclass(frozen=True)
class Known:
    """The aggregations that a code location knows. ``unread``: why the table ``aggregations`` could not be read; "" if it was."""

    definitions: Definitions
    unread: str = ""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show or start."""
        return not (self.definitions.good or self.definitions.broken or self.definitions.disabled or self.unread)


def known_aggregations(config: Config) -> Known:
    """The definitions in the files, and those in the table if the database is there and answers. Neither is changed, and nothing is made.

    A definition with a mistake is broken, and one of a source with a mistake."""
    reader = Reader(config, load_sources(config).sources)
    try:
        database = present_database(config, dagster_secret)
        if database is None:
            return Known(reader.read_files())
        try:
            return Known(reader.read(database, write=False))
        finally:
            database.close()
    except Exception as error:  # a database that is away must not keep the code location from loading
        return Known(reader.read_files(), str(error) if isinstance(error, ReconError) else f"{type(error).__name__}: {error}")


def aggregation_key(config: Config, name: str) -> dg.AssetKey:
    """The key of an aggregation's table, such as ``franchise/aggregations/daily_sales``."""
    return dg.AssetKey([config.name, FOLDER, name])


def aggregation_assets(config: Config, known: Known, pool: str | None = None) -> list[dg.AssetsDefinition]:
    """One asset per definition that is enabled and without mistakes."""
    # Keys of their own: Dagster wants one object for each, and the stages have theirs.
    engine = {f"{key}_aggregations": resource for key, resource in engine_resources(config).items()} if config.engine.elsewhere else {}
    return [_asset(config, definition, engine, pool or _pool(config, definition)) for definition in known.definitions.good.values()]


def _made_by(source: Source) -> str:
    """The asset that has a source's rows."""
    if source.breaks is not None:
        return CERTIFICATES
    return PROCESSED if source.process is not None else CLEAN


def _upstream(config: Config, definition: Definition) -> list[dg.AssetKey]:
    needs = definition.section.needs
    names = {_made_by(definition.source), *(CLEAN for need in needs if need.source is not None)}
    others = [aggregation_key(config, need.aggregation) for need in needs if need.aggregation is not None]
    return [*(asset_key(config.name, name) for name in sorted(names)), *others]


def _pool(config: Config, definition: Definition) -> str:
    # One process at a time opens a DuckDB file; in other warehouses each table waits for itself only.
    return f"{config.name}_warehouse" if config.warehouse.kind == "duckdb" else f"{config.name}_aggregate_{definition.name}"


def _asset(config: Config, definition: Definition, engine: Mapping[str, dg.ConfigurableResource[Any]], pool: str) -> dg.AssetsDefinition:
    name, section = definition.name, definition.section
    store, database = resource_key(config.name), database_key(config.name)
    by_window = section.per != ALL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # as for the six assets of the stages

        @dg.asset(
            key=aggregation_key(config, name),
            deps=_upstream(config, definition),
            partitions_def=partitions_of(config.grid) if by_window else None,
            backfill_policy=dg.BackfillPolicy.single_run() if by_window else None,
            pool=pool,
            group_name=config.name,
            owners=[f"team:{config.name}"],
            kinds={config.warehouse.kind, "table"},
            tags={"recon/reconciliation": config.name, "recon/aggregation": name},
            description=_description(definition),
            metadata={"dagster/column_schema": columns_of(definition), "dagster/table_name": section.target, **_place(definition)},
            code_version=definition.rules,
            required_resource_keys={store, database, *engine},
            resource_defs=engine,
        )
        def aggregation(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
            tag(context)
            with errors_as_failures(context, ONCE), role_of(ROLE):
                getattr(context.resources, store).open()  # none is made where it is not mounted
                opened: SiteDatabase = getattr(context.resources, database)
                site = Aggregations(opened.intake(config, context.run.run_id))
                if definition.source.breaks is not None and RUN_TAG not in context.run.tags:
                    deliver_breaks(site.intake)
                end_dead(site)  # the sensor's role may not be allowed to ask the warehouse
                scopes = [ALL]
                if by_window:
                    scopes = [name_of(window) for window in windows_asked(config.grid, context.run.tags, datetime.now(UTC))]
                _Runs(context, site, name, engine).carry_out(scopes)
            return dg.MaterializeResult()

        return aggregation


def _description(definition: Definition) -> str:
    section = definition.section
    *most, last = definition.key_types
    keys = f"{', '.join(most)} and {last}" if most else last
    per = "Each window" if section.per != ALL else "It"
    return (
        f"The table {section.target} of the warehouse: one row per {keys}, from the files of source {definition.source.name}. {per} is "
        "loaded once what it waits for is there. Materializing it by hand runs it if it is due, and else fails and says what is missing, "
        f"as `recon aggregation why {definition.name}` does."
    )


def _place(definition: Definition) -> dict[str, Any]:
    path = definition.file.path
    return {"recon/definition": dg.MetadataValue.path(str(path)) if path.suffix == ".yaml" else str(path)}


@dataclass
class _Runs:
    """The runs of one aggregation in one run of Dagster. ``engine``: keys of the cluster's resources. ``done``: scope → metadata.
    ``failed``: scope → error."""

    context: dg.AssetExecutionContext
    site: Aggregations
    name: str
    engine: Collection[str]
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, ReconError] = field(default_factory=dict)

    def carry_out(self, scopes: Sequence[str]) -> None:
        """Carries out each scope, the others too where one fails. Raises the first error, after each scope was reported."""
        for scope in scopes:
            try:
                run = self._claimed(scope)
                if run.state == "claimed":
                    reduce = partial(self._reduce, run)
                    run = carry_out(self.site, run, self.context.run.run_id, ends_as=self._ends_as, reduce=reduce)
                self.done[scope] = of_run(self.site, run)
                self.context.log.info(f"{self.name}, {scope}: run {run.id} {run.state}")
            except ReconError as error:
                self.failed[scope] = error
        self._report()
        if self.failed:
            first = next(iter(self.failed.values()))
            more = f"; and {len(self.failed) - 1} more of {len(scopes)}" if len(self.failed) > 1 else ""
            raise type(first)(f"{first}{more}") from first

    def _claimed(self, scope: str) -> Run:
        """The run that the sensor claimed for this run of Dagster; for a run that a person started, or executes again, that of the person.

        Raises WrongInput where the claim was given up meanwhile: a tick of the sensor decides when it is tried again."""
        tags = self.context.run.tags
        if (number := tags.get(RUN_TAG, "")).isdigit():
            run = self.site.runs.get(int(number))
            if (run.aggregation, run.scope) == (self.name, scope) and (run.state == "claimed" or PARENT_RUN_ID_TAG not in tags):
                if run.state not in ("claimed", "completed"):
                    raise WrongInput(f"{self.name}, {scope}: run {run.id} is {run.state} already: {run.reason}")
                return run
        return asked_run(self.site, self.name, scope, operator(), self.context.run.run_id)

    def _reduce(self, run: Run, store: ObjectStore, config: Config, manifest: Manifest) -> tuple[Figures, Mapping[str, Any]]:
        """Computes on the cluster where the engine is one, else in this process. The run's record has the step once it is submitted."""
        if not config.engine.elsewhere:
            return reduce_here(store, config, manifest)
        work = Work(store, config, Timeline(store), placed=lambda place: self._note(run, place))
        return reduce_on_cluster(placed(work, self.context, self.engine), manifest)

    def _note(self, run: Run, place: Mapping[str, Any]) -> None:
        self.site.runs.prepare(run, {"place": dict(place)})

    def _ends_as(self, error: BaseException) -> State:
        """An interruption is a cancellation only if a person asked for it; otherwise the process has to end, and the run is tried again."""
        if isinstance(error, Exception):
            return state_of(error)
        run = self.context.instance.get_run_by_id(self.context.run.run_id)
        asked = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)
        return "cancelled" if run is not None and run.status in asked else "failed"

    def _report(self) -> None:
        """Where all is done, Dagster reports each scope; else each scope is reported here: Dagster shows those without a materialization
        as failed."""
        for scope, metadata in self.done.items():
            partition = self._partition(scope)
            if not self.failed:
                self.context.add_asset_metadata(metadata, partition_key=partition)
            else:
                self.context.log_event(dg.AssetMaterialization(self.context.asset_key, metadata=metadata, partition=partition))
        for scope, error in list(self.failed.items())[:_OBSERVED_MAX]:
            self.context.log_event(observation(self.context.asset_key, self._partition(scope), _kind(error), str(error)))

    def _partition(self, scope: str) -> str | None:
        return None if scope == ALL else key_of(self.site.config.grid, scope)


def _kind(error: ReconError) -> str:
    return "waits" if isinstance(error, NotReady) else "failed"


def observation(key: dg.AssetKey, partition: str | None, kind: str, why: str) -> dg.AssetObservation:
    """Why a scope waits or failed, among the events of its asset, and on the asset's page."""
    return dg.AssetObservation(
        key,
        partition=partition,
        metadata={kind: f"{partition}: {why}" if partition else why},  # the page shows the newest, of whichever window
        description=f"{kind}: {why}",
    )
