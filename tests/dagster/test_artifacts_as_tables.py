"""Assets of other people take the artifacts as a table, by the type of their parameter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from small_reconciliation import landed, made, run, window

from jobs.build import build_definitions
from recon.api import Reconciliation
from recon_assets.assets import asset_key
from recon_assets.partitions import key_of, range_tags


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reconciliation]:
    site = made(tmp_path_factory.mktemp("tables"), hours=2)
    landed(site, 2, "C,e2-1,INVOICE,3.00,EUR\n", close=False)
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(site, range_tags(window(0), window(1)), instance).success
        yield site


def _taken(
    opened: Reconciliation, kind: Any, partition: int | None, asset: str = "stateful_artifacts"
) -> tuple[dg.ExecuteInProcessResult, Any]:
    """What an asset with one parameter of a type gets."""
    definitions, got = build_definitions(opened.config.path), []
    upstream = definitions.resolve_assets_def(asset_key("orders", asset))

    def body(artifacts) -> None:  # type: ignore[no-untyped-def]
        got.append(artifacts)

    body.__annotations__ = {"artifacts": kind, "return": None}
    taken = dg.asset(
        name="report",
        ins={"artifacts": dg.AssetIn(asset_key("orders", asset), input_manager_key="orders_artifacts")},
        partitions_def=None if partition is None else upstream.partitions_def,
    )(body)
    both = dg.Definitions.merge(definitions, dg.Definitions(assets=[taken], jobs=[dg.define_asset_job("report_job", [taken])]))
    key = None if partition is None else key_of(opened.config.grid, window(partition))
    with dg.DagsterInstance.ephemeral() as instance:
        result = both.resolve_job_def("report_job").execute_in_process(instance=instance, partition_key=key, raise_on_error=False)
    return result, got[0] if got else None


def test_each_type_of_table(opened: Reconciliation) -> None:
    frame = _taken(opened, pd.DataFrame, None)[1]
    assert list(frame["key"]) == ["A0", "A1", "B"]
    table = _taken(opened, pa.Table, None)[1]
    assert table.equals(opened.artifacts())
    relation = _taken(opened, duckdb.DuckDBPyRelation, None)[1]
    assert relation.order("key").fetchall() == [tuple(row.values()) for row in table.to_pylist()]
    assert _taken(opened, Any, None)[1].equals(table)
    assert _taken(opened, pl.DataFrame, None)[1].equals(pl.DataFrame(table))
    assert _taken(opened, pl.LazyFrame, None)[1].collect().equals(pl.DataFrame(table))
    stream = _taken(opened, pa.RecordBatchReader, None)[1]
    assert stream.read_all().sort_by("key").to_pylist() == table.to_pylist()


def test_a_partition_has_what_its_window_touches(opened: Reconciliation) -> None:
    assert _taken(opened, pa.Table, 0)[1].column("key").to_pylist() == ["A0", "B"]
    assert _taken(opened, pa.Table, 1)[1].column("key").to_pylist() == ["A1", "B"]
    assert _taken(opened, pa.RecordBatchReader, 1)[1].read_all().column("key").to_pylist() == ["A1", "B"]


@pytest.mark.parametrize(
    ("kind", "partition", "asset", "reason"),
    [
        (
            pa.Table,
            2,
            "stateful_artifacts",
            "2026-11-01T02:00Z: not committed yet; 'recon status 2026-11-01T02:00Z' says what it waits for",
        ),
        (pa.Table, 0, "window_certificates", "orders/window_certificates is no table; take stateful_artifacts"),
        (
            dict,
            0,
            "stateful_artifacts",
            "builtins.dict is no table; take a pandas.DataFrame, a pyarrow.Table, a pyarrow.RecordBatchReader, a polars.DataFrame, "
            "a polars.LazyFrame or a duckdb.DuckDBPyRelation",
        ),
    ],
)
def test_what_cannot_be_taken(opened: Reconciliation, kind: Any, partition: int, asset: str, reason: str) -> None:
    result, _ = _taken(opened, kind, partition, asset)
    assert not result.success
    (failed,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failed.user_failure_data is not None
    assert failed.user_failure_data.description == reason
