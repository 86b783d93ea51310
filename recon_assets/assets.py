"""The assets of one reconciliation, on the grid of its windows, and how Dagster runs them."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
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
    """One stage as Dagster shows it. ``stage`` names its job, pool and tag; ``deps`` are the assets before it."""

    name: str
    stage: str
    deps: tuple[str, ...]
    kinds: frozenset[str]
    description: str
    metadata: Callable[[Work, Iterator[WindowResult[Any]]], PerWindow]
    retries: By = field(default_factory=lambda: COMPUTE)

    def per_window(self, work: Work, windows: Windows) -> PerWindow:
        """Does the stage. Yields each window with its metadata."""
        return self.metadata(work, STAGES[self.stage](work, windows))


STAGE_ASSETS = (
    StageAsset(
        "event_batches",
        "land",
        (),
        frozenset({"file"}),
        "The files of each window, complete and closed by a manifest. `recon land` puts them there; materializing a window reports "
        "its batch, and skips one that is missing or still open.",
        stages.batches,
    ),
    StageAsset(
        "stateless_artifacts",
        "reduce",
        ("event_batches",),
        frozenset({"duckdb", "parquet"}),
        "Each window's events reduced to one small artifact per key, with the accepted events beside it. Every row is accepted, "
        "a duplicate or rejected with file, line and reason; rows and money tie before anything is kept.",
        stages.reduced,
    ),
    StageAsset(
        "prefetched_artifacts",
        "prefetch",
        ("stateless_artifacts",),
        frozenset({"arrow"}),
        "Places of the existing records of the keys that the range touches, looked up before the merge and kept in one file. The merge "
        "removes the file after use; a merge without it looks the records up itself.",
        stages.prefetched,
    ),
    StageAsset(
        "stateful_artifacts",
        "merge",
        ("stateless_artifacts", "prefetched_artifacts"),
        frozenset({"duckdb", "json"}),
        "The running record of every key. A range of windows replaces what these windows contributed before, ties the totals, and "
        "becomes visible by one commit of the timeline, or not at all. Safe in any order and any number of times.",
        stages.merged,
    ),
    StageAsset(
        "artifact_index",
        "index",
        ("stateful_artifacts",),
        frozenset({"python"}),
        "The sorted runs that lead from any key to its record: file, offset, length. Small runs are merged into larger tiers.",
        stages.indexed,
        INDEX,
    ),
    StageAsset(
        "window_certificates",
        "certify",
        ("stateful_artifacts", "artifact_index"),
        frozenset({"json"}),
        "One numbered certificate per window and change: rows in = accepted + duplicates + rejected, and the same for money, per "
        "currency, with the files it was made of and what changed it. Never overwritten.",
        stages.certified,
    ),
)


ENGINE_STAGES = frozenset({"reduce", "prefetch", "merge"})
"""The stages that the engine of the configuration carries out."""


def asset_key(reconciliation: str, name: str) -> dg.AssetKey:
    """``orders/event_batches``: keys begin with the reconciliation's name."""
    return dg.AssetKey([reconciliation, name])


def stage_tag(reconciliation: str, stage: str) -> dict[str, str]:
    """The tag that limits concurrency. It holds the reconciliation's name: else reconciliations would wait for each other."""
    return {"recon/stage": f"{reconciliation}.{stage}"}


def reconciliation_assets(config: Config) -> list[dg.AssetsDefinition]:
    """The six assets of a reconciliation, on one shared grid."""
    partitions, columns = partitions_of(config.grid), column_schemas(config)
    with warnings.catch_warnings():
        # `backfill_policy` is in beta; without it a range would be one run a window.
        warnings.simplefilter("ignore", dg.BetaWarning)
        engine = engine_resources(config)
        return [
            _asset(config, spec, partitions, columns[spec.name], engine if spec.stage in ENGINE_STAGES else {}) for spec in STAGE_ASSETS
        ]


def _asset(
    config: Config,
    spec: StageAsset,
    partitions: dg.TimeWindowPartitionsDefinition,
    columns: dg.TableSchema,
    engine: Mapping[str, dg.ConfigurableResource[Any]],
) -> dg.AssetsDefinition:
    store, every = resource_key(config.name), [asset_key(config.name, other.name) for other in STAGE_ASSETS]
    kinds = {"spark" if kind == "duckdb" and engine else kind for kind in spec.kinds}

    @dg.asset(
        key=asset_key(config.name, spec.name),
        deps=[asset_key(config.name, name) for name in spec.deps],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=f"{config.name}_{spec.stage}",
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
                Reporting(context, work, every).carry_out(spec.per_window, windows)
        # Of the whole range, without metadata: each window has its own by now. Dagster Pipes insists on a result.
        return dg.MaterializeResult()

    return stage
