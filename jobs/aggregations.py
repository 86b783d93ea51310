"""The sensor that starts the runs of aggregations: it evaluates, claims what is due, and says what the others wait for."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg

from jobs.aggregation_runs import DAGSTER, AggregationRuns
from jobs.late_aggregations import KeptAggregations
from jobs.next_block import seconds_of
from jobs.sensors import TICK, TICK_S, Reasons, at_start, kept_in, report_check
from recon.aggregations.health import incomplete
from recon.aggregations.preconditions.evaluate import Evaluation
from recon.aggregations.preconditions.history import ACTIVE
from recon.aggregations.preconditions.snapshot import ALL
from recon.aggregations.preconditions.why import in_words, reasons
from recon.aggregations.runs.site import Aggregations
from recon.aggregations.runs.tracking import Run
from recon.aggregations.tick import Look, look
from recon.config import Config
from recon.config.settings import Engine
from recon.errors import ReconError
from recon.remote.emr.presence import why_absent
from recon_assets.aggregation_checks import late_scopes, of_freshness, of_inputs, of_table
from recon_assets.aggregation_metadata import of_run
from recon_assets.aggregations import Known, aggregation_key, observation
from recon_assets.partitions import key_of
from resources.database import SiteDatabase, database_key

ACTIVE_MAX = 20
"""Runs that are claimed or running at once; the others are claimed by a later tick."""
_NAMED_MAX, _REPORTED_MAX = 5, 20
_LATE_EVERY = timedelta(minutes=1)


def aggregations_sensor(config: Config, known: Known) -> dg.SensorDefinition:
    """``<name>_aggregations_sensor``."""
    database, kept = database_key(config.name), _Kept(config, known)
    keys = [aggregation_key(config, name) for name in known.definitions.good]

    @dg.sensor(
        name=f"{config.name}_aggregations_sensor",
        asset_selection=dg.AssetSelection.assets(*keys) if keys else None,
        minimum_interval_seconds=seconds_of(TICK, TICK_S),
        default_status=at_start(),
        description="Starts one run for each window of an aggregation that is due, and says what the others wait for, down to the file.",
        required_resource_keys={database},
    )
    def evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            opened: SiteDatabase = getattr(context.resources, database)
            tick = _Tick(kept, kept.opened(opened), context.instance, context.cursor)
            requests, reason = tick.carry_out()
        except ReconError as error:
            kept.log(context, str(error))
            return dg.SkipReason(str(error))
        if requests:
            return dg.SensorResult(run_requests=requests, cursor=tick.cursor)
        kept.log(context, reason)
        return dg.SensorResult(skip_reason=dg.SkipReason(reason), cursor=tick.cursor)

    return evaluate


class _Kept(Reasons):
    """What a sensor keeps from tick to tick: the site, which remembers definitions and files, and when it looked for late ones."""

    def __init__(self, config: Config, known: Known) -> None:
        super().__init__(config.name)
        self.config, self.known = config, known
        self.looked = datetime.min.replace(tzinfo=UTC)
        self.opened = KeptAggregations(config).opened


@dataclass
class _Tick:
    """One tick. ``cursor``: JSON; ``reported``: number of the last run that was looked at, ``pending``: earlier ones that were at work.
    ``absent``: cluster → why it takes no step."""

    kept: _Kept
    site: Aggregations
    instance: dg.DagsterInstance
    cursor: str | None
    runs: AggregationRuns = field(init=False)
    absent: dict[str | None, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.runs = AggregationRuns(self.site, self.instance)

    def carry_out(self) -> tuple[list[dg.RunRequest], str]:
        """The runs to start, and why no others do."""
        unknown = self.runs.follow()
        found = look(self.site)
        for run in found.ended:
            self.runs.fail_dead(run)
        claimed, passed = self._claim(found)
        texts = [*passed, *self._reasons(found.waiting), *self._reasons_of_definitions(found), *self._reported(found)]
        return [self.runs.request(run) for run in (*unknown, *claimed)], "; ".join(texts) or "nothing new to aggregate"

    def _reported(self, found: Look) -> list[str]:
        """Reports to Dagster what changed. Returns why something could not be: that keeps no run from starting, and the next tick tries."""
        failed = []
        for report in (self._report_waiting, self._report_late, self._report_runs):
            try:
                report(found)
            except ReconError as error:
                failed.append(f"not reported to Dagster: {error}")
        return failed

    def _claim(self, found: Look) -> tuple[list[Run], list[str]]:
        """The runs that are claimed now, and why others that are due are not."""
        claimed: list[Run] = []
        passed: list[str] = []
        room = ACTIVE_MAX - len(self.site.runs.active())
        for one in found.due:
            if (why := self._why_not(one)) is not None:
                passed.append(f"{_named(one)}: {why}")
            elif room > len(claimed) and (run := self.site.runs.claim(one, DAGSTER)) is not None:
                claimed.append(run)
        return claimed, passed[:_NAMED_MAX]

    def _why_not(self, evaluation: Evaluation) -> str | None:
        """Why Dagster cannot start a run of a scope that is due."""
        definition = evaluation.definition
        if not self._is_known(evaluation):
            return "it is due, but this code location does not know it, or knows it with another 'per'; press Reload"
        if definition.config.engine.elsewhere and (absent := self._absent(definition.config.engine)):
            return f"it is due, and waits for {absent}"
        return None

    def _absent(self, engine: Engine) -> str:
        """Why no cluster takes the run; asked once in a tick."""
        if engine.cluster not in self.absent:
            self.absent[engine.cluster] = why_absent(engine)
        return self.absent[engine.cluster]

    def _is_known(self, evaluation: Evaluation) -> bool:
        known = self.kept.known.definitions.good.get(evaluation.definition.name)
        return known is not None and known.section.per == evaluation.definition.section.per

    def _reasons(self, waiting: Sequence[Evaluation]) -> list[str]:
        """What the newest waiting scopes wait for, in words."""
        newest = sorted(waiting, key=lambda one: one.scope, reverse=True)
        texts = [f"{_named(one)} waits: {self._words(one)}" for one in newest[:_NAMED_MAX]]
        return texts + ([f"{len(waiting) - _NAMED_MAX:,} more wait"] if len(waiting) > _NAMED_MAX else [])

    def _words(self, evaluation: Evaluation) -> str:
        return in_words(reasons(self.site.intake.database, self.site.config.name, evaluation), evaluation.at)

    def _reasons_of_definitions(self, found: Look) -> list[str]:
        texts = [f"{name} is disabled by a mistake: {mistake}" for name, mistake in found.definitions.broken.items()]
        if new := sorted(found.definitions.good.keys() - self.kept.known.definitions.good.keys()):
            texts.append(f"{', '.join(new)}: new since this code location was loaded; press Reload")
        return texts

    def _report_waiting(self, found: Look) -> None:
        """Reports what scopes wait for among the events of their assets, where it changed."""
        for one in [one for one in found.changed if self._is_known(one) and not one.past.active][:_REPORTED_MAX]:
            self._report(observation(self._key(one.definition.name), self._partition(one.scope), "waits", self._words(one)))

    def _report_late(self, found: Look) -> None:
        """Reports the check of what is late where its result changed, since no run may come that does."""
        now = self.site.runs.now()
        if not found.changed and now - self.kept.looked < _LATE_EVERY:
            return
        self.kept.looked = now
        own: dict[str, list[Evaluation]] = {}
        for one in (*found.due, *found.waiting):
            own.setdefault(one.definition.name, []).append(one)
        for name in found.definitions.good.keys() & self.kept.known.definitions.good.keys():
            late = late_scopes(self.site, found.definitions.good[name], own.get(name, []), now)
            self._report_check(of_freshness(self._key(name), late))

    def _report_runs(self, found: Look) -> None:
        """Reports the runs that completed without a run of Dagster that says so: those of the command line, of processes that died after
        their load, and of a Dagster whose home was lost. Of each scope the newest, and some at a time."""
        kept = kept_in(self.cursor)
        pending, last, loaded = set[int](), int(kept.get("reported", 0)), set[tuple[str, int]]()
        runs = self.site.runs.after(last, kept.get("pending", []))
        newest = {(run.aggregation, run.scope): run.id for run in runs if run.state == "completed"}
        for run in runs:
            last, launched = max(last, run.id), self.instance.get_run_by_id(run.worker)
            if run.state in ACTIVE or (launched is not None and not launched.is_finished):
                pending.add(run.id)
            elif self._has_asset(run) and newest.get((run.aggregation, run.scope)) == run.id and not (launched and launched.is_success):
                if len(loaded) == _REPORTED_MAX:
                    pending.add(run.id)
                    continue
                loaded.add((run.aggregation, run.id))
                metadata, partition = of_run(self.site, run), self._partition(run.scope)
                self._report(dg.AssetMaterialization(self._key(run.aggregation), metadata=metadata, partition=partition))
        for name in sorted({name for name, _ in loaded}):
            self._report_table(name)
        self.cursor = json.dumps({"reported": last, "pending": sorted(pending)}, separators=(",", ":"))

    def _report_table(self, name: str) -> None:
        definition, key = self.kept.known.definitions.good[name], self._key(name)
        audit = self.site.warehouse.audit(definition.section.target, list(definition.key_types))
        for result in (*of_table(key, audit), of_inputs(key, incomplete(self.site, name), loaded=True)):
            self._report_check(result)

    def _has_asset(self, run: Run) -> bool:
        known = self.kept.known.definitions.good.get(run.aggregation)
        return known is not None and (known.section.per == ALL) == (run.scope == ALL)

    def _report_check(self, result: dg.AssetCheckResult) -> None:
        assert result.asset_key, "all of ours name it"
        report_check(self.instance, dg.AssetCheckKey(result.asset_key, str(result.check_name)), result)

    def _report(self, event: dg.AssetMaterialization | dg.AssetObservation) -> None:
        self.instance.report_runless_asset_event(event)

    def _key(self, name: str) -> dg.AssetKey:
        return aggregation_key(self.site.config, name)

    def _partition(self, scope: str) -> str | None:
        return None if scope == ALL else key_of(self.site.config.grid, scope)


def _named(evaluation: Evaluation) -> str:
    return evaluation.definition.name + ("" if evaluation.scope == ALL else f", {evaluation.scope}")
