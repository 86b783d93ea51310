"""The Spark session of a run, as a resource of dagster-pyspark."""

from __future__ import annotations

from typing import Any

import dagster as dg

from recon.config import Config
from recon.errors import WrongUsage


def spark_session(config: Config) -> dg.ConfigurableResource[Any]:
    """The session for the settings of ``engine``. Raises WrongUsage if dagster-pyspark is not installed."""
    try:
        from dagster_pyspark import PySparkResource
    except ImportError:
        raise WrongUsage(f"{config.path}: engine: kind: spark needs dagster-pyspark: pip install 'dagster-recon[spark]'") from None
    from recon.engines.spark.session import prepare, settings_of

    class SparkSessionOfRun(PySparkResource):
        """Starts Spark once a run reaches a stage that uses it."""

        def setup_for_execution(self, context: dg.InitResourceContext) -> None:
            prepare()
            super().setup_for_execution(context)

    session: dg.ConfigurableResource[Any] = SparkSessionOfRun(spark_config=settings_of(config.engine))
    return session
