"""The six assets of a reconciliation, partitioned by its windows, and the function that materializes them."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from recon.config import Config
from recon.stages.pipeline import STAGES
from recon.stages.work import WindowResult, Windows, Work
from recon.storage.open import store_present
from recon.storage.roles import role_of
from recon_assets import stages
from recon_assets.metadata import column_schemas
from recon_assets.partitions import partitions_of, windows_asked
from recon_assets.reporting import Reporting, tag
from recon_assets.retries import COMPUTE, INDEX, By, errors_as_failures
from recon_assets.stage_lease import at_work
from recon_assets.stages import PerWindow
from resources.engines import engine_resources, placed
from resources.stores import resource_key


@dataclass(frozen=True)
class StageAsset:
    """One stage as an asset. ``stage``: the name in its job, pool and tag. ``deps``: names of its upstream assets. ``metadata``: makes
    metadata of the stage's results."""

    name: str
    stage: str
    deps: tuple[str, ...]
    kinds: frozenset[str]
    description: str
    metadata: Callable[[Work, Iterator[WindowResult[Any]]], PerWindow]
    retries: By = field(default_factory=lambda: COMPUTE)

    def per_window(self, work: Work, windows: Windows) -> PerWindow:
        """Runs the stage. Yields each window with its metadata."""
        return self.metadata(work, STAGES[self.stage](work, windows))


CERTIFICATES = "window_certificates"
STAGE_ASSETS = (
    StageAsset(
        "event_batches",
        "land",
        (),
        frozenset({"file"}),
        "The files of each window, listed in a manifest that also closes the window. `recon land` adds files; materializing a window "
        "reports its batch and skips a window that is missing or still open.",
        stages.batches,
    ),
    StageAsset(
        "stateless_artifacts",
        "reduce",
        ("event_batches",),
        frozenset({"duckdb", "parquet"}),
        "The events of a window, reduced to one small artifact per key, and the accepted events. Every row is accepted, a duplicate, or "
        "rejected with file, line and reason; rows and money must tie before anything is stored.",
        stages.reduced,
    ),
    StageAsset(
        "prefetched_artifacts",
        "prefetch",
        ("stateless_artifacts",),
        frozenset({"arrow"}),
        "Addresses of the existing records of all keys in the range, looked up before the merge and stored in one file. The merge deletes "
        "the file after use; without it, the merge looks the records up itself.",
        stages.prefetched,
    ),
    StageAsset(
        "stateful_artifacts",
        "merge",
        ("stateless_artifacts", "prefetched_artifacts"),
        frozenset({"duckdb", "json"}),
        "The current record of every key. A merge replaces the earlier contributions of its range of windows, ties the totals, and "
        "becomes visible with one commit of the timeline, or not at all. Ranges may be merged in any order, and repeatedly.",
        stages.merged,
    ),
    StageAsset(
        "artifact_index",
        "index",
        ("stateful_artifacts",),
        frozenset({"python"}),
        "Sorted runs that map each key to its record: file, offset, length. Small runs are merged into larger tiers.",
        stages.indexed,
        INDEX,
    ),
    StageAsset(
        CERTIFICATES,
        "certify",
        ("stateful_artifacts", "artifact_index"),
        frozenset({"json"}),
        "A numbered certificate for every change of a window: rows in = accepted + duplicates + rejected, and the same for money, per "
        "currency, with the window's files and the cause of the change. Certificates are never overwritten.",
        stages.certified,
    ),
)
ENGINE_STAGES = frozenset({"reduce", "prefetch", "merge"})
"""The stages that run on the configured engine."""


def asset_key(reconciliation: str, name: str) -> dg.AssetKey:
    """The asset's key, such as ``orders/event_batches``; it begins with the reconciliation's name."""
    return dg.AssetKey([reconciliation, name])


def stage_tag(reconciliation: str, stage: str) -> dict[str, str]:
    """The tag that limits concurrency. It includes the reconciliation's name, so that reconciliations do not wait for each other."""
    return {"recon/stage": f"{reconciliation}.{stage}"}


def reconciliation_assets(config: Config, first: tuple[str, ...] = (), pool: str | None = None) -> list[dg.AssetsDefinition]:
    """The six assets of a reconciliation, which share one partitions definition. ``first``: names of assets in front of the first.
    ``pool``: of all of them; by default each stage has its own."""
    partitions, columns = partitions_of(config.grid), column_schemas(config)
    with warnings.catch_warnings():
        # `backfill_policy` is in beta; without it a range would become one run per window.
        warnings.simplefilter("ignore", dg.BetaWarning)
        engine = engine_resources(config)
        return [
            _asset(
                config,
                replace(spec, deps=spec.deps or first),
                partitions,
                columns[spec.name],
                engine if spec.stage in ENGINE_STAGES else {},
                pool or f"{config.name}_{spec.stage}",
            )
            for spec in STAGE_ASSETS
        ]


def _asset(
    config: Config,
    spec: StageAsset,
    partitions: dg.TimeWindowPartitionsDefinition,
    columns: dg.TableSchema,
    engine: Mapping[str, dg.ConfigurableResource[Any]],
    pool: str,
) -> dg.AssetsDefinition:
    store, every = resource_key(config.name), [asset_key(config.name, other.name) for other in STAGE_ASSETS]
    kinds = {"spark" if kind == "duckdb" and engine else kind for kind in spec.kinds}

    @dg.asset(
        key=asset_key(config.name, spec.name),
        deps=[asset_key(config.name, name) for name in spec.deps],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=pool,
        group_name=config.name,
        owners=[f"team:{config.name}"],
        kinds=kinds,
        tags={"recon/reconciliation": config.name, **stage_tag(config.name, spec.stage)},
        description=spec.description,
        metadata={"dagster/column_schema": columns, "recon/configuration": dg.MetadataValue.path(str(config.path))},
        code_version=config.rules_version,
        required_resource_keys={store, *engine},
        resource_defs=engine,
    )
    def stage(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        tag(context)
        with errors_as_failures(context, spec.retries), role_of(spec.stage):
            windows = windows_asked(config.grid, context.run.tags, datetime.now(UTC))
            work: Work = getattr(context.resources, store).work(config)
            work = placed(work, context, engine)
            with work.noting_errors(), store_present(work.store), at_work(work.store, spec.stage, context.run.run_id):
                reporting = Reporting(context, work, every)
                reporting.carry_out(spec.per_window, windows)
        # For the range, without metadata, since each window has its own by now. Dagster Pipes requires a result.
        return dg.MaterializeResult(data_version=reporting.version)

    return stage
