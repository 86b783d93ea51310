"""Stores as Dagster resources: that of a reconciliation, and any folder or bucket."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import dagster as dg
from pydantic import Field

from recon.api import Reconciliation
from recon.config import Config, load_place
from recon.config.settings import S3Settings
from recon.stages.work import Work
from recon.state.timeline import Timeline
from recon.storage.open import open_for, open_store
from recon.storage.port import ObjectStore
from resources.redis import dagster_secret


class ReconciliationStore(dg.ConfigurableResource[ObjectStore]):
    """The store of a ``recon.yaml``, which answers questions about it. It needs none of Recon's assets. ::

    import dagster as dg
    from recon_dagster import ReconciliationStore

    @dg.asset
    def open_orders(orders: ReconciliationStore) -> dg.MaterializeResult:
        scan = orders.reconciliation().scan(columns=["status"])
        counts = scan.to_duckdb().count("*").fetchall()
        return dg.MaterializeResult(metadata={"artifacts": counts[0][0], "commit": scan.commit})

    defs = dg.Definitions(assets=[open_orders], resources={"orders": ReconciliationStore(config_file="/srv/recon.yaml")})
    """

    config_file: str = Field(description="The recon.yaml, by its absolute path.")

    def reconciliation(self) -> Reconciliation:
        """The Python interface: ``scan``, ``show``, ``breaks``, ``land``, ``run`` …. Raises WrongUsage for a mistake in the file."""
        return Reconciliation(Path(self.config_file))

    def open(self) -> ObjectStore:
        """Opens the store. Raises WrongUsage if there is no store yet, or if it belongs to another reconciliation."""
        return open_for(load_place(Path(self.config_file)), read_secret=dagster_secret)

    def work(self, config: Config) -> Work:
        """Opens the store for a stage."""
        opened = self.open()
        return Work(opened, config, Timeline(opened))


class FolderOrBucket(dg.ConfigurableResource[ObjectStore]):
    """A folder, or a prefix of a bucket, in which an object is created once, complete and durable, and never changed. It need not be the
    store of a reconciliation. ::

        import dagster as dg
        from recon_dagster import FolderOrBucket

        @dg.asset
        def monthly_report(archive: FolderOrBucket) -> None:
            archive.open().put_new("reports/2026-11.csv", [b"order_id,amount\\n"])

        defs = dg.Definitions(assets=[monthly_report], resources={"archive": FolderOrBucket(location="s3://ledger/archive")})
    """

    location: str = Field(description="s3://bucket/prefix, or a folder by its absolute path. A folder is made, a bucket is not.")
    kms_key: str | None = Field(default=None, description="In S3: the key that encrypts what is written; default: the bucket's own.")
    requests_at_once: int = Field(default=32, ge=1, le=1_000, description="In S3: requests of one read.")
    retry_s: int = Field(default=120, ge=0, description="In S3: seconds for which a throttled or interrupted request is retried.")

    def open(self) -> ObjectStore:
        """The objects by their paths; see recon.storage.port. Raises WrongUsage for a location that cannot be one."""
        settings = S3Settings(kms_key=self.kms_key, requests_at_once=self.requests_at_once, retry=timedelta(seconds=self.retry_s))
        return open_store(self.location, Path("/"), settings)


class OpenStore:
    """An open store, for runs in this process: all stages share its timeline and its report."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def open(self) -> ObjectStore:
        return self._work.store

    def work(self, config: Config) -> Work:
        return self._work


def resource_key(reconciliation: str) -> str:
    """The key of a reconciliation's store among the resources, such as ``orders_store``."""
    return f"{reconciliation}_store"
