"""The embedded engine behind the port: one DuckDB in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from recon.config import Config
from recon.engines.duckdb import window
from recon.engines.duckdb.session import connect
from recon.engines.duckdb.slices import SLICE_BYTES, SLICE_ROWS, hash_slices, read_standing, sources_of, standing_at, write_slice
from recon.engines.existing import Unread, find_standing, touched_keys
from recon.engines.port import Slice, Written
from recon.engines.prefetched import Prefetched, prefetched_meta, write_prefetched
from recon.intake.manifests import Manifest
from recon.state.reduced import Figures
from recon.state.runs import Entries, merge_entries, write_run
from recon.state.timeline import RunRef, State, Timeline
from recon.storage import layout
from recon.storage.port import ObjectStore
from recon.storage.scratch import scratch_folder


class Embedded:
    """See recon.engines.port.Engine."""

    def reduce(self, store: ObjectStore, config: Config, manifests: Sequence[Manifest]) -> Iterator[Figures]:
        for manifest in manifests:
            yield window.reduce_window(store, config, manifest)

    def prefetch(self, store: ObjectStore, config: Config, state: State, range_figures: Sequence[Figures]) -> Prefetched:
        hi, lo = touched_keys(store, state, range_figures)
        existing = find_standing(store, [run.path for run in state.runs], hi, lo)
        return write_prefetched(store, existing, prefetched_meta(state, range_figures, len(hi)))

    def merge(
        self,
        store: ObjectStore,
        config: Config,
        timeline: Timeline,
        state: State,
        todo: Sequence[Figures],
        prefetched: Prefetched | None,
        writer: str,
        progress: Callable[[float], None],
    ) -> Written:
        return merge_here(store, config, timeline, state, todo, prefetched, writer, progress)


def merge_here(
    store: ObjectStore,
    config: Config,
    timeline: Timeline,
    state: State,
    todo: Sequence[Figures],
    prefetched: Prefetched | None,
    writer: str,
    progress: Callable[[float], None],
) -> Written:
    """Part-files and their run, made in this process: the embedded engine's merge, see recon.engines.port."""
    standing = standing_at(store, timeline, state, todo, prefetched)
    slices, entries, part_bytes, superseded = _write_part_files(store, config, state, todo, standing, writer, progress)
    if not len(entries.hi):
        return Written(slices, None, superseded)
    path = layout.merge_run(writer)
    write_run(store, path, entries)
    return Written(slices, RunRef(path, len(entries.hi), part_bytes), superseded)


def _write_part_files(
    store: ObjectStore,
    config: Config,
    state: State,
    todo: Sequence[Figures],
    standing: Unread,
    writer: str,
    progress: Callable[[float], None],
) -> tuple[list[Slice], Entries, int, int]:
    """Merges slice by slice; each slice that changes anything becomes one part-file. Returns what the slices came to, the entries of
    their records, the bytes of the part-files, and those of the standing records that are superseded by them."""
    merged: list[Slice] = []
    parts: list[Entries] = []
    part_bytes = superseded = 0
    place = f"the merge of {', '.join(figures.window for figures in todo)}: "
    with scratch_folder(store) as scratch, connect(store, config, scratch, place) as connection:
        sources = sources_of(store, state, todo, scratch)
        rows = sum(figures.keys for figures in todo) + len(standing)
        slices = hash_slices(max(1, -(-rows // SLICE_ROWS), -(-standing.bytes // SLICE_BYTES)))
        for number, bounds in enumerate(slices):
            path = layout.part_file(writer, len(parts))
            records = read_standing(store, state, todo, standing, bounds)
            part = write_slice(store, config, connection, sources, records, bounds, path)
            if part.entries is not None:
                parts.append(part.entries)
                part_bytes += part.bytes
                superseded += part.superseded
            merged.append(part.slice)
            progress((number + 1) / len(slices))
    return merged, merge_entries(parts), part_bytes, superseded
