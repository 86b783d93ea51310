"""Reduce of large windows on Spark: files → events in order of hash → slices of the hash space → the window's files.

All windows of a range go through one set of jobs. Slices are cut where the events are, so that each has about as many: a key with very many
events has a slice of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from recon.config import Config
from recon.engines.spark.pieces import Landed, Pieces, Read, join_pieces, read_files, reduce_slice
from recon.engines.spark.tasks import attempted
from recon.errors import ReconError
from recon.intake.manifests import Manifest
from recon.state.reduced import Figures
from recon.storage import layout
from recon.storage.port import ObjectStore

SLICE_EVENTS = 1_000_000
"""Target number of events per slice of a window."""
READ_BYTES = 64 << 20
"""Small files are read together up to this size: a slice reads a part of what each task has read."""


def reduce_large(store: ObjectStore, config: Config, manifests: Sequence[Manifest]) -> list[Figures | ReconError]:
    """The figures of each window, or its error."""
    writer = layout.new_attempt()
    items = [(writer, place, some, first) for place, manifest in enumerate(manifests) for first, some in _together(manifest)]
    read: list[list[Read]] = [[] for _ in manifests]
    bad: dict[int, ReconError] = {}
    for (_, place, _, _), one in zip(items, attempted(config, "intake", read_files, items), strict=True):
        if isinstance(one, ReconError):
            bad.setdefault(place, one)
        else:
            read[place].append(one)
    pieces = _pieces(config, writer, manifests, read, bad)
    good = [place for place in range(len(manifests)) if place not in bad]
    joined = attempted(config, "join pieces", join_pieces, [(manifests[place], read[place], pieces.get(place, {})) for place in good])
    for path in (path for of_window in pieces.values() for paths in of_window.values() for path in paths):
        store.delete(path)
    for one in (one for some in read for one in some):
        store.delete(one.events)
        store.delete(one.rejects)
    done = dict(zip(good, joined, strict=True))
    return [bad[place] if place in bad else done[place] for place in range(len(manifests))]


def _together(manifest: Manifest) -> Iterator[tuple[int, Manifest]]:
    """Consecutive files that one task reads, as a manifest, with the number of the first of them."""
    first, size = 0, 0
    for number, file in enumerate(manifest.files):
        if number > first and size + file.bytes > READ_BYTES:
            yield first, replace(manifest, files=manifest.files[first:number])
            first, size = number, 0
        size += file.bytes
    yield first, replace(manifest, files=manifest.files[first:])


def _pieces(
    config: Config, writer: str, manifests: Sequence[Manifest], read: Sequence[Sequence[Read]], bad: dict[int, ReconError]
) -> dict[int, Pieces]:
    """The pieces of each good window, in order of hash. Adds windows that fail to ``bad``."""
    good = [place for place in range(len(manifests)) if place not in bad]
    items = [(place, number, bounds) for place in good for number, bounds in enumerate(cut(read[place], config.engine.slices or 1))]
    events = tuple(tuple(one.events for one in some if one.accepted) for some in read)
    landed = Landed(writer, tuple(manifest.window for manifest in manifests), events)
    pieces: dict[int, Pieces] = {}
    for (place, _, _), written in zip(items, attempted(config, "reduce", reduce_slice, items, landed), strict=True):
        if isinstance(written, ReconError):
            bad.setdefault(place, written)
            continue
        for kind, path in written.items():
            pieces.setdefault(place, {}).setdefault(kind, []).append(path)
    return pieces


def cut(read: Sequence[Read], least: int) -> list[tuple[int, int]]:
    """The hash space in at least ``least`` slices of about as many events, no more than SLICE_EVENTS if no single key has more: of each
    the first ``hi``, and the end that is not included. No slices without events."""
    samples = sorted(sample for one in read for sample in one.samples)
    total = sum(events for _, events in samples)
    if not total:
        return []
    count = max(least, -(-total // SLICE_EVENTS))
    borders, before, last = set[int](), 0, -1
    for hi, events in samples:
        number = before * count // total
        if number != last and before:
            # A border that is met again is that of a key with the events of a whole slice, which gets its own.
            borders |= {hi + 1} if hi in borders else {hi}
        before, last = before + events, number
    inner = sorted(border for border in borders if 0 < border < 1 << 64)
    return list(zip([0, *inner], [*inner, 1 << 64], strict=True))
