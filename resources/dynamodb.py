"""The index table's DynamoDB as a Dagster resource.

dagster-aws has no resource for DynamoDB, so it is
boto3, by the standard chain of credentials.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from recon.config import Config
from recon.metering.meter import Meter
from recon.serving.dynamodb import REQUESTS_AT_ONCE, TableClient, open_client


class IndexTables(dg.ConfigurableResource[TableClient]):
    """DynamoDB as the index stage uses it, and for assets of one's own. ``requests_at_once``: of one process."""

    requests_at_once: int = REQUESTS_AT_ONCE

    def open(self, meter: Meter | None = None) -> TableClient:
        """Raises WrongUsage without boto3, a region or credentials. ``meter`` is told of each request."""
        return open_client(self.requests_at_once, meter=meter)


def tables_key(reconciliation: str) -> str:
    """The name of a reconciliation's resource."""
    return f"{reconciliation}_index_tables"


def index_resources(config: Config) -> Mapping[str, dg.ConfigurableResource[Any]]:
    """What the index stage needs besides the store: nothing for the runs alone."""
    if config.index.kind != "dynamodb":
        return {}
    return {tables_key(config.name): IndexTables(requests_at_once=config.index.requests_at_once)}
