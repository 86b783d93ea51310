"""The runs of aggregations as Dagster sees them: which claimed runs it still has to start, and which of its runs are over.

The aggregations' own table says what is at work; Dagster is asked only what became of the runs that it was to start. So a claim is
neither lost when a daemon dies before it launches, nor started twice: its run key is that of the claim.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from jobs.in_flight import UNHEARD_S
from recon.aggregations.preconditions.snapshot import ALL
from recon.aggregations.runs.monitor import conclude
from recon.aggregations.runs.site import Aggregations
from recon.aggregations.runs.tracking import LEASE, Run
from recon.errors import ReconError
from recon_assets.aggregations import RUN_TAG, aggregation_key
from recon_assets.partitions import WINDOWS_TAG, key_of

DAGSTER = "dagster"
"""The worker of a run that is claimed for Dagster, which has not begun it yet."""
CLAIM_TAG = ".dagster/recon_claim"
"""Tag of a run of Dagster: the claim that it carries out. Numbers of runs alone begin anew with a new database."""
_WAITS = (dg.DagsterRunStatus.QUEUED,)
_NOT_LAUNCHED = (dg.DagsterRunStatus.NOT_STARTED,)


@dataclass(frozen=True)
class AggregationRuns:
    """The active runs of one reconciliation beside an instance of Dagster."""

    site: Aggregations
    instance: dg.DagsterInstance

    def request(self, run: Run) -> dg.RunRequest:
        """The request for the run of Dagster that carries out a claimed run: always the same one."""
        config, claim = self.site.config, _claim(run)
        shown = {"recon/aggregation": run.aggregation, **({} if run.scope == ALL else {WINDOWS_TAG: run.scope})}
        return dg.RunRequest(
            run_key=f"{config.name}:{claim}",
            asset_selection=[aggregation_key(config, run.aggregation)],
            partition_key=None if run.scope == ALL else key_of(config.grid, run.scope),
            tags={RUN_TAG: str(run.id), CLAIM_TAG: claim, "dagster/max_retries": "0", **shown},
        )

    def follow(self) -> list[Run]:
        """Ends the runs whose runs of Dagster are over, and keeps those alive that wait in its queue. Returns the claimed runs that Dagster
        does not know yet, since its daemon died between claim and launch."""
        unknown = []
        for run in self.site.runs.active():
            if run.state == "claimed" and run.worker == DAGSTER:
                if self._is_unknown(run):
                    unknown.append(run)
            elif (launched := self.instance.get_run_by_id(run.worker)) is not None and launched.is_finished:
                self._conclude(run, launched)
        return unknown

    def fail_dead(self, run: Run) -> None:
        """Fails the run of Dagster of a run whose process died: Dagster may not have seen that."""
        launched = self.instance.get_run_by_id(run.worker)
        if launched is None and (record := self._record(run)) is not None:
            launched = record.dagster_run
        if launched is not None and not launched.is_finished:
            self.instance.report_run_failed(launched, f"run {run.id} of {run.aggregation}, {run.scope}: {run.reason}")

    def _is_unknown(self, run: Run) -> bool:
        record = self._record(run)
        if record is None or record.dagster_run.status in _NOT_LAUNCHED:
            self.site.runs.beat(run)
            return True
        if record.dagster_run.is_finished:
            self._conclude(run, record.dagster_run)
        elif record.dagster_run.status in _WAITS or _age(record) < timedelta(seconds=UNHEARD_S) - LEASE:
            self.site.runs.beat(run)
        return False

    def _conclude(self, run: Run, launched: dg.DagsterRun) -> None:
        cancelled = launched.status is dg.DagsterRunStatus.CANCELED
        how = "was cancelled" if cancelled else "has ended; its log says why"
        with suppress(ReconError):  # the warehouse can't be asked; a later tick does, or ends the run with its lease
            conclude(self.site, run, "cancelled" if cancelled else "failed", f"its run of Dagster, {launched.run_id}, {how}")

    def _record(self, run: Run) -> dg.RunRecord | None:
        found = self.instance.get_run_records(dg.RunsFilter(tags={CLAIM_TAG: _claim(run)}), limit=1)
        return found[0] if found else None


def _claim(run: Run) -> str:
    return f"aggregation run {run.id} claimed {run.claimed_at:%Y-%m-%dT%H:%M:%S.%fZ}"


def _age(record: dg.RunRecord) -> timedelta:
    """The time since the run changed its status."""
    at = record.update_timestamp
    return datetime.now(UTC) - (at if at.tzinfo else at.replace(tzinfo=UTC))
