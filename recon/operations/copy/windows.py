"""Copies the data of windows: landed files, manifests and their landing notes, finished reductions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from pydantic import BaseModel

from recon.intake import landing_log
from recon.intake.manifests import manifest_of
from recon.model.windows import parse_instant
from recon.operations.copy.transfer import Item, Transfer
from recon.state import reduced
from recon.state.timeline import State
from recon.storage import documents, layout
from recon.storage.port import NotFound, ObjectStore

MANIFESTS_AT_ONCE = 512

_MANIFEST = re.compile(rf"{layout.EVENTS}([^/]+)/manifests/(\d{{6,}})\.json\Z")

Sizes = Mapping[str, int]


def copy_manifests(transfer: Transfer, events: Sizes, before: State, there: Sizes) -> None:
    """Copies all manifests among ``events`` (path → bytes, of the source), and the files that they name. ``before``: the target's state;
    ``there``: its objects below events/. Raises WrongUsage if the target has a manifest that the source does not have."""
    found, there = {path: match for path in events if (match := _MANIFEST.match(path))}, dict(there)
    for path in there:
        if _MANIFEST.match(path) and path not in found:
            raise transfer.differs(path)
    known = [
        # Manifests that the target has committed are the source's, as its commits are.
        Item(path, events[path], settled=int(match[2]) <= before.revision(layout.window_name(match[1])))
        for path, match in found.items()
        if path in there
    ]
    transfer.all(known, there)
    for block in _blocks([path for path in found if path not in there]):
        bodies = dict(zip(block, transfer.each(transfer.source.get, block), strict=True))
        manifests = {path: manifest_of(path, body) for path, body in bodies.items()}
        files = {file.path: file for manifest in manifests.values() for file in manifest.files}
        transfer.all((Item(file.path, file.bytes, file.digest) for file in files.values()), there)
        there |= {file.path: file.bytes for file in files.values()}
        # A new note of now: a follower of the target's notes may have passed the hour of the source's note.
        landed = [(parse_instant(manifest.window, path), manifest.revision) for path, manifest in manifests.items()]
        list(transfer.each(lambda place: landing_log.note(transfer.target, *place), landed))
        received = {(name, file.digest) for name, manifest in zip(landed, manifests.values(), strict=True) for file in manifest.received}
        list(transfer.each(lambda found: transfer.put(layout.landed_bytes(found[1], found[0][0]), b""), received))
        list(transfer.each(lambda item: transfer.put(*item), bodies.items()))


def finished_reductions(store: ObjectStore) -> dict[str, dict[str, int]]:
    """Folder → its objects with their bytes, of every reduction of a window that was finished."""
    found: dict[str, dict[str, int]] = {}
    for path, size in store.sizes(layout.STATELESS):
        if path.startswith(layout.AGGREGATED):
            continue  # of a run of an aggregation
        found.setdefault(path.rpartition("/")[0] + "/", {})[path] = size
    return {folder: sizes for folder, sizes in found.items() if folder + reduced.FIGURES in sizes}


class _Figures(BaseModel):
    digests: dict[str, str]


def copy_reductions(transfer: Transfer, reductions: Mapping[str, Sizes], there: Sizes) -> None:
    """Copies the files of each reduction, then its figures: a reader that finds the figures finds all. Raises NotFound for a lost file."""
    todo = []
    for folder, sizes in reductions.items():
        if folder + reduced.FIGURES in there:
            transfer.skipped(sum(sizes.values()))
        else:
            todo.append(folder)
    for block in _blocks(todo):
        paths = [folder + reduced.FIGURES for folder in block]
        bodies = dict(zip(block, transfer.each(transfer.source.get, paths), strict=True))
        finished = {folder: body for folder, body in bodies.items() if body != reduced.SWEPT}
        transfer.all((item for folder, body in finished.items() for item in _files(folder, body, reductions[folder])), there)
        figures = [(folder + reduced.FIGURES, body) for folder, body in finished.items()]
        list(transfer.each(lambda item: transfer.put(*item), figures))


def _files(folder: str, body: bytes, sizes: Sizes) -> Iterator[Item]:
    figures = documents.parsed(folder + reduced.FIGURES, body, _Figures, "run 'recon replay' for its window, then copy again")
    for path, digest in ((folder + name, digest) for name, digest in figures.digests.items()):
        if path not in sizes:
            raise NotFound(f"{path}: does not exist")
        yield Item(path, sizes[path], digest)


def _blocks(paths: Sequence[str]) -> Iterator[list[str]]:
    waiting = iter(paths)
    return iter(lambda: list(islice(waiting, MANIFESTS_AT_ONCE)), [])
