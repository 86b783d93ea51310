"""Carries out a claimed run: computes, loads, and ends it, with signs of life meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from recon.aggregations.definitions.load import ROWS, Definition, from_record
from recon.aggregations.preconditions.snapshot import split, version
from recon.aggregations.runs import tracking
from recon.aggregations.runs.certificate import put_certificate
from recon.aggregations.runs.compute import Computed, Reduce, compute, reduce_here
from recon.aggregations.runs.site import Aggregations
from recon.aggregations.runs.tracking import Run, State
from recon.aggregations.runs.used import reported, used_by
from recon.aggregations.warehouse.port import Load
from recon.errors import Cancelled, ReconError, TryAgain, WrongInput, transient_kind
from recon.model.progress import Progress, silent
from recon.storage.scratch import scratch_folder
from recon.telemetry import logs

_BEATS = 4
"""Signs of life in the time of a lease."""


def state_of(error: BaseException) -> State:
    """The state of a run that ended with an error."""
    return "cancelled" if isinstance(error, Cancelled | KeyboardInterrupt) else "failed"


def carry_out(
    site: Aggregations,
    run: Run,
    worker: str,
    progress: Progress = silent,
    ends_as: Callable[[BaseException], State] = state_of,
    reduce: Reduce = reduce_here,
) -> Run:
    """Carries out a claimed run and returns it completed. Raises what it failed with, after the run was ended as ``ends_as`` says.
    ``reduce``: computes it.

    A process that dies leaves the run to ``recon.aggregations.runs.monitor``."""
    run = site.runs.start(run, worker)
    try:
        with logs.logged_with(reconciliation=site.config.name, stage="aggregate", window=run.scope), _beating(site, run):
            figures = _observed(site, run, progress, reduce)
    except BaseException as error:
        site.runs.end(run, ends_as(error), _reason(error))
        raise
    return site.runs.end(run, "completed", figures=figures)


def _observed(site: Aggregations, run: Run, progress: Progress, reduce: Reduce) -> dict[str, Any]:
    """The figures of a run, of which lineage is sent."""
    with reported(site, run) as sent:
        figures = _figures(site, run, progress, reduce)
        sent.complete(lambda: used_by(site, run, figures))
    return figures


def _figures(site: Aggregations, run: Run, progress: Progress, reduce: Reduce = reduce_here) -> dict[str, Any]:
    definition = from_record(run.aggregation, run.definition, site.config, site.intake.sources)
    files = site.runs.files(run)
    wanted, found = split(run.versions), {version(file["id"], file["landings"]) for file in files}
    if lost := [one for one in wanted if one not in found]:
        raise WrongInput(
            f"{run.aggregation}, {run.scope}: the clean rows of file {lost[0].partition('.')[0]} were made anew since then; the next "
            "evaluation takes the new ones"
        )
    with scratch_folder(site.intake.store) as folder:
        progress("aggregate", f"{len(files)} files", 0.0)
        computed = compute(site.intake.store, definition, files, run.id, folder, reduce)
        figures = _figures_of(definition, computed)
        if not site.runs.prepare(run, figures):
            raise Cancelled(f"run {run.id} of {run.aggregation} was ended by another process; it has loaded nothing")
        progress("load", definition.section.target, 0.5)
        figures |= asdict(site.warehouse.load(_load(run, definition, computed)))
    put_certificate(site, run, figures)
    return figures


def _load(run: Run, definition: Definition, computed: Computed) -> Load:
    kinds = {measure.name: measure.type for measure in definition.config.measures if measure.name != ROWS}
    return Load(
        id=run.load if run.replays is None else f"{run.load[:50]}-{run.id}",  # asked for anew, so that it mends a table that was changed
        run=run.id,
        aggregation=f"{run.reconciliation}.{run.aggregation}",  # a warehouse may serve several reconciliations
        target=definition.section.target,
        scope=run.scope,
        keys=definition.key_types,
        measures=kinds,
        rows=computed.rows,
        count=computed.count,
        totals=computed.totals,
    )


def _figures_of(definition: Definition, computed: Computed) -> dict[str, Any]:
    """What a run will load, as figures of the run."""
    return {
        "rules": definition.rules,
        "rows_in": computed.rows_in,
        "rows_used": computed.rows_used,
        "rows_left_out": computed.rows_in - computed.rows_used,
        "totals": dict(computed.totals),
        "target": definition.section.target,
        "rows": computed.count,
        **({"place": dict(computed.place)} if computed.place else {}),
    }


@contextmanager
def _beating(site: Aggregations, run: Run) -> Iterator[None]:
    """Extends the run's lease from a thread of its own until the block ends, or the run was ended by another process."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(tracking.LEASE.total_seconds() / _BEATS):
            try:
                if not site.runs.beat(run):
                    return
            except TryAgain:
                continue  # the lease outlasts some lost signs of life

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _reason(error: BaseException) -> str:
    if isinstance(error, ReconError):
        logs = [note.partition("\n")[0] for note in getattr(error, "__notes__", ()) if note.startswith("logs: ")]  # of an EMR step
        return "; ".join([str(error), *logs])
    if not isinstance(error, Exception):
        return "interrupted"
    passing = " (it may pass)" if transient_kind(error) is not None else ""
    return f"unexpected {type(error).__name__}: {error}{passing}"
