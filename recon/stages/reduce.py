"""Reduce: the files of a window's revision → its stateless artifacts, sorted events, and what was set aside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from recon.config import Config
from recon.engines.blame import blaming
from recon.engines.select import engine_of
from recon.errors import Damaged, WrongInput
from recon.intake.batches import Manifest
from recon.metering import prices
from recon.stages.mending import mend_replayed
from recon.stages.ready import closed_batches
from recon.stages.request import Answer, Numbers
from recon.stages.work import _NAMED_MAX, Windows, Work, _elsewhere, _leave_out, _named, _overtaken
from recon.state import reduced
from recon.state import reduced as stateless
from recon.state.reduced import Figures
from recon.storage.port import ObjectStore


def reduce_windows(
    store: ObjectStore,
    config: Config,
    manifests: Sequence[Manifest],
    progress: Callable[[int], None] = lambda windows: None,
    again: bool = False,
) -> list[Figures]:
    """Reduces each manifest's window; a window that is reduced already by these rules is taken as it stands, unless ``again``.

    Returns one Figures per manifest. Raises WrongInput where a window does not tie or a file cannot be read; windows reduced
    before it in the range stay reduced."""
    held = [None if again else stateless.find(store, config.grid.parse(m.window), m.revision, config.rules_version) for m in manifests]
    todo = [manifest for manifest, figures in zip(manifests, held, strict=True) if figures is None]
    reduced = engine_of(config).reduce(store, config, todo)
    done = []
    for figures in held:
        done.append(figures or next(reduced))
        progress(1)
    return done


def reduce_ahead(store: ObjectStore, config: Config, manifests: Sequence[Manifest]) -> None:
    """Lets an engine that takes windows side by side reduce all of a range at once. What is bad is told where its window is asked for."""
    if config.engine.kind != "duckdb" and len(manifests) > 1:
        with suppress(WrongInput):
            reduce_windows(store, config, manifests)


def reduce(work: Work, windows: Windows) -> Iterator[tuple[Figures, Numbers]]:
    """Each window's batch → its stateless artifacts. One that fails on its data is put in quarantine; the others are done before that
    is raised."""
    failed: list[WrongInput] = []
    batches, named = closed_batches(work, windows), _named(windows)
    with work.report.timed("reduce", work.store):
        if work.elsewhere is None:
            told = Answer()
            reduce_ahead(work.store, work.config, batches)
        else:
            todo = {one.window: one.revision for one in batches if _found(work, one.window, one.revision) is None}
            told = _elsewhere(work, "reduce", windows, todo)
    for number, manifest in enumerate(batches):
        work.progress("reduce", named, number / len(batches))
        start = time.perf_counter()
        try:
            with work.report.timed("reduce", work.store) as spent, blaming(work.store, [manifest.window], "reduced"):
                if work.elsewhere is None:
                    mend_replayed(work.store, work.config, work.head(), [manifest])
                    (figures,) = reduce_windows(work.store, work.config, [manifest])
                else:
                    figures = _reduced_elsewhere(work, manifest.window, manifest.revision, told)
        except WrongInput as error:
            if manifest.window not in told.bad:  # else it was left out there
                _leave_out(work, manifest.window, manifest.revision, error)
            failed.append(error)
            continue
        asked = prices.figures(spent.usage, work.config.prices, of="")
        yield figures, {"seconds": round(time.perf_counter() - start, 3), **asked, **told.numbers.get(manifest.window, {})}
    if failed:
        kind = Damaged if all(isinstance(error, Damaged) for error in failed) else WrongInput
        raise kind("; ".join(map(str, failed[:_NAMED_MAX])) + (f"; and {len(failed) - _NAMED_MAX} more" * (len(failed) > _NAMED_MAX)))


def _reduced_elsewhere(work: Work, window: str, revision: int, told: Answer) -> Figures:
    if (reason := told.bad.get(window)) is not None:
        raise WrongInput(reason)
    figures = _found(work, window, revision)
    if figures is None:
        raise told.error or _overtaken(window)
    return figures


def _found(work: Work, window: str, revision: int) -> Figures | None:
    return reduced.find(work.store, work.config.grid.parse(window), revision, work.config.rules_version)
