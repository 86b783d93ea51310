"""Restores what the UI shows from the timeline, after Dagster's storage was lost or windows were processed without Dagster.

It processes nothing and changes nothing in the store. Dagster's SQLite storage cannot remove events, so this only adds an event for each
asset and window that the UI shows not at all or out of date. It may be interrupted and run again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata, DagsterEventType, StepMaterializationData
from dagster._core.instance.utils import RUNLESS_JOB_NAME, RUNLESS_RUN_ID

from recon.model.progress import spanned
from recon.model.windows import Grid
from recon.stages.work import Work
from recon.state.timeline import State
from recon_assets.assets import STAGE_ASSETS, asset_key
from recon_assets.partitions import key_of, window_of
from recon_assets.restored_metadata import shown

AT_ONCE = 80
"""Windows whose events are written together; with six assets, just below the limit of Dagster's storage for one batch."""
_MERGED, _CERTIFIED = "stateful_artifacts", "window_certificates"
_LOOKED_AT = 500


@dataclass(frozen=True)
class Repaired:
    """``windows``: committed windows in the store. ``repaired``: windows that the UI showed wrongly. ``events``: events added now."""

    windows: int
    repaired: int
    events: int


def repair(work: Work, instance: dg.DagsterInstance) -> Repaired:
    """Adds the events that the instance lacks for committed windows, newest first."""
    state, name, grid = work.head(), work.config.name, work.config.grid
    work.progress("looking at what the UI shows", "", 0)
    missing = _missing(instance, name, grid, state)
    todo, windows, events = sorted(missing, reverse=True), set[str](), 0
    for at in range(0, len(todo), AT_ONCE):
        part = todo[at : at + AT_ONCE]
        work.progress("repair", spanned(part), at / len(todo))
        found = [
            dg.AssetMaterialization(
                asset_key(name, asset), metadata=metadata, partition=key_of(grid, window), tags={"recon/repaired": "true"}
            )
            for window, assets in sorted(shown(work, state, part), reverse=True)
            for asset, metadata in assets.items()
            if asset in missing[window]
        ]
        _report(instance, found)
        windows |= {str(event.partition) for event in found}
        events += len(found)
    return Repaired(len(state.windows), len(windows), events)


def _missing(instance: dg.DagsterInstance, name: str, grid: Grid, state: State) -> dict[str, set[str]]:
    """Window → the assets that the instance does not show for it; all assets if it shows an earlier commit."""
    everything = {spec.name for spec in STAGE_ASSETS}
    missing: dict[str, set[str]] = {}
    for asset in everything:
        there = {window_of(grid, key) for key in instance.get_materialized_partitions(asset_key(name, asset))}
        for window in state.windows.keys() - there:
            missing.setdefault(window, set()).add(asset)
    for asset, stale in ((_MERGED, everything), (_CERTIFIED, {_CERTIFIED})):
        for window, commit in _commits_shown(instance, grid, asset_key(name, asset)):
            if window in state.windows and commit < state.windows[window].commit:
                missing.setdefault(window, set()).update(stale)
    return missing


def _commits_shown(instance: dg.DagsterInstance, grid: Grid, key: dg.AssetKey) -> Iterator[tuple[str, int]]:
    """Yields window and commit from the newest event of each partition of an asset."""
    newest = instance.event_log_storage.get_latest_storage_id_by_partition(key, DagsterEventType.ASSET_MATERIALIZATION)
    ids = list(newest.values())
    for at in range(0, len(ids), _LOOKED_AT):
        some = dg.AssetRecordsFilter(asset_key=key, storage_ids=ids[at : at + _LOOKED_AT])
        for record in instance.fetch_materializations(some, limit=_LOOKED_AT).records:
            materialization = record.asset_materialization
            if materialization is not None and materialization.partition and "commit" in materialization.metadata:
                yield window_of(grid, materialization.partition), int(str(materialization.metadata["commit"].value))


def _report(instance: dg.DagsterInstance, events: Sequence[dg.AssetMaterialization]) -> None:
    batch = uuid4().hex
    for number, event in enumerate(events, 1):
        dagster_event = DagsterEvent(
            event_type_value=DagsterEventType.ASSET_MATERIALIZATION.value,
            event_specific_data=StepMaterializationData(event),
            job_name=RUNLESS_JOB_NAME,
        )
        instance.report_dagster_event(dagster_event, RUNLESS_RUN_ID, batch_metadata=DagsterEventBatchMetadata(batch, number == len(events)))
