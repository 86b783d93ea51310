"""An asset of the project behind Recon's, with the project's own packages ``jobs`` and ``resources``."""

import dagster as dg
import pandas as pd

import jobs
import resources


@dg.asset(
    ins={"artifacts": dg.AssetIn(["orders", "stateful_artifacts"], input_manager_key="orders_artifacts")},
    owners=[resources.OWNER],
    pool="reports",
)
def open_orders(artifacts: pd.DataFrame) -> dg.MaterializeResult:
    """How many orders are not matched."""
    return dg.MaterializeResult(metadata={"open": int((artifacts["status"] != "MATCHED").sum())})


nightly = dg.ScheduleDefinition(name="open_orders_nightly", target=[open_orders], cron_schedule=jobs.NIGHTLY)
