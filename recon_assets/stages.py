"""The six stages as assets do them: make sure that the range is ready, ask the library for the stage, give the figures per window.

Done again, each takes what stands in the store and changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from recon.errors import Damaged
from recon.intake.batches import Manifest, read_manifest
from recon.model.progress import spanned
from recon.model.windows import name_of, parse_instant
from recon.reading.completeness import completeness
from recon.serving.sync import keep
from recon.stages import merge as merge_module
from recon.stages import prefetch
from recon.stages import reduce as reduce_module
from recon.stages.certify import certify
from recon.stages.ready import closed_batches, committed_windows
from recon.stages.work import Work
from recon.state.certificates import read_certificate
from recon.state.compaction import compact_in_run
from recon.state.tiers import index_runs, note_indexed
from recon.state.timeline import Entry, State
from recon_assets import metadata
from recon_assets.metadata import Metadata

Windows = Sequence[datetime]

PerWindow = Iterator[tuple[str, Metadata]]


def land(work: Work, windows: Windows) -> PerWindow:
    """Files have landed already, by ``recon land`` or by whoever delivers them: each window's batch is there, and closed."""
    for manifest in closed_batches(work, windows):
        yield manifest.window, metadata.of_batch(manifest)


def reduce(work: Work, windows: Windows) -> PerWindow:
    """Each window's batch → its stateless artifacts. One that fails on its data is put in quarantine; the others are done before that
    is raised."""
    for figures, numbers in reduce_module.reduce(work, windows):
        yield figures.window, metadata.of_reduced(figures, numbers)


def read_ahead(work: Work, windows: Windows) -> PerWindow:
    """The standing records of the keys that the range touches → one file for each merge to come."""
    for figures, done, numbers in prefetch.read_ahead(work, windows):
        yield figures.window, metadata.of_prefetched(figures, done, numbers)


def merge(work: Work, windows: Windows) -> PerWindow:
    """The range's stateless artifacts into the stateful ones, by one commit a block."""
    written = merge_module.merge(work, windows)
    entries: dict[int, Entry | None] = {}
    for name, held in committed_windows(work, windows).items():
        if held["commit"] not in entries:
            entries[held["commit"]] = work.timeline.entry(held["commit"])
        entry = entries[held["commit"]]
        shown = metadata.of_committed(held, written.get(name, {}), statuses_of(entry))
        if name in written and entry is not None:
            manifest = read_manifest(work.store, work.config.grid.parse(name), held["revision"])
            if manifest is not None:
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
                **metadata.of_requests(work.config, spent.usage + on_table.usage),
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


def statuses_of(entry: Entry | None) -> Mapping[str, int]:
    """All artifacts by status, as of a commit."""
    return {} if entry is None else entry.totals.get("statuses", {})


def landed_to_visible(entry: Entry, manifest: Manifest) -> float:
    """Seconds from the last file of a window's revision to the commit that made it visible."""
    return round((parse_instant(entry.time, "commit") - parse_instant(manifest.time, "manifest")).total_seconds(), 3)


def _named(windows: Windows) -> str:
    return spanned([name_of(window) for window in windows])
