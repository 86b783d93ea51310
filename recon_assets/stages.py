"""Turns the results of each stage into the metadata of its asset, window by window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recon.intake.manifests import Manifest, read_manifest
from recon.model.windows import parse_instant
from recon.reading.completeness import completeness
from recon.stages.certify import Certified
from recon.stages.work import WindowResult, Work
from recon.state.reduced import Figures
from recon.state.timeline import Entry, State
from recon_assets import metadata, versions
from recon_assets.metadata import Metadata

PerWindow = Iterator[tuple[str, Metadata]]


def batches(work: Work, results: Iterator[WindowResult[Manifest]]) -> PerWindow:
    """Metadata of the stage ``land``."""
    for result in results:
        yield result.window, {**metadata.of_batch(result.made), **versions.of_files(result.made)}


def reduced(work: Work, results: Iterator[WindowResult[Figures]]) -> PerWindow:
    """Metadata of the stage ``reduce``."""
    for result in results:
        yield result.window, {**metadata.of_reduced(result.made, result.numbers), **versions.of_reduced(result.made)}


def prefetched(work: Work, results: Iterator[WindowResult[Figures]]) -> PerWindow:
    """Metadata of the stage ``prefetch``."""
    for result in results:
        yield result.window, {**metadata.of_prefetched(result.made, result.numbers), **versions.of_reduced(result.made)}


def merged(work: Work, results: Iterator[WindowResult[Mapping[str, Any]]]) -> PerWindow:
    """Metadata of the stage ``merge``. Only windows that this run merged have numbers."""
    entries: dict[int, Entry | None] = {}
    for result in results:
        commit = result.made["commit"]
        if commit not in entries:
            entries[commit] = work.timeline.entry(commit)
        entry = entries[commit]
        shown = metadata.of_committed(result.made, result.numbers, statuses_of(entry))
        if result.numbers and entry is not None:
            manifest = read_manifest(work.store, work.config.grid.parse(result.window), result.made["revision"])
            if manifest is not None:
                shown["landed_to_visible_seconds"] = landed_to_visible(entry, manifest)
        yield result.window, {**shown, **versions.of_committed(result.made)}


def indexed(work: Work, results: Iterator[WindowResult[Mapping[str, Any]]]) -> PerWindow:
    """Metadata of the stage ``index``."""
    for result in results:
        shown = {"commit": result.made["commit"], "keys": result.made["keys"], **metadata.of_numbers(result.numbers)}
        yield result.window, {**shown, **versions.of_committed(result.made)}


def certified(work: Work, results: Iterator[WindowResult[Certified]]) -> PerWindow:
    """Metadata of the stage ``certify``."""
    state: State | None = None
    for result in results:
        state = state or work.head()
        shown = of_certificate(work, state, result.made.certificate, result.made.committed)
        certificate, committed = result.made.certificate, result.made.committed
        version = {} if committed is None else versions.of_committed(committed, certificate["state"], certificate["ties"])
        yield result.window, {**shown, **metadata.of_numbers(result.numbers), **version}


def of_certificate(work: Work, state: State, certificate: Mapping[str, Any], committed: Mapping[str, Any] | None) -> Metadata:
    """Metadata of a certificate and of the completeness of its revision. ``committed``: the window's committed figures, if already read."""
    window, revision = work.config.grid.parse(certificate["window"]), int(certificate["revision"])
    found = completeness(work.store, work.config, state, window, read_manifest(work.store, window, revision), committed)
    return {**metadata.of_certificate(certificate), **metadata.of_completeness(found)}


def statuses_of(entry: Entry | None) -> Mapping[str, int]:
    """Status → number of artifacts, as of a commit."""
    return {} if entry is None else entry.totals.get("statuses", {})


def landed_to_visible(entry: Entry, manifest: Manifest) -> float:
    """Seconds from the last file of a window's revision to the commit that made it visible."""
    return round((parse_instant(entry.time, "commit") - parse_instant(manifest.time, "manifest")).total_seconds(), 3)
