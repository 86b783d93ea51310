"""What the assets of a committed window show, taken from the store alone: all figures but those that only the run's clock knew.

What is not in the store, and so not shown again: seconds, and what was read ahead for the merge.
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

CLOCKED = frozenset({"seconds", "range_seconds"})


def shown(work: Work, state: State, windows: Sequence[str]) -> Iterator[tuple[str, dict[str, Metadata]]]:
    """Window → asset name → its metadata. Windows that are not certified yet have none for ``window_certificates``."""
    timeline = Timeline(work.store, state.folder)
    entries: dict[int, Entry | None] = {}
    runs = {"runs": len(state.runs), "entries": sum(run.entries for run in state.runs)}
    for name, held in committed_figures(work.store, state, windows).items():
        commit, window = int(held["commit"]), work.config.grid.parse(name)
        if commit not in entries:
            entries[commit] = timeline.entry(commit)
        entry = entries[commit]
        figures = reduced.read(work.store, str(held["folder"]))
        found: dict[str, Metadata] = {
            "stateless_artifacts": metadata.of_reduced(figures, {}),
            "prefetched_artifacts": metadata.of_prefetched(figures, {"merged_before": True}),
            "stateful_artifacts": metadata.of_committed(held, _of_block(entry, name), statuses_of(entry)),
            "artifact_index": {"commit": commit, "keys": held["keys"], **runs},
        }
        if (manifest := read_manifest(work.store, window, int(held["revision"]))) is not None:
            found["event_batches"] = metadata.of_batch(manifest)
            if entry is not None and name in entry.windows:
                found["stateful_artifacts"]["landed_to_visible_seconds"] = landed_to_visible(entry, manifest)
        certificate = read_certificate(work.store, window)
        if certificate is not None and certificate["commit"] >= commit:
            found["window_certificates"] = of_certificate(work, state, certificate, held)
        yield name, {asset: {"window": name, **_without_clocked(one)} for asset, one in found.items()}


def _of_block(entry: Entry | None, window: str) -> dict[str, float | int]:
    """What the merge of the window's block wrote; nothing where the window was only counted again."""
    if entry is None or window not in entry.windows:
        return {}
    return {
        "range_windows": len(entry.windows),
        "range_records_written": sum(run.entries for run in entry.runs_added),
        "range_bytes": sum(run.part_bytes for run in entry.runs_added),
        "recounted_windows": len(entry.recounted),
    }


def _without_clocked(shown: Metadata) -> Metadata:
    return {name: value for name, value in shown.items() if name not in CLOCKED}
