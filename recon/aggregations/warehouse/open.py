"""Opens the warehouse that a configuration names."""

from __future__ import annotations

from recon.aggregations.warehouse.port import Warehouse
from recon.config.model import Place
from recon.config.secrets import ReadSecret, boto3_secret, credentials


def open_warehouse(place: Place, read_secret: ReadSecret = boto3_secret) -> Warehouse:
    """The warehouse of a configuration; nothing is connected yet. Raises WrongUsage where a secret is missing."""
    settings = place.warehouse
    if settings.kind == "postgresql":
        from recon.aggregations.warehouse.postgresql import PostgreSQLWarehouse

        return PostgreSQLWarehouse(settings, credentials("warehouse", settings.user, settings.secret, read_secret))
    if settings.kind == "redshift":
        from recon.aggregations.warehouse.redshift import RedshiftWarehouse
        from recon.storage.open import open_store

        return RedshiftWarehouse(settings, lambda: open_store(str(settings.staging), place.path.parent, place.s3))
    from recon.aggregations.warehouse.duckdb import DuckDBWarehouse

    return DuckDBWarehouse((place.path.parent / settings.file).resolve())
