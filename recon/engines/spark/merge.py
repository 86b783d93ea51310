"""Pre-fetch and merge on Spark: one task per slice of the hash space, with the code of the DuckDB engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from recon.config import Config
from recon.engines.duckdb.slices import SLICE_BYTES, SLICE_ROWS, existing_at, fits, hash_slices, merging_slices
from recon.engines.existing import find_existing, touched_keys
from recon.engines.port import MergeTask, Slice, Written
from recon.engines.prefetched import Chunk, Prefetched, prefetched_meta, write_index, write_piece
from recon.engines.spark.tasks import Job, in_tasks, parallelism, summed_in_tasks
from recon.engines.summed import summed
from recon.state.packed import PackedWindows
from recon.state.reduced import Figures
from recon.state.runs import open_runs, write_merged, write_run
from recon.state.timeline import RunRef, State
from recon.storage import layout
from recon.storage.port import ObjectStore

TASK_ROWS_MIN = 50_000
"""Rows that are worth a task of their own."""


@dataclass(frozen=True)
class _Part:
    """What one slice wrote. ``run``: the index of its part-file, None where nothing changed."""

    run: RunRef | None
    superseded: int


def prefetch_range(store: ObjectStore, config: Config, state: State, range_figures: Sequence[Figures]) -> Prefetched:
    """See recon.engines.port.Engine.prefetch."""
    task = MergeTask(state, tuple(range_figures), None, layout.new_attempt())
    keys = sum(figures.keys for figures in range_figures)
    count = _slices(config, 2 * keys, keys * _mean_length(state))
    pieces = in_tasks(config, "pre-fetch", _prefetch_slice, list(enumerate(hash_slices(count))), _trimmed(task))
    meta = prefetched_meta(state, range_figures, sum(keys for _, keys in pieces))
    return write_index(store, [chunk for chunks, _ in pieces for chunk in chunks], meta)


def merge_range(store: ObjectStore, config: Config, task: MergeTask) -> Written:
    """See recon.engines.port.Engine.merge."""
    keys = sum(figures.keys for figures in task.todo)
    existing = task.prefetched.found if task.prefetched is not None and fits(task) else keys
    count = _slices(config, keys + existing, existing * _mean_length(task.state))
    parts, total = summed_in_tasks(Job(config, "merge", _trimmed(task)), _merge_slice, list(enumerate(hash_slices(count))), summed)
    runs = [part.run for part in parts if part.run is not None]
    return Written([total], _joined(store, config, task.writer, runs), sum(part.superseded for part in parts))


def _trimmed(task: MergeTask) -> MergeTask:
    """The task with what slices need of it: all of them get it, by one broadcast."""
    near = [figures.window for figures in task.todo]
    state = replace(task.state, windows=PackedWindows(task.state.windows, near), totals={})
    todo = tuple(replace(figures, files=[], digests={}, unusual={}) for figures in task.todo)
    return replace(task, state=state, todo=todo)


def _mean_length(state: State) -> int:
    """Bytes of an existing record, on average."""
    entries = sum(run.entries for run in state.runs)
    return sum(run.part_bytes for run in state.runs) // entries if entries else 0


def _slices(config: Config, rows: int, size: int = 0) -> int:
    """The number of slices: as many as memory requires, and as many as are worth a task."""
    worth = min(parallelism(config), rows // TASK_ROWS_MIN)
    return max(1, config.engine.slices or worth, -(-rows // SLICE_ROWS), -(-size // SLICE_BYTES))


def _prefetch_slice(store: ObjectStore, config: Config, task: MergeTask, item: tuple[int, tuple[int, int]]) -> tuple[list[Chunk], int]:
    """Reads the records of a slice by threads, and writes them as one piece; in a folder, their places. Returns its chunks and the number
    of keys."""
    number, bounds = item
    hi, lo = touched_keys(store, task.state, task.todo, bounds)
    existing = find_existing(store, [run.path for run in task.state.runs], hi, lo)
    path = layout.piece(task.writer, "prefetch", number, layout.new_attempt(), "arrow")
    return write_piece(store, path, existing), len(hi)


def _merge_slice(store: ObjectStore, config: Config, task: MergeTask, item: tuple[int, tuple[int, int]]) -> tuple[_Part, Slice]:
    number, bounds = item
    attempt = layout.new_attempt()
    with merging_slices(store, config, task, bounds) as merger:
        merged = merger.merge(existing_at(store, task, bounds), bounds)
        part = merger.write(merged, layout.part_file(task.writer, number, attempt))
    # The records are in the part-file; their buffers must not be sent to the driver.
    found = replace(part.slice, records=part.slice.records.schema.empty_table())
    if part.entries is None:
        return _Part(None, 0), found
    run = layout.slice_run(task.writer, number, attempt)
    write_run(store, run, part.entries)
    return _Part(RunRef(run, len(part.entries), part.bytes), part.superseded), found


def _joined(store: ObjectStore, config: Config, writer: str, runs: Sequence[RunRef]) -> RunRef | None:
    """Joins the runs of the part-files, which do not overlap in the hash space, into the run of the commit."""
    if len(runs) < 2:
        return runs[0] if runs else None
    (path,) = in_tasks(config, "join runs", _join_runs, [(writer, [run.path for run in runs])])
    for run in runs:
        store.delete(run.path)
    return RunRef(path, sum(run.entries for run in runs), sum(run.part_bytes for run in runs))


def _join_runs(store: ObjectStore, config: Config, item: tuple[str, Sequence[str]]) -> str:
    writer, paths = item
    joined = layout.merge_run(writer, layout.new_attempt())
    write_merged(store, joined, open_runs(store, paths))
    return joined
