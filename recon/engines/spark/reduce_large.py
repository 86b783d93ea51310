"""Reduce of large windows on Spark: files → events in order of hash → slices of the hash space → the window's files.

All windows of a range go through one set of jobs. Slices are cut where the events are, so that each has about as many: a key with very many
events has a slice of its own. Large files are read in parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as Collection
from dataclasses import replace
from itertools import groupby

from recon.config import Config
from recon.engines.duckdb.window import tie_declared
from recon.engines.spark.parts import part_bytes, parts_of
from recon.engines.spark.pieces import Intake, Landed, Pieces, Read, as_one, join_pieces, read_files, reduce_slice
from recon.engines.spark.tasks import attempted
from recon.errors import ReconError, WrongInput
from recon.intake.manifests import Manifest
from recon.model.totals import Totals
from recon.state.reduced import Figures
from recon.storage import layout
from recon.storage.port import ObjectStore

SLICE_EVENTS = 1_000_000
"""Target number of events per slice of a window."""
EVENT_BYTES = 512
"""Memory of a task that reduces a slice, by event. DuckDB spills tables and sorted rows, but not the lists of ids of an aggregate."""
READ_BYTES = 64 << 20
"""Small files are read together up to this size: a slice reads a part of what each task has read."""


def reduce_large(store: ObjectStore, config: Config, manifests: Sequence[Manifest]) -> list[Figures | ReconError]:
    """The figures of each window, or its error."""
    writer = layout.new_attempt()
    read, bad = _read(store, config, writer, manifests)
    pieces = _pieces(config, writer, manifests, read, bad)
    good = [place for place in range(len(manifests)) if place not in bad]
    joined = attempted(config, "join pieces", join_pieces, [(manifests[place], read[place], pieces.get(place, {})) for place in good])
    for path in (path for of_window in pieces.values() for paths in of_window.values() for path in paths):
        store.delete(path)
    _delete(store, (one for some in read for one in some))
    done = dict(zip(good, joined, strict=True))
    return [bad[place] if place in bad else done[place] for place in range(len(manifests))]


def _read(store: ObjectStore, config: Config, writer: str, manifests: Sequence[Manifest]) -> tuple[list[list[Read]], dict[int, ReconError]]:
    """What was read of each window, in order of its files, and the errors of bad windows."""
    items = _intake(config, writer, manifests)
    results = list(zip(items, attempted(config, "intake", read_files, items), strict=True))
    done: list[tuple[Intake, Read | ReconError]] = []
    again: list[Intake] = []
    for (place, first), some in groupby(results, lambda result: (result[0].window, result[0].first)):
        found = list(some)
        one = found[0][1] if found[0][0].part is None else _of_parts(config, manifests[place], first, [result for _, result in found])
        if not isinstance(one, Read):
            _delete(store, (result for _, result in found if isinstance(result, Read)))
        if one is None:
            again.append(replace(found[0][0], part=None))
        else:
            done.append((found[0][0], one))
    done += zip(again, attempted(config, "intake of whole files", read_files, again), strict=True)
    read: list[list[Read]] = [[] for _ in manifests]
    bad: dict[int, ReconError] = {}
    for item, result in sorted(done, key=lambda one: (one[0].window, one[0].first)):
        if isinstance(result, ReconError):
            bad.setdefault(item.window, result)
        else:
            read[item.window].append(result)
    return read, bad


def _intake(config: Config, writer: str, manifests: Sequence[Manifest]) -> list[Intake]:
    """The items of the intake, in order. One task for each large file first compares its digest and finds its parts."""
    files = {(place, number): file for place, manifest in enumerate(manifests) for number, file in enumerate(manifest.files)}
    sizes = {item: size for item, file in files.items() if (size := part_bytes(config, file)) is not None}
    found = attempted(config, "find parts", parts_of, [(files[item], size) for item, size in sizes.items()])
    parts = {item: some for item, some in zip(sizes, found, strict=True) if some and not isinstance(some, ReconError)}
    items = []
    for place, manifest in enumerate(manifests):
        alone = {n for window, n in parts if window == place}
        for first, together in _together(manifest, alone):
            item = Intake(writer, place, together, first)
            items += [replace(item, part=part) for part in parts[place, first]] if first in alone else [item]
    return items


def _of_parts(config: Config, manifest: Manifest, first: int, found: Sequence[Read | ReconError]) -> Read | ReconError | None:
    """What was read of the parts of a file, or why its window is bad. None where the whole file must be read: a part could not be read
    alone, or the error must name a line of the whole file."""
    good = [one for one in found if isinstance(one, Read)]
    if len(good) < len(found):
        return next((one for one in found if isinstance(one, ReconError) and not isinstance(one, WrongInput)), None)
    one = as_one(good)
    if one.absent or one.rows[0].rows > config.limits.rows:
        return None
    try:
        tie_declared(config, manifest, manifest.files[first], Totals(one.rows[0].rows, one.totals.money))
    except WrongInput as error:
        return error
    return one


def _delete(store: ObjectStore, read: Iterable[Read]) -> None:
    for path in (path for one in read for path in (*one.events, *one.rejects)):
        store.delete(path)


def _together(manifest: Manifest, alone: Collection[int]) -> Iterator[tuple[int, Manifest]]:
    """Consecutive files that one task reads, as a manifest, with the number of the first of them. Files ``alone`` are not read with
    others."""
    first, size = 0, 0
    for number, file in enumerate(manifest.files):
        if number > first and (size + file.bytes > READ_BYTES or alone & {number, number - 1}):
            yield first, replace(manifest, files=manifest.files[first:number])
            first, size = number, 0
        size += file.bytes
    yield first, replace(manifest, files=manifest.files[first:])


def _pieces(
    config: Config, writer: str, manifests: Sequence[Manifest], read: Sequence[Sequence[Read]], bad: dict[int, ReconError]
) -> dict[int, Pieces]:
    """The pieces of each good window, in order of hash. Adds windows that fail to ``bad``."""
    good = [place for place in range(len(manifests)) if place not in bad]
    items = [(place, number, bounds) for place in good for number, bounds in enumerate(cut(read[place], _least(config, read[place])))]
    events = tuple(tuple(path for one in some for path in one.events) for some in read)
    landed = Landed(writer, tuple(manifest.window for manifest in manifests), events)
    pieces: dict[int, Pieces] = {}
    for (place, _, _), written in zip(items, attempted(config, "reduce", reduce_slice, items, landed), strict=True):
        if isinstance(written, ReconError):
            bad.setdefault(place, written)
            continue
        for kind, path in written.items():
            pieces.setdefault(place, {}).setdefault(kind, []).append(path)
    return pieces


def _least(config: Config, read: Sequence[Read]) -> int:
    """The least number of slices of a window: as many as are configured, and as many as a task's memory requires."""
    events = sum(file.accepted for one in read for file in one.rows)
    return max(config.engine.slices or 1, -(-events * EVENT_BYTES // config.engine.memory_bytes))


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
