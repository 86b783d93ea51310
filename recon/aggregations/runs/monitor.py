"""Ends the runs whose processes died: completed where the warehouse has their load, else failed."""

from __future__ import annotations

from dataclasses import asdict

from recon.aggregations.runs.site import Aggregations
from recon.aggregations.runs.tracking import Run


def end_dead(site: Aggregations) -> list[Run]:
    """Ends every run whose lease has run out, and returns them as ended."""
    ended = []
    for run in site.runs.overdue():
        target = str(run.definition["target"])
        loaded = site.warehouse.find(target, run.id)
        if loaded is not None:
            reason = "its process died after the load had committed; the warehouse's ledger has it"
            ended.append(site.runs.end(run, "completed", reason, {"target": target, **asdict(loaded)}))
        else:
            worker = f" ({run.worker})" if run.worker else ""
            ended.append(
                site.runs.end(run, "failed", f"its process{worker} gave no sign of life since {run.lease_until:%Y-%m-%dT%H:%M:%SZ}")
            )
    return ended
