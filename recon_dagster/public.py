"""The names that ``recon_dagster`` has."""

from __future__ import annotations

from jobs.build import build_definitions
from recon_dagster.component import ReconComponent
from resources.artifacts import Artifacts
from resources.database import SiteDatabase
from resources.emr import EmrSteps
from resources.emr_serverless import EmrServerlessJobs
from resources.index_table import IndexTable
from resources.redis import ReconciliationCache
from resources.stores import FolderOrBucket, ReconciliationStore

__all__ = [
    "Artifacts",
    "EmrServerlessJobs",
    "EmrSteps",
    "FolderOrBucket",
    "IndexTable",
    "ReconComponent",
    "ReconciliationCache",
    "ReconciliationStore",
    "SiteDatabase",
    "build_definitions",
]
