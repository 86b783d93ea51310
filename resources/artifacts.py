"""A read-only IO manager: assets of other people take ``stateful_artifacts`` as a table, by the type of their parameter."""

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from recon.api import Reconciliation
from recon.errors import ReconError, WrongUsage

READ = "stateful_artifacts"
"""The asset that can be taken as a table."""


class Artifacts(dg.ConfigurableIOManager):
    """Gives an asset the artifacts of a reconciliation: those that its partition's windows touch, or all of them where it has no
    partitions; columns as in ``recon export``.

    The parameter's type says what it is: ``pandas.DataFrame``, ``pyarrow.Table`` (the default) or ``duckdb.DuckDBPyRelation``. ::

        @dg.asset(
            ins={"artifacts": dg.AssetIn(["orders", "stateful_artifacts"], input_manager_key="orders_artifacts")},
            partitions_def=dg.HourlyPartitionsDefinition("2026-11-01-00:00"),
        )
        def report(artifacts: pandas.DataFrame) -> None: ...
    """

    config_file: str = Field(description="The recon.yaml, by its absolute path.")

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Raises DagsterInvariantViolationError: only Recon writes artifacts."""
        if obj is not None:
            raise dg.DagsterInvariantViolationError(f"{context.asset_key.to_user_string()}: this IO manager only reads; name another one")

    def load_input(self, context: dg.InputContext) -> Any:
        """The artifacts as a table. Raises Failure where a window is not committed, or the asset or the type is another."""
        try:
            return self._loaded(context)
        except ReconError as error:
            raise dg.Failure(str(error), allow_retries=False) from error

    def _loaded(self, context: dg.InputContext) -> Any:
        if context.asset_key.path[-1] != READ:
            raise WrongUsage(f"{context.asset_key.to_user_string()} is no table; take {READ}")
        opened = Reconciliation(Path(self.config_file))
        # An asset without partitions asks for all of them, also for those that are still to come.
        partitioned = context.has_asset_partitions and context.step_context.has_partitions
        found = opened.artifacts_of(*context.asset_partition_keys) if partitioned else opened.artifacts()
        wanted = context.dagster_type.typing_type
        name = f"{getattr(wanted, '__module__', '')}.{getattr(wanted, '__qualname__', '')}"
        if wanted is Any or name == "pyarrow.lib.Table":
            return found
        if name.startswith("pandas.") and name.endswith(".DataFrame"):
            return found.to_pandas()
        if name.endswith(".DuckDBPyRelation"):
            import duckdb

            return duckdb.connect().from_arrow(found)
        raise WrongUsage(f"{name} is no table; take a pandas.DataFrame, a pyarrow.Table or a duckdb.DuckDBPyRelation")


def artifacts_key(reconciliation: str) -> str:
    """The key of the IO manager among the resources, such as ``orders_artifacts``."""
    return f"{reconciliation}_artifacts"
