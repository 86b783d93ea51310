"""What windows hold, copied: landed files, manifests and the notes of them, finished reductions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from pydantic import BaseModel

from recon.intake import landing_log
from recon.intake.manifests import manifest_of
from recon.model.windows import parse_instant
from recon.operations.copy.transfer import Bringing, Thing
from recon.state import reduced
from recon.state.timeline import State
from recon.storage import documents, layout
from recon.storage.port import NotFound, ObjectStore

MANIFESTS_AT_ONCE = 512

_MANIFEST = re.compile(rf"{layout.EVENTS}([^/]+)/manifests/(\d{{6,}})\.json\Z")

Sizes = Mapping[str, int]


def bring_manifests(bringing: Bringing, events: Sizes, before: State, there: Sizes) -> None:
    """All manifests among ``events`` (path → bytes, of the source), and the files that they name. ``before``: the state that the target was
    whole at; ``there``: what it holds of events. Raises WrongUsage where it holds what the source does not."""
    found, there = {path: match for path in events if (match := _MANIFEST.match(path))}, dict(there)
    for path in there:
        if _MANIFEST.match(path) and path not in found:
            raise bringing.another(path)
    known = [
        # What the target has committed is the source's, as its commits are.
        Thing(path, events[path], settled=int(match[2]) <= before.revision(layout.window_name(match[1])))
        for path, match in found.items()
        if path in there
    ]
    bringing.all(known, there)
    for block in _blocks([path for path in found if path not in there]):
        bodies = dict(zip(block, bringing.each(bringing.source.get, block), strict=True))
        manifests = {path: manifest_of(path, body) for path, body in bodies.items()}
        files = {file.path: file for manifest in manifests.values() for file in manifest.files}
        bringing.all((Thing(file.path, file.bytes, file.digest) for file in files.values()), there)
        there |= {file.path: file.bytes for file in files.values()}
        # A note of its own, of now: whoever follows the notes of the target may have passed the hour of the source's.
        noted = [(parse_instant(manifest.window, path), manifest.revision) for path, manifest in manifests.items()]
        list(bringing.each(lambda one: landing_log.note(bringing.target, *one), noted))
        received = {(name, file.digest) for name, manifest in zip(noted, manifests.values(), strict=True) for file in manifest.received}
        list(bringing.each(lambda one: bringing.put(layout.landed_bytes(one[1], one[0][0]), b""), received))
        list(bringing.each(lambda one: bringing.put(*one), bodies.items()))


def finished_reductions(store: ObjectStore) -> dict[str, dict[str, int]]:
    """Folder → its objects with their bytes, of every attempt at a reduction that came to its end."""
    found: dict[str, dict[str, int]] = {}
    for path, size in store.sizes(layout.STATELESS):
        found.setdefault(path.rpartition("/")[0] + "/", {})[path] = size
    return {folder: sizes for folder, sizes in found.items() if folder + reduced.FIGURES in sizes}


class _Figures(BaseModel):
    digests: dict[str, str]


def bring_reductions(bringing: Bringing, reductions: Mapping[str, Sizes], there: Sizes) -> None:
    """Of each its files, then its figures: whoever finds these finds all. Raises NotFound where a file is gone."""
    todo = []
    for folder, sizes in reductions.items():
        if folder + reduced.FIGURES in there:
            bringing.passed(sum(sizes.values()))
        else:
            todo.append(folder)
    for block in _blocks(todo):
        paths = [folder + reduced.FIGURES for folder in block]
        bodies = dict(zip(block, bringing.each(bringing.source.get, paths), strict=True))
        finished = {folder: body for folder, body in bodies.items() if body != reduced.SWEPT}
        bringing.all((thing for folder, body in finished.items() for thing in _files(folder, body, reductions[folder])), there)
        figures = [(folder + reduced.FIGURES, body) for folder, body in finished.items()]
        list(bringing.each(lambda one: bringing.put(*one), figures))


def _files(folder: str, body: bytes, sizes: Sizes) -> Iterator[Thing]:
    figures = documents.parsed(folder + reduced.FIGURES, body, _Figures, "run 'recon replay' for its window, then copy again")
    for path, digest in ((folder + name, digest) for name, digest in figures.digests.items()):
        if path not in sizes:
            raise NotFound(f"{path}: does not exist")
        yield Thing(path, sizes[path], digest)


def _blocks(paths: Sequence[str]) -> Iterator[list[str]]:
    waiting = iter(paths)
    return iter(lambda: list(islice(waiting, MANIFESTS_AT_ONCE)), [])
