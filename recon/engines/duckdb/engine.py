"""The embedded engine behind the port: one DuckDB in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from recon.config import Config
from recon.engines.duckdb import window
from recon.engines.duckdb.slices import SLICE_BYTES, SLICE_ROWS, Part, existing_at, hash_slices, merging_slices
from recon.engines.existing import find_existing, touched_keys
from recon.engines.port import MergeTask, Written
from recon.engines.prefetched import Prefetched, prefetched_meta, write_prefetched
from recon.intake.manifests import Manifest
from recon.state.reduced import Figures
from recon.state.runs import merge_entries, write_run
from recon.state.timeline import RunRef, State
from recon.storage import layout
from recon.storage.port import ObjectStore


class Embedded:
    """See recon.engines.port.Engine."""

    def reduce(self, store: ObjectStore, config: Config, manifests: Sequence[Manifest]) -> Iterator[Figures]:
        for manifest in manifests:
            yield window.reduce_window(store, config, manifest)

    def prefetch(self, store: ObjectStore, config: Config, state: State, range_figures: Sequence[Figures]) -> Prefetched:
        hi, lo = touched_keys(store, state, range_figures)
        existing = find_existing(store, [run.path for run in state.runs], hi, lo)
        return write_prefetched(store, existing, prefetched_meta(state, range_figures, len(hi)))

    def merge(self, store: ObjectStore, config: Config, task: MergeTask, progress: Callable[[float], None]) -> Written:
        existing = existing_at(store, task)
        rows = sum(figures.keys for figures in task.todo) + len(existing)
        slices = hash_slices(max(1, -(-rows // SLICE_ROWS), -(-existing.bytes // SLICE_BYTES)))
        parts: list[Part] = []
        with merging_slices(store, config, task) as merger, ThreadPoolExecutor(1) as beside:
            writing: Future[Part] | None = None
            for number, bounds in enumerate(slices):
                merged = merger.merge(existing, bounds)
                # One slice is written while the next is merged: memory holds the records of two.
                parts += [writing.result()] if writing else []
                path = layout.part_file(task.writer, sum(part.entries is not None for part in parts))
                writing = beside.submit(merger.write, merged, path)
                progress((number + 1) / len(slices))
            parts += [writing.result()] if writing else []
        entries = merge_entries([part.entries for part in parts if part.entries is not None])
        run = None
        if len(entries.hi):
            run = RunRef(layout.merge_run(task.writer), len(entries.hi), sum(part.bytes for part in parts))
            write_run(store, run.path, entries)
        return Written([part.slice for part in parts], run, sum(part.superseded for part in parts))
