"""A warehouse's tables by OpenLineage's naming, without credentials."""

from __future__ import annotations

from urllib.parse import urlsplit

from recon.config.model import Place
from recon.config.warehouse import WarehouseSettings
from recon.telemetry.datasets import Dataset

_POSTGRESQL_PORT, _REDSHIFT_PORT = 5432, 5439


def table_dataset(place: Place, target: str) -> Dataset:
    """The dataset of a table. ``target``: ``name`` or ``schema.name``; without a schema, it is in the database's default one.

    OpenLineage has no naming for DuckDB: it is ``duckdb:///path/of/file`` and ``database.main.table``, in the form of the others."""
    settings = place.warehouse
    schema, _, table = target.rpartition(".")
    if settings.kind == "duckdb":
        file = (place.path.parent / settings.file).resolve()
        return Dataset(f"duckdb://{file}", f"{file.stem}.{schema or 'main'}.{table}")
    if settings.kind == "postgresql":
        url = urlsplit(str(settings.url))
        host = f"[{url.hostname}]" if ":" in str(url.hostname) else str(url.hostname)
        return Dataset(f"postgres://{host}:{url.port or _POSTGRESQL_PORT}", f"{url.path.strip('/')}.{schema or 'public'}.{table}")
    cluster = settings.workgroup or settings.cluster
    return Dataset(f"redshift://{cluster}.{_region(settings)}:{_REDSHIFT_PORT}", f"{settings.database}.{schema or 'public'}.{table}")


def _region(settings: WarehouseSettings) -> str:
    """Of the secret's ARN, where there is one, else of this process."""
    import boto3

    named = (settings.secret or "").split(":")[3:4]
    return (named and named[0]) or boto3.session.Session().region_name or "unknown"
