"""Ends the runs whose processes died: completed where the warehouse has their load, else failed."""

from __future__ import annotations

import logging
from dataclasses import asdict

from recon.aggregations.preconditions.history import ACTIVE
from recon.aggregations.runs.certificate import put_certificate
from recon.aggregations.runs.compute import remove_leftovers
from recon.aggregations.runs.site import Aggregations
from recon.aggregations.runs.tracking import Run, State
from recon.errors import ReconError

_LOG = logging.getLogger(__name__)


def end_dead(site: Aggregations) -> list[Run]:
    """Ends every run whose lease has run out, and returns them as ended. Where the warehouse can't be asked, a run is left to the next
    call."""
    ended = []
    for run in site.runs.overdue():
        worker = f" ({run.worker})" if run.worker else ""
        reason = f"its process{worker} gave no sign of life since {run.lease_until:%Y-%m-%dT%H:%M:%SZ}"
        try:
            ended.append(conclude(site, run, "failed", reason, overdue=True))
        except ReconError as error:  # the others go on
            _LOG.warning("run %s of %s: %s; it can't be ended yet: %s", run.id, run.aggregation, reason, error)
    return [run for run in ended if run.state not in ACTIVE]


def conclude(site: Aggregations, run: Run, state: State, reason: str, overdue: bool = False) -> Run:
    """Ends a run whose process is gone, as ``state``; but as completed where its load had committed. ``overdue``: only if it gave no
    sign of life meanwhile. Returns it as it is then."""
    target = str(run.definition["target"])
    loaded = None if run.state == "claimed" else site.warehouse.find(target, run.id)
    if loaded is None:
        ended = site.runs.end(run, state, reason, overdue=overdue)
    else:
        figures = {**run.figures, "target": target, **asdict(loaded)}
        put_certificate(site, run, figures)
        reason = "its process died after the load had committed; the warehouse's ledger has it"
        ended = site.runs.end(run, "completed", reason, figures, overdue)
    if ended.state not in ACTIVE:
        remove_leftovers(site.intake.store, run.id)
    return ended
