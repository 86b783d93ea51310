"""Reports to Dagster, window by window, whether a stage was done, skipped or failed, and why.

Dagster records one result per step for the range: after success it shows every window as materialized; after a failure it shows every
window without an event of its own as failed. So a run that skips windows reports each window that is done, and, if it fails, cancels the
planned materialization of the skipped windows.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, cast

import dagster as dg
from dagster._core.definitions.data_version import CODE_VERSION_TAG, DATA_VERSION_IS_USER_PROVIDED_TAG, DATA_VERSION_TAG
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent, DagsterEventBatchMetadata
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster._core.storage.tags import EXTERNALLY_MANAGED_ASSETS_TAG

from recon.errors import NotReady, WrongInput
from recon.model.progress import spanned
from recon.model.windows import name_of
from recon.stages.ready import unfilled
from recon.stages.work import Work
from recon_assets.partitions import CHOSEN_TAG, key_of, window_tag
from recon_assets.retries import FAILURE_TAG, NO_FAILURE
from recon_assets.stages import PerWindow
from recon_assets.versions import VERSION

SKIPPED_TAG = "recon/skipped"
"""Tag of a run that skipped windows: their names."""
_NAMED_MAX, _OBSERVED_MAX, _TAGGED_MAX = 12, 200, 5

Stage = Callable[[Work, Sequence[datetime]], PerWindow]


def tag(context: dg.AssetExecutionContext) -> None:
    """Tags a run from the UI with its windows, and removes the failure tag that a re-execution inherited."""
    tags = context.run.tags
    stale = {FAILURE_TAG: NO_FAILURE} if tags.get(FAILURE_TAG, NO_FAILURE) != NO_FAILURE else {}
    if missing := {**window_tag(tags), **stale}:
        context.instance.add_run_tags(context.run.run_id, missing)


@dataclass
class Reporting:
    """One stage of a run over a range. ``assets``: all assets of the reconciliation; the run has some of them. ``done``: window → metadata.
    ``versions``: window → data version. ``skipped``: window → reason."""

    context: dg.AssetExecutionContext
    work: Work
    assets: Sequence[dg.AssetKey]
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def carry_out(self, stage: Stage, windows: Sequence[datetime]) -> None:
        """Runs the stage over the windows. Skips windows that have no files or are still open, unless no other window is left."""
        try:
            try:
                self._take(stage(self.work, windows), windows)
            except NotReady as error:
                rest = self._without_unfilled(error, windows)
                self._take(stage(self.work, rest), rest)
        except WrongInput as error:
            self._leave_missing([name_of(window) for window in windows])
            self._report_failed(windows)
            if not isinstance(error, NotReady):
                self._report_done()  # no later run will report them
            raise
        if len(self.done) > 1:  # Dagster gives all windows of a result one data version
            self._leave_to_this()
        if _is_deferred(self.context):
            self._report_done()
        # One line for all windows, since each line is a transaction of Dagster's storage.
        summary = f"{spanned(sorted(self.done)) if self.done else 'no window'} done, {len(self.done)} in all"
        self.context.log.info(f"{self.context.asset_key.path[-1]}: {summary}")

    def _take(self, per_window: PerWindow, windows: Sequence[datetime]) -> None:
        """Attaches figures to the partitions of the run's windows. Another window, recounted by the merge, gets an observation."""
        asked = {name_of(window) for window in windows}
        for window, figures in per_window:
            metadata: dict[str, Any] = {"window": window, **figures}
            version = metadata.pop(VERSION, None)
            if window in asked:
                self.context.add_asset_metadata(metadata, partition_key=self._key(window))
                self.done[window] = metadata
                if version is not None:
                    self.versions[window] = version
            else:
                self._observe(window, metadata)

    def _without_unfilled(self, error: NotReady, windows: Sequence[datetime]) -> list[datetime]:
        """The windows that are not skipped. Raises ``error`` if a window that is not ready has files, if no window is left, or if Recon
        chose the windows itself, since they were ready then."""
        self.skipped = unfilled(self.work, error.windows)
        rest = [window for window in windows if name_of(window) not in self.skipped]
        if CHOSEN_TAG in self.context.run.tags or not self.skipped or not rest:
            raise error
        for name, why in islice(self.skipped.items(), _OBSERVED_MAX):
            self._observe(name, {"skipped": why}, f"skipped: {why}")
        more = f"; and {len(self.skipped) - _NAMED_MAX} more" if len(self.skipped) > _NAMED_MAX else ""
        self.context.log.warning(f"skipped: {'; '.join(islice(self.skipped.values(), _NAMED_MAX))}{more}")
        self.context.instance.add_run_tags(self.context.run.run_id, {SKIPPED_TAG: _listed(list(self.skipped))})
        self._leave_to_this()
        return rest

    def _leave_to_this(self) -> None:
        """With this tag Dagster reports no window of this run by itself."""
        cast("dict[str, str]", self.context.run.tags)[EXTERNALLY_MANAGED_ASSETS_TAG] = "true"

    @property
    def version(self) -> dg.DataVersion | None:
        """The data version of the one window that the run has done; None for several, which have theirs already."""
        return dg.DataVersion(next(iter(self.versions.values()))) if len(self.versions) == 1 else None

    def _key(self, window: str) -> str:
        return key_of(self.work.config.grid, window)

    def _observe(self, window: str, metadata: Mapping[str, Any], description: str | None = None) -> None:
        partition = self._key(window)
        self.context.log_event(dg.AssetObservation(self.context.asset_key, metadata=metadata, partition=partition, description=description))

    def _report_done(self) -> None:
        code = {CODE_VERSION_TAG: self.work.config.rules_version}
        op, batch = self.context.op_execution_context, secrets.token_hex(16)
        for number, (window, metadata) in enumerate(self.done.items(), 1):
            partition, version = self._key(window), self.versions.get(window)
            tags = code if version is None else {**code, DATA_VERSION_TAG: version, DATA_VERSION_IS_USER_PROVIDED_TAG: "true"}
            made = dg.AssetMaterialization(self.context.asset_key, metadata=metadata, partition=partition, tags=tags)
            # As log_event does, but in one batch: Dagster stores each event without a batch in a transaction of its own.
            mark = DagsterEventBatchMetadata(batch, number == len(self.done))
            op._events.append(DagsterEvent.asset_materialization(op._step_execution_context, made, mark))

    def _report_failed(self, windows: Sequence[datetime]) -> None:
        """Reports why each bad window failed among the window's own events, where people look for it."""
        bad = self.work.report.bad
        for window in islice((window for window in map(name_of, windows) if window in bad), _OBSERVED_MAX):
            self._observe(window, {"failed": bad[window]}, f"failed: {bad[window]}")

    def _leave_missing(self, windows: Sequence[str]) -> None:
        """Restores how Dagster shows the windows that are not at fault: the skipped windows, and in the assets that the run did not reach,
        all but the bad windows.

        Dagster shows every planned window of a failed run as failed, so those windows are planned again without a run. Recon's next runs
        process the other windows of a range that Recon chose."""
        bad = [name for name in windows if name in self.work.report.bad]
        untried = [name for name in windows if name not in bad] if bad and CHOSEN_TAG not in self.context.run.tags else [*self.skipped]
        selected, own = self.context.job_def.asset_layer.selected_asset_keys, self.assets.index(self.context.asset_key)
        left = next((name for name in windows if name not in self.skipped and name not in self.done), None)
        for at, key in enumerate(self.assets):
            if key not in selected or not (spared := untried if at > own else [*self.skipped]):
                continue
            for name in spared:
                self._plan(key, name, RUNLESS_RUN_ID)
            if at >= own and left is not None:  # the newest plan of an asset names its newest run
                self._plan(key, left, self.context.run.run_id)

    def _plan(self, key: dg.AssetKey, window: str, run_id: str) -> None:
        planned = AssetMaterializationPlannedData(key, partition=self._key(window))
        event = DagsterEvent.build_asset_materialization_planned_event(self.context.run.job_name, "", planned)
        self.context.instance.report_dagster_event(event, run_id)


def _is_deferred(context: dg.AssetExecutionContext) -> bool:
    return EXTERNALLY_MANAGED_ASSETS_TAG in context.run.tags


def _listed(windows: Sequence[str]) -> str:
    more = f" and {len(windows) - _TAGGED_MAX} more" if len(windows) > _TAGGED_MAX else ""
    return f"{', '.join(windows[:_TAGGED_MAX])}{more}"
