"""A read-only IO manager: assets of other people take ``stateful_artifacts`` as a table, by the type of their parameter."""

from collections.abc import Callable
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

    The parameter's type says what it is: ``pandas.DataFrame``, ``pyarrow.Table`` (the default), ``pyarrow.RecordBatchReader``,
    ``polars.DataFrame``, ``polars.LazyFrame`` or ``duckdb.DuckDBPyRelation``. ::

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
        opened, wanted = Reconciliation(Path(self.config_file)), context.dagster_type.typing_type
        name = f"{getattr(wanted, '__module__', '')}.{getattr(wanted, '__qualname__', '')}"
        made = "pyarrow.Table" if wanted is Any else next((known for known in _MADE if _is(name, known)), None)
        if made is None:
            raise WrongUsage(f"{name} is no table; take a {', a '.join(list(_MADE)[:-1])} or a {list(_MADE)[-1]}")
        # An asset without partitions asks for all of them, also for those that are still to come.
        if context.has_asset_partitions and context.step_context.has_partitions:
            return _MADE[made](opened.artifacts_of(*context.asset_partition_keys))
        return opened.scan().reader() if made == _STREAM else _MADE[made](opened.artifacts())


def _is(name: str, known: str) -> bool:
    """Whether the name of a class is a known one, though libraries define it in a module of their own."""
    return (name.partition(".")[0], name.rpartition(".")[2]) == (known.partition(".")[0], known.rpartition(".")[2])


def _relation(table: Any) -> Any:
    import duckdb

    return duckdb.connect().from_arrow(table)


def _polars(table: Any) -> Any:
    import polars

    return polars.DataFrame(table)


_STREAM = "pyarrow.RecordBatchReader"
_MADE: dict[str, Callable[[Any], Any]] = {
    "pandas.DataFrame": lambda table: table.to_pandas(),
    "pyarrow.Table": lambda table: table,
    _STREAM: lambda table: table.to_reader(),
    "polars.DataFrame": _polars,
    "polars.LazyFrame": lambda table: _polars(table).lazy(),
    "duckdb.DuckDBPyRelation": _relation,
}
"""Type of the parameter → how it is made of an Arrow table."""


def artifacts_key(reconciliation: str) -> str:
    """The key of the IO manager among the resources, such as ``orders_artifacts``."""
    return f"{reconciliation}_artifacts"
