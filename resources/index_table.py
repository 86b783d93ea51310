"""The index table of a store as a Dagster resource, for look-ups one by one."""

from __future__ import annotations

from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from recon.serving.client import Artifacts, FoundRecord


class IndexTable(dg.ConfigurableResource[Any]):
    """Looks artifacts up by one item of DynamoDB and one ranged read of the store. It needs boto3 alone, not the configuration. ::

    import dagster as dg
    from recon_dagster import IndexTable

    @dg.op
    def is_settled(table: IndexTable) -> bool:
        found = table.get("A112")
        return found is not None and found.record["status"] == "MATCHED"

    @dg.job(resource_defs={"table": IndexTable(store="s3://ledger/orders")})
    def check_one() -> None:
        is_settled()
    """

    store: str = Field(description="The store of the reconciliation: s3://bucket/prefix, or a folder.")
    _client: Artifacts | None = PrivateAttr(default=None)

    def get(self, key: str) -> FoundRecord | None:
        """The record of a key, with the commit that it is based on; None if the table has none. Raises recon.serving.client.Unserved where
        no table is complete, and boto3's errors."""
        if self._client is None:
            self._client = Artifacts(self.store)
        return self._client.get(key)
