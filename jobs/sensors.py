"""The sensors that keep a reconciliation up to date by themselves: one a stage, and one that closes windows.

A stage's sensor takes the oldest block of consecutive windows that the stage before has finished, up to the cap, unless a run is at that
stage. So stages of successive ranges overlap like an assembly line, and ranges grow with the backlog. A gap or a bad window does not
hold up later ones.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import dagster as dg

from jobs import in_flight
from jobs.asset_jobs import EVERYTHING, SENSED, job_name, stages_of
from jobs.next_block import Earlier, choose, digest_of, named
from recon.config import Config
from recon.errors import Damaged, ReconError, WrongUsage
from recon.intake import landing_log
from recon.intake.manifests import read_manifest
from recon.planning.candidates import candidates, ready, why_nothing
from recon.planning.closing import close_due, past_deadline
from recon.planning.freshness import freshness
from recon.serving import builds
from recon.state.kept_rules import refuse_other_rules
from recon.state.timeline import State, Timeline
from recon.storage import clock
from recon.storage.port import ObjectStore
from recon_assets.assets import asset_key
from recon_assets.checks import FRESHNESS, FRESHNESS_OF, freshness_verdict
from recon_assets.partitions import RANGE_END, RANGE_START, chosen_tags, key_of, window_of
from recon_assets.retries import FAILURE_TAG, NO_FAILURE
from resources import cloudwatch
from resources.stores import resource_key

BLOCK_TAG = ".dagster/recon_block"
"""Tag of a run that a sensor has started: the digest of its block."""
TICK = "RECON_TICK_S"
"""Environment: seconds between two ticks of a sensor."""
_TICK_S = 10
_EARLIER_MAX = 500
_TIME_OF_DAY = re.compile(r"(\d+ d )?(?<![T\d])\d\d:\d\d(:\d\d)?(Z| h)?")
_CLOSED_MAX = 500

Answer = dg.RunRequest | dg.SkipReason
Tick = Callable[[ObjectStore, Timeline, dg.DagsterInstance, str | None], tuple[Answer, str]]


def reconciliation_sensors(config: Config) -> list[dg.SensorDefinition]:
    """``<name>_reduce_sensor`` … ``<name>_certify_sensor``, ``<name>_freshness_sensor``, and ``<name>_closing_sensor`` where the
    configuration closes windows."""
    sensors = [
        _sensor(config, stage, job_name(config, job), said, _stage_tick(config, stage))
        for stage, job, said in (
            ("reduce", SENSED["reduce"], "Takes closed windows that are not reduced."),
            ("merge", SENSED["merge"], "Takes reduced windows that are not committed through pre-fetch and merge."),
            ("index", SENSED["index"], "Takes committed windows that the index has not taken in."),
            ("certify", SENSED["certify"], "Takes indexed windows without a certificate of their last change."),
        )
    ]
    said = "Tells the check watermark_is_fresh while nothing runs, whenever its verdict changes. Starts no runs."
    sensors.append(_sensor(config, "freshness", None, said, _freshness_tick(config)))
    if config.closing.files is not None or config.closing.deadline is not None:
        said = "Closes windows that hold as many files as are expected, or whose deadline has passed. Starts no runs."
        sensors.append(_sensor(config, "closing", None, said, _closing_tick(config)))
    return sensors


def tick_s() -> int:
    """Seconds between two ticks. Raises WrongUsage where $RECON_TICK_S is no whole number above 0."""
    told = os.environ.get(TICK, "")
    if told and not (told.isascii() and told.isdigit() and int(told)):
        raise WrongUsage(f"{TICK}: {told!r} is no whole number of seconds above 0")
    return int(told) if told else _TICK_S


def _sensor(config: Config, stage: str, job: str | None, said: str, tick: Tick) -> dg.SensorDefinition:
    store, seen = resource_key(config.name), _Seen()

    @dg.sensor(
        name=f"{config.name}_{stage}_sensor",
        job_name=job,
        minimum_interval_seconds=tick_s(),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=said,
        required_resource_keys={store},
    )
    def evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            opened = getattr(context.resources, store).open()
            answer, cursor = tick(opened, seen.timeline(opened), context.instance, context.cursor)
        except ReconError as error:
            seen.log(context, str(error))
            return dg.SkipReason(str(error))
        if isinstance(answer, dg.SkipReason):
            seen.log(context, answer.skip_message or "")
        if isinstance(answer, dg.RunRequest):
            return dg.SensorResult(run_requests=[answer], cursor=cursor)
        return dg.SensorResult(skip_reason=answer, cursor=cursor)

    return evaluate


class _Seen:
    """What the last tick has left: the timeline as far as it was read, since a state of 100,000 windows is not to be read every few
    seconds; and why nothing was started."""

    def __init__(self) -> None:
        self._first: object = None
        self._timeline: Timeline | None = None
        self._logged = ""

    def log(self, context: dg.SensorEvaluationContext, reason: str) -> None:
        """Puts the reason into the tick's log, in full, where it is another than that of the tick before, but for times of day: Dagster
        keeps a file for each tick that has logged something."""
        without_times = _TIME_OF_DAY.sub("", reason)
        if without_times != self._logged:
            self._logged = without_times
            context.log.info(reason)

    def timeline(self, store: ObjectStore) -> Timeline:
        entry = Timeline(store).entry(1)
        first = entry and (entry.writer, entry.time)
        if self._timeline is None or first is None or first != self._first:  # none yet, or another store in its place
            self._first, self._timeline = first, Timeline(store)
        return self._timeline


def _stage_tick(config: Config, stage: str) -> Tick:
    job = job_name(config, SENSED[stage])

    def tick(store: ObjectStore, timeline: Timeline, instance: dg.DagsterInstance, cursor: str | None) -> tuple[Answer, str]:
        now, kept = datetime.now(UTC), _kept(cursor)
        found_dead = in_flight.look(instance, store, job, stages_of(stage), kept.get("unheard", {}), now)
        if stage == "reduce":  # runs of the command line that died between two stages
            in_flight.take_over(instance, store, EVERYTHING, found_dead)
        state = timeline.head()
        refuse_other_rules(config, state)
        waiting = candidates(store, state, config, stage, kept.get("followed"))
        after = json.dumps({"followed": waiting.cursor, "unheard": found_dead.unheard}, separators=(",", ":"))
        if found_dead.busy:
            return dg.SkipReason("; ".join([*found_dead.failed, *found_dead.busy])), after
        choice = choose(config, stage, ready(store, state, config, stage, waiting, now), _earlier(config, instance, job), now)
        if not choice.block:
            told = [*found_dead.failed, *choice.passed]
            if not choice.passed or waiting.reasons or waiting.behind:
                told.append(why_nothing(store, state, config, stage, waiting, now))
            return dg.SkipReason("; ".join(told)), after
        if stage == "merge" and (rest := in_flight.rest_of_range(instance, store, key_of(config.grid, choice.block[-1].window))):
            return dg.SkipReason(f"{named(choice.block)} is reduced, the rest of its range is not: {rest}"), after
        digest = digest_of(stage, choice.block)
        attempt = instance.get_runs_count(dg.RunsFilter(job_name=job, tags={BLOCK_TAG: digest})) + 1
        return dg.RunRequest(
            run_key=f"{config.name}:{stage}:{named(choice.block)}:{digest}:attempt {attempt}",
            tags={
                **chosen_tags(config.grid, choice.block[0].window, choice.block[-1].window),
                BLOCK_TAG: digest,
                # The next tick takes over from a run that died; Dagster is not to start a second one beside it.
                "dagster/max_retries": "0",
            },
        ), after

    return tick


def _freshness_tick(config: Config) -> Tick:
    def tick(store: ObjectStore, timeline: Timeline, instance: dg.DagsterInstance, cursor: str | None) -> tuple[Answer, str]:
        state, key = timeline.head(), asset_key(config.name, FRESHNESS_OF)
        found = freshness(store, config, state, datetime.now(UTC))
        verdict = freshness_verdict(found, key)
        # A run tells its own verdict, so what the UI shows is asked for: the sensor and the runs must not disagree.
        if _shown(instance, dg.AssetCheckKey(key, FRESHNESS)) is not found.fresh:
            told = dg.AssetCheckEvaluation(
                asset_key=key,
                check_name=FRESHNESS,
                passed=verdict.passed,
                severity=verdict.severity,
                description=verdict.description,
                metadata=verdict.metadata,
            )
            instance.report_runless_asset_event(told)
        said, at = f"{'fresh' if found.fresh else 'late'}: {verdict.description}", _kept(cursor).get("cloudwatch", 0)
        if not at <= time.time() < at + cloudwatch.EVERY_S:  # a clock that was put back is no reason to fall silent
            at, hindered = time.time(), cloudwatch.send(config.name, found.lag, _table_behind(store, config, state))
            said += f"; {hindered}" if hindered else ""
        return dg.SkipReason(said), json.dumps({"cloudwatch": at})

    return tick


def _table_behind(store: ObjectStore, config: Config, state: State) -> int | None:
    """Commits that the table of look-ups has not taken in; None where there is to be none."""
    if config.index.kind != "dynamodb":
        return None
    table = builds.current(store, state)
    return state.commit - (0 if table is None else builds.frontier(store, table))


def _shown(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> bool | None:
    """Whether the newest evaluation of the check passed, None if there is none."""
    for record in instance.event_log_storage.get_asset_check_execution_history(check, limit=1):
        event = record.event.dagster_event if record.event else None
        if event is not None and isinstance(event.event_specific_data, dg.AssetCheckEvaluation):
            return event.event_specific_data.passed
    return None


def _closing_tick(config: Config) -> Tick:
    def tick(store: ObjectStore, timeline: Timeline, instance: dg.DagsterInstance, cursor: str | None) -> tuple[Answer, str]:
        now, kept = clock.now(store), _kept(cursor)
        state = timeline.head()
        touched, at = landing_log.since(store, kept.get("at"))
        begun = config.grid.parse(kept["closed_to"]) if kept.get("closed_to") else None
        late = list(islice(past_deadline(config, state, now, begun), _CLOSED_MAX))
        still_open = sorted({*kept.get("open", []), *touched, *late})
        closed = close_due(store, config, now, still_open)
        left = [name for name in still_open if not _is_closed(store, config, name)]
        closed_to = late[-1] if late else kept.get("closed_to")
        told = "; ".join(f"{one.window} was closed: {one.reason}" for one in closed) or f"nothing to close; {len(left)} windows are open"
        return dg.SkipReason(told), json.dumps({"at": at, "open": left, "closed_to": closed_to}, separators=(",", ":"))

    return tick


def _is_closed(store: ObjectStore, config: Config, name: str) -> bool:
    """A window whose manifest is damaged is looked at again by every tick, until it is restored."""
    try:
        manifest = read_manifest(store, config.grid.parse(name))
    except Damaged:
        return False
    return manifest is not None and manifest.closed


def _kept(cursor: str | None) -> dict[str, Any]:
    """A cursor that is none, or was made by another version, costs a look at everything, once."""
    try:
        kept = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return kept if isinstance(kept, dict) else {}


def _window_named(config: Config, key: str) -> str:
    """The window of a partition's key; none of a key that another grid had."""
    try:
        return window_of(config.grid, key)
    except WrongUsage:
        return ""


def _earlier(config: Config, instance: dg.DagsterInstance, job: str) -> list[Earlier]:
    """Runs of the stage that failed or were cancelled, newest first."""
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
