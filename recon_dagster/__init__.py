"""What other Dagster projects import of Recon: definitions, a component, resources. The names are those of the checkout and of the wheel.

In the checkout, the Dagster code is in the packages ``jobs`` and ``resources``; in the wheel, in ``recon_dagster.jobs`` and
``recon_dagster.resources``, so that it does not meet packages of these names (docs/decisions/029-names-in-the-wheel.md). There these
packages import this one, so that it imports what it names only when it is asked for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recon_dagster.public import (
        Artifacts,
        EmrServerlessJobs,
        EmrSteps,
        FolderOrBucket,
        IndexTable,
        ReconciliationCache,
        ReconciliationStore,
        ReconComponent,
        SiteDatabase,
        build_definitions,
    )

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


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("recon_dagster.public"), name)
    raise AttributeError(f"module 'recon_dagster' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
