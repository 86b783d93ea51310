"""Restores the metadata of a committed window's assets from the store.

The store does not have the seconds of stages and the figures of the pre-fetch, so these are not restored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from recon.intake.manifests import read_manifest
from recon.stages.work import Work
from recon.state import reduced
from recon.state.certificates import read_certificate
from recon.state.committed import committed_figures
from recon.state.timeline import Entry, State, Timeline
from recon_assets import metadata
from recon_assets.metadata import Metadata
from recon_assets.stages import landed_to_visible, of_certificate, statuses_of

TIMINGS = frozenset({"seconds", "range_seconds"})


def shown(work: Work, state: State, windows: Sequence[str]) -> Iterator[tuple[str, dict[str, Metadata]]]:
    """Yields window and asset name → metadata. A window without certificate has no ``window_certificates``."""
    timeline = Timeline(work.store, state.folder)
    entries: dict[int, Entry | None] = {}
    runs = {"runs": len(state.runs), "entries": sum(run.entries for run in state.runs)}
    for name, committed in committed_figures(work.store, state, windows).items():
        commit, window = int(committed["commit"]), work.config.grid.parse(name)
        if commit not in entries:
            entries[commit] = timeline.entry(commit)
        entry = entries[commit]
        figures = reduced.read(work.store, str(committed["folder"]))
        found: dict[str, Metadata] = {
            "stateless_artifacts": metadata.of_reduced(figures, {}),
            "prefetched_artifacts": metadata.of_prefetched(figures, {"merged_before": True}),
            "stateful_artifacts": metadata.of_committed(committed, _of_merge(entry, name), statuses_of(entry)),
            "artifact_index": {"commit": commit, "keys": committed["keys"], **runs},
        }
        if (manifest := read_manifest(work.store, window, int(committed["revision"]))) is not None:
            found["event_batches"] = metadata.of_batch(manifest)
            if entry is not None and name in entry.windows:
                found["stateful_artifacts"]["landed_to_visible_seconds"] = landed_to_visible(entry, manifest)
        certificate = read_certificate(work.store, window)
        if certificate is not None and certificate["commit"] >= commit:
            found["window_certificates"] = of_certificate(work, state, certificate, committed)
        yield name, {asset: {"window": name, **_without_timings(values)} for asset, values in found.items()}


def _of_merge(entry: Entry | None, window: str) -> dict[str, float | int]:
    """Figures of the merge of the window's range; none if the commit only recounted the window."""
    if entry is None or window not in entry.windows:
        return {}
    return {
        "range_windows": len(entry.windows),
        "range_records_written": sum(run.entries for run in entry.runs_added),
        "range_bytes": sum(run.part_bytes for run in entry.runs_added),
        "recounted_windows": len(entry.recounted),
    }


def _without_timings(shown: Metadata) -> Metadata:
    return {name: value for name, value in shown.items() if name not in TIMINGS}
