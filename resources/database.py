"""The SQL database of a site as a Dagster resource."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
from pydantic import Field

from recon.config import Config, load_place
from recon.database import Database, open_database
from recon.intake.sources.site import Intake
from recon.reading.results import results_of
from resources.redis import dagster_secret


class SiteDatabase(dg.ConfigurableResource[Database]):
    """The database of a ``recon.yaml``: received files, jobs, queues, requests. ::

    import dagster as dg
    from recon_dagster import SiteDatabase

    @dg.asset
    def tables_of_the_site(database: SiteDatabase) -> dg.MaterializeResult:
        opened = database.open()
        with opened.engine.connect() as connection:
            count = len(connection.dialect.get_table_names(connection))
        opened.close()
        return dg.MaterializeResult(metadata={"tables": count})

    defs = dg.Definitions(assets=[tables_of_the_site], resources={"database": SiteDatabase(config_file="/srv/recon.yaml")})
    """

    config_file: str = Field(description="The recon.yaml, by its absolute path.")

    def open(self) -> Database:
        """Opens the database, and makes its tables where there are none."""
        return open_database(load_place(Path(self.config_file)), dagster_secret)

    def intake(self, config: Config, run: str) -> Intake:
        """The sources of a reconciliation with its store and database."""
        return Intake(config, run, dagster_secret, results_of)


def database_key(reconciliation: str) -> str:
    """The key of a reconciliation's database among the resources, such as ``orders_database``."""
    return f"{reconciliation}_database"
