"""Somebody's own code location: the assets of a reconciliation, and a report made of them with pandas, as an asset of its own."""

import base64
from io import BytesIO
from pathlib import Path

import dagster as dg
import matplotlib
import pandas as pd

from recon_dagster import build_definitions

matplotlib.use("agg")


@dg.asset(
    ins={"artifacts": dg.AssetIn(["orders", "stateful_artifacts"], input_manager_key="orders_artifacts")},
    partitions_def=dg.HourlyPartitionsDefinition("2026-11-01-00:00"),
    automation_condition=dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed()),
)
def breaks_report(context: dg.AssetExecutionContext, artifacts: pd.DataFrame) -> dg.MaterializeResult:
    """The breaks among the orders that the hour touched, as a workbook and a chart."""
    breaks = artifacts[artifacts["status"] != "MATCHED"]
    file = Path(__file__).with_name("reports") / f"{context.partition_key.replace(':', '')}.csv"
    file.parent.mkdir(exist_ok=True)
    breaks[["key", "status", "billed", "paid", "balance"]].to_csv(file, index=False)
    money = breaks.assign(balance=breaks["balance"].astype(float)).groupby("status")["balance"].sum()
    chart = BytesIO()
    axes = money.plot.barh(title=f"open by status, {context.partition_key}", figsize=(6, 2))
    axes.figure.savefig(chart, format="png", bbox_inches="tight")
    picture = f"![open by status](data:image/png;base64,{base64.b64encode(chart.getvalue()).decode()})"
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(breaks),
            "open": str(breaks["balance"].sum()),
            "file": dg.MetadataValue.path(str(file)),
            "chart": dg.MetadataValue.md(picture),
        }
    )


defs = dg.Definitions.merge(build_definitions(Path(__file__).with_name("recon.yaml")), dg.Definitions(assets=[breaks_report]))
