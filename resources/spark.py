"""The Spark session of a run, as a resource of dagster-pyspark."""

from __future__ import annotations

from typing import Any

import dagster as dg

from recon.config import Config
from recon.errors import WrongUsage


def spark_session(config: Config) -> dg.ConfigurableResource[Any]:
    """The session for the settings of ``engine``. It starts with the first stage that has work for Spark, which asks
    recon.engines.spark.session for it, or when somebody takes ``spark_session`` of the resource: both are the process's one session. Raises
    WrongUsage if dagster-pyspark is not installed."""
    try:
        from dagster_pyspark import LazyPySparkResource
    except ImportError:
        raise WrongUsage(f"{config.path}: engine: kind: spark needs dagster-pyspark: pip install 'dagster-recon[spark]'") from None
    from recon.engines.spark.session import prepare, settings_of

    class SparkSessionOfRun(LazyPySparkResource):
        """Finds Java before Spark starts."""

        def _init_session(self) -> None:
            if self._spark_session is None:
                prepare()
            super()._init_session()

    session: dg.ConfigurableResource[Any] = SparkSessionOfRun(spark_config=settings_of(config.engine))
    return session
