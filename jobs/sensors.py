"""The sensors that keep a reconciliation up to date: one per stage, one for freshness, and one that closes windows.

A stage's sensor starts a run for the oldest block of consecutive windows that the previous stage has finished, up to the caps, unless a run
is at that stage. So the stages of successive ranges overlap like an assembly line, and ranges grow with the backlog. A gap or a bad window
does not delay later windows.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import dagster as dg

from jobs import in_flight
from jobs.alarms import tell, tell_failed
from jobs.asset_jobs import EVERYTHING, SENSED, job_name, stages_of
from jobs.next_block import Earlier, choose, digest_of, named, seconds_of
from jobs.quiet import Watch
from recon.config import Config
from recon.errors import Damaged, ReconError, WrongUsage
from recon.intake import landing_log
from recon.intake.manifests import read_manifest
from recon.planning.candidates import candidates, ready, why_nothing
from recon.planning.closing import close_due, has_passed, past_deadline
from recon.planning.freshness import freshness
from recon.state.earlier import refuse_earlier_records
from recon.state.kept_rules import refuse_other_rules
from recon.state.timeline import State, Timeline
from recon.storage import clock
from recon.storage.port import ObjectStore
from recon.telemetry import logs
from recon_assets.assets import asset_key
from recon_assets.checks import FRESHNESS, FRESHNESS_OF, freshness_verdict
from recon_assets.partitions import RANGE_END, RANGE_START, chosen_tags, key_of, window_of
from recon_assets.retries import FAILURE_TAG, NO_FAILURE
from resources import cloudwatch
from resources.stores import resource_key

BLOCK_TAG = ".dagster/recon_block"
"""Tag of a run that a sensor started: the digest of its block."""
TICK = "RECON_TICK_S"
"""Environment variable: seconds between two ticks of a sensor."""
TICK_S = 10
SENSORS = "RECON_SENSORS"
"""Environment variable: ``stopped``, if sensors are not to look before somebody starts them in the UI."""
_EARLIER_MAX = 500
_TIME_OF_DAY = re.compile(r"(\d+ d )?(?<![T\d])\d\d:\d\d(:\d\d)?(Z| h)?")
_CLOSED_MAX = 500

Answer = dg.RunRequest | dg.SkipReason
Tick = Callable[[ObjectStore, Timeline, dg.DagsterInstance, str | None], tuple[Answer, str]]
Failed = Callable[[str | None], str | None]
"""The cursor after a tick that raised an error, from the cursor before it."""


def reconciliation_sensors(config: Config, watch: Watch) -> list[dg.SensorDefinition]:
    """``<name>_reduce_sensor`` … ``<name>_certify_sensor``, ``<name>_freshness_sensor``, and, if the configuration closes windows,
    ``<name>_closing_sensor``. ``watch``: the store that they share."""
    sensors = [
        _sensor(config, watch, stage, job_name(config, job), description, _stage_tick(config, stage))
        for stage, job, description in (
            ("reduce", SENSED["reduce"], "Starts runs that reduce closed windows."),
            ("merge", SENSED["merge"], "Starts runs that pre-fetch and merge reduced windows."),
            ("index", SENSED["index"], "Starts runs that add committed windows to the index."),
            ("certify", SENSED["certify"], "Starts runs that certify indexed windows whose last change has no certificate."),
        )
    ]
    description = "Evaluates the check watermark_is_fresh while no run does, and reports it when its result changes. Starts no runs."
    sensors.append(
        _sensor(config, watch, "freshness", None, description, _freshness_tick(config), lambda cursor: tell_failed(config, kept_in(cursor)))
    )
    if config.closing.files is not None or config.closing.deadline is not None:
        description = "Closes windows that have all expected files, or whose deadline has passed. Starts no runs."
        sensors.append(_sensor(config, watch, "closing", None, description, _closing_tick(config)))
    return sensors


def _sensor(
    config: Config, watch: Watch, stage: str, job: str | None, description: str, tick: Tick, failed: Failed = lambda cursor: cursor
) -> dg.SensorDefinition:
    store, last = resource_key(config.name), Reasons(config.name)

    @dg.sensor(
        name=f"{config.name}_{stage}_sensor",
        job_name=job,
        minimum_interval_seconds=seconds_of(TICK, TICK_S),
        default_status=at_start(),
        description=description,
        required_resource_keys={store},
    )
    def evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            opened, timeline = watch.at(getattr(context.resources, store).open, context.instance)
            answer, cursor = tick(opened, timeline, context.instance, context.cursor)
        except ReconError as error:
            last.log(context, str(error))
            return dg.SensorResult(skip_reason=dg.SkipReason(str(error)), cursor=failed(context.cursor))
        if isinstance(answer, dg.SkipReason):
            last.log(context, answer.skip_message or "")
        if isinstance(answer, dg.RunRequest):
            return dg.SensorResult(run_requests=[answer], cursor=cursor)
        return dg.SensorResult(skip_reason=answer, cursor=cursor)

    return evaluate


def at_start() -> dg.DefaultSensorStatus:
    """The status of a sensor that nobody has started or stopped yet. Raises WrongUsage if RECON_SENSORS has another value."""
    text = os.environ.get(SENSORS) or "running"
    if text not in ("running", "stopped"):
        raise WrongUsage(f"{SENSORS}: {text!r} is neither 'running' nor 'stopped'")
    return dg.DefaultSensorStatus[text.upper()]


class Reasons:
    """The reason that the last tick of a sensor of a reconciliation logged."""

    def __init__(self, reconciliation: str) -> None:
        self._reconciliation, self._logged = reconciliation, ""

    def log(self, context: dg.SensorEvaluationContext, reason: str) -> None:
        """Logs the reason unless it differs from the last one only in times of day: Dagster stores a file for each tick that logs."""
        without_times = _TIME_OF_DAY.sub("", reason)
        if without_times != self._logged:
            self._logged = without_times
            with logs.logged_with(reconciliation=self._reconciliation):
                context.log.info(reason)


def _stage_tick(config: Config, stage: str) -> Tick:
    job = job_name(config, SENSED[stage])

    def tick(store: ObjectStore, timeline: Timeline, instance: dg.DagsterInstance, cursor: str | None) -> tuple[Answer, str]:
        now, kept = datetime.now(UTC), kept_in(cursor)
        found_dead = in_flight.look(instance, store, job, stages_of(stage), kept.get("unheard", {}), now)
        if stage == "reduce":  # command-line runs that died between two stages
            in_flight.take_over(instance, store, EVERYTHING, found_dead)
        state = timeline.head()
        refuse_other_rules(config, state)
        refuse_earlier_records(store, state)
        waiting = candidates(store, state, config, stage, kept.get("followed"))
        after = json.dumps({"followed": waiting.cursor, "unheard": found_dead.unheard}, separators=(",", ":"))
        if found_dead.busy:
            return dg.SkipReason("; ".join([*found_dead.failed, *found_dead.busy])), after
        choice = choose(config, stage, ready(store, state, config, stage, waiting, now), _earlier(config, instance, job), now)
        if not choice.block:
            reasons = [*found_dead.failed, *choice.passed]
            if not choice.passed or waiting.reasons or waiting.behind:
                reasons.append(why_nothing(store, state, config, stage, waiting, now))
            return dg.SkipReason("; ".join(reasons)), after
        if stage == "merge" and (rest := in_flight.rest_of_range(instance, store, key_of(config.grid, choice.block[-1].window))):
            return dg.SkipReason(f"{named(choice.block)} is reduced, the rest of its range is not: {rest}"), after
        digest = digest_of(config, stage, choice.block)
        attempt = instance.get_runs_count(dg.RunsFilter(job_name=job, tags={BLOCK_TAG: digest})) + 1
        return dg.RunRequest(
            run_key=f"{config.name}:{stage}:{named(choice.block)}:{digest}:attempt {attempt}",
            tags={
                **chosen_tags(config.grid, choice.block[0].window, choice.block[-1].window),
                BLOCK_TAG: digest,
                # The next tick takes over from a dead run; Dagster must not start another run beside it.
                "dagster/max_retries": "0",
            },
        ), after

    return tick


def _freshness_tick(config: Config) -> Tick:
    def tick(store: ObjectStore, timeline: Timeline, instance: dg.DagsterInstance, cursor: str | None) -> tuple[Answer, str]:
        state, key = timeline.head(), asset_key(config.name, FRESHNESS_OF)
        found = freshness(store, config, state, datetime.now(UTC))
        verdict = freshness_verdict(found, key)
        report_check(instance, dg.AssetCheckKey(key, FRESHNESS), verdict)
        reason, kept = f"{'fresh' if found.fresh else 'late'}: {verdict.description}", kept_in(cursor)
        if cloudwatch.due(kept):
            kept, problem = tell(store, config, state, found, kept)
            reason += f"; {problem}" if problem else ""
        return dg.SkipReason(reason), json.dumps(kept, separators=(",", ":"))

    return tick


def _freshness_failed(config: Config) -> Failed:
    return lambda cursor: tell_failed(config, kept_in(cursor))


def report_check(instance: dg.DagsterInstance, check: dg.AssetCheckKey, result: dg.AssetCheckResult) -> None:
    """Reports a check without a run, where its result differs from the newest one: runs report results, too."""
    if shown(instance, check) is result.passed:
        return
    evaluation = dg.AssetCheckEvaluation(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=result.passed,
        severity=result.severity,
        description=result.description,
        metadata=result.metadata,
    )
    instance.report_runless_asset_event(evaluation)


def shown(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> bool | None:
    """Whether the newest evaluation of the check passed; None without an evaluation."""
    for record in instance.event_log_storage.get_asset_check_execution_history(check, limit=1):
        event = record.event.dagster_event if record.event else None
        if event is not None and isinstance(event.event_specific_data, dg.AssetCheckEvaluation):
            return event.event_specific_data.passed
    return None


def _closing_tick(config: Config) -> Tick:
    def tick(store: ObjectStore, timeline: Timeline, instance: dg.DagsterInstance, cursor: str | None) -> tuple[Answer, str]:
        kept, state = kept_in(cursor), timeline.head()
        touched, at = landing_log.since(store, kept.get("at"))
        begun = config.grid.parse(kept["closed_to"]) if kept.get("closed_to") else None
        now = clock.here()
        late = _late(config, state, now, begun)
        # ``clock.now`` is never later than this clock, and takes three requests: it is called only where a deadline may close a window.
        if late or any(has_passed(config, name, now) for name in (*kept.get("open", []), *touched)):
            now = clock.now(store)
        late = _late(config, state, now, begun) if late else []
        still_open = sorted({*kept.get("open", []), *touched, *late})
        closed = close_due(store, config, now, still_open)
        left = [name for name in still_open if not _is_closed(store, config, name)]
        closed_to = late[-1] if late else kept.get("closed_to")
        reason = (
            "; ".join(f"{found.window} was closed: {found.reason}" for found in closed) or f"nothing to close; {len(left)} windows are open"
        )
        return dg.SkipReason(reason), json.dumps({"at": at, "open": left, "closed_to": closed_to}, separators=(",", ":"))

    return tick


def _late(config: Config, state: State, now: datetime, begun: datetime | None) -> list[str]:
    """Names of the first windows whose deadline has passed."""
    return list(islice(past_deadline(config, state, now, begun), _CLOSED_MAX))


def _is_closed(store: ObjectStore, config: Config, name: str) -> bool:
    """Whether a window is closed. False for a damaged manifest, so that each tick looks at it again until it is restored."""
    try:
        manifest = read_manifest(store, config.grid.parse(name))
    except Damaged:
        return False
    return manifest is not None and manifest.closed


def kept_in(cursor: str | None) -> dict[str, Any]:
    """The cursor's content; empty without a cursor or for another version's cursor, so that the tick looks at everything once."""
    try:
        kept = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return kept if isinstance(kept, dict) else {}


def _window_named(config: Config, key: str) -> str:
    """The name of a partition's window; "" for a key of another grid."""
    try:
        return window_of(config.grid, key)
    except WrongUsage:
        return ""


def _earlier(config: Config, instance: dg.DagsterInstance, job: str) -> list[Earlier]:
    """The stage's failed and cancelled runs, newest first."""
    statuses = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    found = []
    for record in instance.get_run_records(dg.RunsFilter(job_name=job, statuses=statuses), limit=_EARLIER_MAX):
        tags = record.dagster_run.tags
        if BLOCK_TAG in tags:
            ended = record.update_timestamp if record.update_timestamp.tzinfo else record.update_timestamp.replace(tzinfo=UTC)
            run, cancelled = record.dagster_run, record.dagster_run.status is dg.DagsterRunStatus.CANCELED
            failure = tags.get(FAILURE_TAG, "").removeprefix(NO_FAILURE)
            first, last = (_window_named(config, tags.get(name, "")) for name in (RANGE_START, RANGE_END))
            found.append(Earlier(run.run_id, failure, ended, first, last, tags[BLOCK_TAG], cancelled))
    return found
