"""Reduce: the files of a window's revision → its reduced artifacts, its sorted events, and the rows that were set aside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from recon.config import Config
from recon.engines.blame import blaming
from recon.engines.select import engine_of
from recon.errors import Damaged, WrongInput
from recon.intake.manifests import Manifest
from recon.metering import prices
from recon.stages.mending import mend_replayed
from recon.stages.ready import closed_batches
from recon.stages.request import StageResult
from recon.stages.work import WindowResult, Windows, Work, leave_out, on_cluster, range_name, superseded
from recon.state import reduced
from recon.state.reduced import Figures
from recon.storage.port import ObjectStore

_NAMED_MAX = 12


def reduce_windows(
    store: ObjectStore,
    config: Config,
    manifests: Sequence[Manifest],
    progress: Callable[[int], None] = lambda windows: None,
    again: bool = False,
) -> list[Figures]:
    """Reduces each manifest's window; a window that is reduced already by these rules is taken as it is, unless ``again``.

    Returns one Figures per manifest. Raises WrongInput where a window does not tie or a file cannot be read; the windows before it
    stay reduced."""
    version = config.rules_version
    found = [None if again else reduced.find(store, config.grid.parse(m.window), m.revision, version) for m in manifests]
    todo = [manifest for manifest, figures in zip(manifests, found, strict=True) if figures is None]
    fresh = engine_of(config).reduce(store, config, todo)
    done = []
    for figures in found:
        done.append(figures or next(fresh))
        progress(1)
    return done


def reduce_ahead(store: ObjectStore, config: Config, manifests: Sequence[Manifest]) -> None:
    """Lets an engine that reduces windows in parallel reduce all of a range at once. Errors are raised later, window by window."""
    if config.engine.kind != "duckdb" and len(manifests) > 1:
        with suppress(WrongInput):
            reduce_windows(store, config, manifests)


def reduce(work: Work, windows: Windows) -> Iterator[WindowResult[Figures]]:
    """Each window's files → its reduced artifacts. A window that fails on its data is left out and the others are reduced; then the
    error is raised."""
    failed: list[WrongInput] = []
    batches, named = closed_batches(work, windows), range_name(windows)
    with work.report.timed("reduce", work.store):
        if work.cluster is None:
            remote = StageResult()
            reduce_ahead(work.store, work.config, batches)
        else:
            todo = {manifest.window: manifest.revision for manifest in batches if _find(work, manifest) is None}
            remote = on_cluster(work, "reduce", windows, todo)
    for number, manifest in enumerate(batches):
        work.progress("reduce", named, number / len(batches))
        start = time.perf_counter()
        try:
            with work.report.timed("reduce", work.store) as spent, blaming(work.store, [manifest.window], "reduced"):
                figures = _reduced(work, manifest) if work.cluster is None else _reduced_on_cluster(work, manifest, remote)
        except WrongInput as error:
            if manifest.window not in remote.bad:  # else the cluster has left it out already
                leave_out(work, manifest.window, manifest.revision, error)
            failed.append(error)
            continue
        numbers = {"seconds": round(time.perf_counter() - start, 3), **prices.figures(spent.usage, work.config.prices, of="")}
        yield WindowResult(manifest.window, figures, {**numbers, **remote.numbers.get(manifest.window, {})})
    if failed:
        kind = Damaged if all(isinstance(error, Damaged) for error in failed) else WrongInput
        raise kind("; ".join(map(str, failed[:_NAMED_MAX])) + (f"; and {len(failed) - _NAMED_MAX} more" * (len(failed) > _NAMED_MAX)))


def _reduced(work: Work, manifest: Manifest) -> Figures:
    mend_replayed(work.store, work.config, work.head(), [manifest])
    (figures,) = reduce_windows(work.store, work.config, [manifest])
    return figures


def _reduced_on_cluster(work: Work, manifest: Manifest, remote: StageResult) -> Figures:
    if (reason := remote.bad.get(manifest.window)) is not None:
        raise WrongInput(reason)
    figures = _find(work, manifest)
    if figures is None:
        raise remote.error or superseded(manifest.window)
    return figures


def _find(work: Work, manifest: Manifest) -> Figures | None:
    window = work.config.grid.parse(manifest.window)
    return reduced.find(work.store, window, manifest.revision, work.config.rules_version)
