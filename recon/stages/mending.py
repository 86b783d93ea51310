"""Mending: restores the reduced files of a committed revision that are gone or damaged, from the landed files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from recon.config import Config
from recon.engines.select import engine_of
from recon.errors import Damaged
from recon.intake.manifests import Manifest, committed_manifest
from recon.state import reduced
from recon.state.reduced import Figures
from recon.state.timeline import CommittedWindow, State
from recon.storage.port import NotFound, ObjectStore
from recon.storage.roles import role_of
from recon.storage.scratch import file_digest, scratch_folder

_FILES = (reduced.ARTIFACTS, reduced.EVENTS, reduced.SET_ASIDE)


def mend_replayed(store: ObjectStore, config: Config, state: State, manifests: Iterable[Manifest]) -> list[str]:
    """Restores the committed reduced files of replayed windows where they are not as they were written. Returns the windows' names.

    Raises Damaged where the manifest of the committed revision is gone, WrongInput where its landed files are."""
    mended = []
    for manifest in manifests:
        committed = state.windows.get(manifest.window)
        if (
            manifest.cause == "replay"
            and committed is not None
            and committed.revision < manifest.revision
            and state.rules == config.rules_version
        ):
            with role_of("pipeline"):  # the one role that may replace files
                figures = _figures(store, committed.folder)
                if figures is None or _wrong(store, committed.folder, figures):
                    _mend(store, config, manifest.window, committed, figures)
                    mended.append(manifest.window)
    return mended


def _figures(store: ObjectStore, folder: str) -> Figures | None:
    """The figures of a folder, None where they are gone or damaged."""
    try:
        return reduced.read(store, folder)
    except (NotFound, Damaged):
        return None


def _wrong(store: ObjectStore, folder: str, figures: Figures) -> list[str]:
    """The files of a folder that are gone or differ from the digests in its figures."""
    found = []
    with scratch_folder(store) as scratch:
        for name in _FILES:
            try:
                if file_digest(reduced.local_file(store, folder, name, scratch)) == figures.digests.get(name):
                    continue
            except Damaged:
                pass
            found.append(name)
    return found


def _mend(store: ObjectStore, config: Config, window: str, committed: CommittedWindow, figures: Figures | None) -> None:
    """Reduces the revision again into another folder, and copies the missing files from there."""
    manifest = committed_manifest(store, config.grid, window, committed.revision)
    (made,) = engine_of(config).reduce(store, config, [manifest])
    wrong = [] if figures is None else _wrong(store, committed.folder, figures)
    if figures is None or any(made.digests[name] != figures.digests[name] for name in wrong):
        # The figures are gone, or another version of a library wrote them: all four files must be of one attempt.
        figures = replace(made, folder=committed.folder)
        wrong = _wrong(store, committed.folder, figures)
        store.delete(committed.folder + reduced.FIGURES)
    with scratch_folder(store) as scratch:
        for name in wrong:
            store.delete(committed.folder + name)
            store.copy_in(committed.folder + name, reduced.local_file(store, made.folder, name, scratch))
    if not store.exists(committed.folder + reduced.FIGURES):
        store.put_new(committed.folder + reduced.FIGURES, [figures.body()])
    for name in (reduced.FIGURES, *_FILES):
        store.delete(made.folder + name)
