"""Ends the runs whose processes died: completed where the warehouse has their load, else failed."""

from __future__ import annotations

from dataclasses import asdict

from recon.aggregations.runs.site import Aggregations
from recon.aggregations.runs.tracking import Run, State


def end_dead(site: Aggregations) -> list[Run]:
    """Ends every run whose lease has run out, and returns them as ended."""
    ended = []
    for run in site.runs.overdue():
        worker = f" ({run.worker})" if run.worker else ""
        ended.append(conclude(site, run, "failed", f"its process{worker} gave no sign of life since {run.lease_until:%Y-%m-%dT%H:%M:%SZ}"))
    return ended


def conclude(site: Aggregations, run: Run, state: State, reason: str) -> Run:
    """Ends a run whose process is gone, as ``state``; but as completed where its load had committed. Returns it as ended."""
    target = str(run.definition["target"])
    loaded = None if run.state == "claimed" else site.warehouse.find(target, run.id)
    if loaded is None:
        return site.runs.end(run, state, reason)
    reason = "its process died after the load had committed; the warehouse's ledger has it"
    return site.runs.end(run, "completed", reason, {"target": target, **asdict(loaded)})
