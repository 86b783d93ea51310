"""The six stages as assets do them: make sure that the range is ready, ask the library for the stage, give the figures per window.

Belongs here: one function a stage, from a range of windows to (window, metadata). Does not belong here: Dagster's machinery
(recon_assets.assets) and the work itself (recon). Done again, each takes what stands in the store and changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from recon import quarantine
from recon.batches import Manifest, read_manifest
from recon.certify import certify, read_certificate
from recon.compaction import compact_in_run
from recon.completeness import completeness
from recon.errors import Damaged, WrongInput
from recon.index import index_runs, note_indexed
from recon.merge import Merged, merge_windows
from recon.prefetch import prefetch
from recon.reduce import reduce_ahead, reduce_windows
from recon.serving.keeping import keep
from recon.stateless import Figures
from recon.timeline import Entry, State
from recon.usage import added
from recon.windows import name_of, parse_instant
from recon.work import Work, spanned
from recon_assets import metadata
from recon_assets.handover import blocks, find_prefetched
from recon_assets.metadata import Metadata
from recon_assets.readiness import closed_batches, committed_windows, reduced_batches, to_merge

Windows = Sequence[datetime]
_NAMED_MAX = 12

PerWindow = Iterator[tuple[str, Metadata]]


def land(work: Work, windows: Windows) -> PerWindow:
    """Files have landed already, by ``recon land`` or by whoever delivers them: each window's batch is there, and closed."""
    for manifest in closed_batches(work, windows):
        yield manifest.window, metadata.of_batch(manifest)


def reduce(work: Work, windows: Windows) -> PerWindow:
    """Each window's batch → its stateless artifacts. One that fails on its data is put in quarantine; the others are done before that
    is raised."""
    failed: list[WrongInput] = []
    batches, named = closed_batches(work, windows), _named(windows)
    with work.report.timed("reduce", work.store):
        reduce_ahead(work.store, work.config, batches)
    for number, manifest in enumerate(batches):
        work.progress("reduce", named, number / len(batches))
        start = time.perf_counter()
        try:
            with work.report.timed("reduce", work.store) as spent:
                (figures,) = reduce_windows(work.store, work.config, [manifest])
        except WrongInput as error:
            _leave_out(work, manifest.window, manifest.revision, error)
            failed.append(error)
            continue
        yield (
            manifest.window,
            {**metadata.of_reduced(figures, time.perf_counter() - start), **metadata.of_requests(work.config, spent.usage, "")},
        )
    if failed:
        raise WrongInput("; ".join(map(str, failed[:_NAMED_MAX])) + (f"; and {len(failed) - _NAMED_MAX} more" * (len(failed) > _NAMED_MAX)))


def read_ahead(work: Work, windows: Windows) -> PerWindow:
    """The standing records of the keys that the range touches → one file for each merge to come."""
    figures = reduced_batches(work, windows)
    state = work.head()
    todo = to_merge(state, figures)
    read: dict[str, Metadata] = {}
    for block in blocks(work.config, todo):
        start = time.perf_counter()
        work.progress("pre-fetch", spanned([one.window for one in block]), 0)
        with work.report.timed("prefetch", work.store) as spent:
            found = find_prefetched(work.store, block) or prefetch(work.store, state, block, work.config)
        seconds = round(time.perf_counter() - start, 3)
        of_block = {
            "range_keys": found.keys,
            "range_records_found": found.found,
            "range_bytes": found.bytes,
            "range_seconds": seconds,
            "read_at_commit": found.commit,
            **metadata.of_requests(work.config, spent.usage, touched=found.keys),
        }
        read |= {one.window: of_block for one in block}
    for one in figures:
        yield one.window, metadata.of_prefetched(one, one.window not in read, read.get(one.window, {}))


def merge(work: Work, windows: Windows) -> PerWindow:
    """The range's stateless artifacts into the stateful ones, by one commit a block."""
    figures = reduced_batches(work, windows)
    written: dict[str, Metadata] = {}
    for block in blocks(work.config, to_merge(work.head(), figures)):
        start = time.perf_counter()
        try:
            with work.report.timed("merge", work.store) as spent:
                merged = _merge_block(work, block)
        except Damaged:
            raise  # no fault of the window's files
        except WrongInput as error:
            # Of several windows nobody knows which one is bad: the range is halved until it stands alone.
            if len(block) == 1:
                _leave_out(work, block[0].window, block[0].revision, error)
            raise
        work.report.add(merged, block, committed_windows(work, [work.config.grid.parse(name) for name in merged.windows]))
        of_block = {
            "range_windows": len(merged.windows),
            "range_records_written": merged.written,
            "range_bytes": merged.bytes,
            "range_seconds": round(time.perf_counter() - start, 3),
            "recounted_windows": len(merged.recounted),
            **metadata.of_requests(work.config, spent.usage, written=merged.written),
        }
        written |= dict.fromkeys(merged.windows, of_block)
    for name, held in committed_windows(work, windows).items():
        shown = metadata.of_committed(held, written.get(name, {}))
        entry, manifest = None, None
        if name in written:
            entry = work.timeline.entry(held["commit"])
            manifest = read_manifest(work.store, work.config.grid.parse(name), held["revision"])
        if entry is not None and manifest is not None:
            shown["landed_to_visible_seconds"] = landed_to_visible(entry, manifest)
        yield name, shown


