"""The Dagster resources that a reconciliation's engine needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import dagster as dg

from recon.config import Config
from recon.stages.work import RunOnCluster, Work


@runtime_checkable
class Cluster(Protocol):
    """A resource that runs stages on a cluster."""

    def cluster(self, context: dg.AssetExecutionContext) -> RunOnCluster: ...


def engine_resources(config: Config) -> Mapping[str, dg.ConfigurableResource[Any]]:
    """The resources of the engine's stages besides the store, by key: none for DuckDB, the session for Spark, the submitter for EMR."""
    match config.engine.kind:
        case "spark":
            from resources.spark import spark_session

            return {f"{config.name}_spark": spark_session(config)}
        case "emr":
            from resources.emr import EmrSteps

            return {f"{config.name}_emr": EmrSteps()}
        case "emr_serverless":
            from resources.emr_serverless import EmrServerlessJobs

            return {f"{config.name}_emr_serverless": EmrServerlessJobs()}
        case _:
            return {}


def placed(work: Work, context: dg.AssetExecutionContext, keys: Iterable[str]) -> Work:
    """``work``, to run on the cluster of a resource among ``keys``, if one has a cluster."""
    found = [getattr(context.resources, key) for key in keys]
    clusters = [resource for resource in found if isinstance(resource, Cluster)]
    return replace(work, cluster=clusters[0].cluster(context)) if clusters else work
