"""Reduce: the files of a window's revision → its stateless artifacts, sorted events, and what was set aside.

Belongs here: the order of the stage and its ties. Does not belong here: the queries (recon.engines) and reading files (recon.intake.files).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from recon.config import Config
from recon.engines.select import engine_of
from recon.errors import WrongInput
from recon.intake.batches import Manifest
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