def index(work: Work, windows: Windows) -> PerWindow:
    """The runs that lead from keys to records, merged into tiers where that is due, and the index table, if there is to be one."""
    held = committed_windows(work, windows)
    start = time.perf_counter()
    work.progress("index", _named(windows), 0)
    with work.report.timed("index", work.store) as spent:
        compacted = compact_in_run(work.store, work.config, work.timeline)
        indexed = index_runs(work.store, work.config, work.timeline)
    state = work.head()
    for name in held:
        note_indexed(work.store, work.config.grid.parse(name), int(held[name]["commit"]))
    # Windows are certified whether DynamoDB answers or not: the runs do.
    with work.report.timed("index", work.store) as on_table:
        kept = keep(work.store, work.config, work.timeline, work.tables)
    seconds = round(time.perf_counter() - start, 3)
    for name in held:
        yield (
            name,
            {
                "commit": held[name]["commit"],
                "keys": held[name]["keys"],
                "runs": indexed.runs,
                "runs_merged": indexed.merged,
                "entries": sum(run.entries for run in state.runs),
                "range_seconds": seconds,
                **metadata.of_bounds(work.config, state, compacted, indexed),
                **metadata.of_kept(kept),
                **metadata.of_requests(work.config, added(spent.usage, on_table.usage)),
            },
        )


def certify_range(work: Work, windows: Windows) -> PerWindow:
    """A certificate for each window, and for those outside the range whose duplicates its commits changed: they come after it."""
    held = committed_windows(work, windows)
    state = work.head()
    commits = {one["commit"] for one in held.values()}
    recounted = sorted(name for name, one in state.windows.items() if one.commit in commits and name not in held)
    work.progress("certify", _named(windows), 0)
    with work.report.timed("certify", work.store) as spent:
        made = certify(work.store, work.config, state, [*held, *recounted])
    work.report.certificates += len(made)
    newly = {certificate["window"] for certificate in made}
    for name in [*held, *(name for name in recounted if name in newly)]:
        certificate = read_certificate(work.store, work.config.grid.parse(name))
        if certificate is None:
            raise Damaged(f"window {name}: its certificate is gone from the store; restore it from a copy of the store")
        yield name, {**certified(work, state, certificate, held.get(name)), **metadata.of_requests(work.config, spent.usage)}


def certified(work: Work, state: State, certificate: Mapping[str, Any], held: Mapping[str, Any] | None) -> Metadata:
    """A certificate and the completeness of its window's revision. ``held``: the committed figures, where somebody has read them."""
    window, revision = work.config.grid.parse(certificate["window"]), int(certificate["revision"])
    found = completeness(work.store, work.config, state, window, read_manifest(work.store, window, revision), held)
    return {**metadata.of_certificate(certificate), **metadata.of_completeness(found)}


def _leave_out(work: Work, window: str, revision: int, error: WrongInput) -> None:
    """Keeps why a window could not be processed. Damaged objects are no fault of the window's files: once they are restored it is tried
    again."""
    work.report.bad[window] = str(error)
    if not isinstance(error, Damaged):
        quarantine.put(work.store, work.config.grid.parse(window), window, revision, work.config.rules_version, str(error))


def _merge_block(work: Work, block: Sequence[Figures]) -> Merged:
    named, found = spanned([one.window for one in block]), find_prefetched(work.store, block)
    try:
        merged = merge_windows(work.store, work.config, work.timeline, block, found, lambda share: work.progress("merge", named, share))
    except Damaged:
        # Another worker that did the same range may have removed the file between our finding and our reading it.
        if found is None or work.store.exists(found.path):
            raise
        merged = merge_windows(work.store, work.config, work.timeline, block)
    if found is not None:
        work.store.delete(found.path)
    return merged


def landed_to_visible(entry: Entry, manifest: Manifest) -> float:
    """Seconds from the last file of a window's revision to the commit that made it visible."""
    return round((parse_instant(entry.time, "commit") - parse_instant(manifest.time, "manifest")).total_seconds(), 3)


def _named(windows: Windows) -> str:
    return spanned([name_of(window) for window in windows])


def names(windows: Windows) -> set[str]:
    """The windows' names."""
    return {name_of(window) for window in windows}
