"""The sensor that starts a delivery run when files have arrived in a source's folder."""

import hashlib
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from jobs.in_flight import UNFINISHED
from jobs.next_block import seconds_of
from jobs.sensors import TICK, TICK_S, at_start, kept_in, report_check
from recon.config import Config
from recon.errors import ReconError
from recon.intake.sources.inbox import QueueInbox
from recon.intake.sources.quiet import changing
from recon.intake.sources.receive import fresh
from recon.intake.sources.records import waits
from recon.intake.sources.site import Intake
from recon.intake.sources.standing import Standing, is_stopped, standing_of, stopped
from recon_assets.assets import asset_key
from recon_assets.intake import ARRIVED, CLEAN, arrival_verdict, missing_now
from resources import cloudwatch
from resources.database import SiteDatabase, database_key

_NAMED_MAX = 3
ATTEMPTS = 3
"""Runs for the same arrivals, one after the other; further ones start ``AGAIN`` after the one before, since an outage may have ended."""
AGAIN = timedelta(hours=1)
ARRIVED_TAG = ".dagster/recon_arrived"
"""Tag of a delivery run: the digest of what had arrived."""


def delivery_sensor(config: Config) -> dg.SensorDefinition:
    """``<name>_deliver_sensor``."""
    database, job = database_key(config.name), f"{config.name}_deliver"
    late = dg.AssetCheckKey(asset_key(config.name, CLEAN), ARRIVED)

    @dg.sensor(
        name=f"{config.name}_deliver_sensor",
        job_name=job,
        minimum_interval_seconds=seconds_of(TICK, TICK_S),
        default_status=at_start(),
        description="Starts a run that takes new files from the inboxes to their windows. Reports late files as a failed check.",
        required_resource_keys={database},
    )
    def evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            opened: SiteDatabase = getattr(context.resources, database)
            intake = opened.intake(config, "sensor")
            # No run may come for a file that does not.
            verdict = arrival_verdict(intake, datetime.now(UTC))
            report_check(context.instance, late, verdict)
            kept, problem = _tell(config, verdict, kept_in(context.cursor))
            answer = _answer(context.instance, intake, job)
        except ReconError as error:
            return dg.SkipReason(str(error))
        cursor = json.dumps(kept) if kept else None
        if isinstance(answer, dg.RunRequest):
            return dg.SensorResult(run_requests=[answer], cursor=cursor)
        reason = "; ".join([answer, problem] if problem else [answer])
        return dg.SensorResult(skip_reason=dg.SkipReason(reason), cursor=cursor)

    return evaluate


def _tell(config: Config, verdict: dg.AssetCheckResult, kept: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Sends once a minute how many files are missing. Returns the new cursor, and why CloudWatch did not take the figure."""
    if not cloudwatch.due(kept):
        return kept, ""
    missing = float(str(verdict.metadata["missing"].value))
    return {"cloudwatch": time.time()}, cloudwatch.send(config.name, {cloudwatch.FILES_MISSING: missing})


def _answer(instance: dg.DagsterInstance, intake: Intake, job: str) -> dg.RunRequest | str:
    """The delivery run to start, or why none starts."""
    if instance.get_runs_count(dg.RunsFilter(job_name=job, statuses=UNFINISHED)):
        return "a delivery is running"
    standing = standing_of(intake)
    found, unquiet = _arrived(intake, standing)
    if not found:
        written = [f"still being written: {', '.join(unquiet[:_NAMED_MAX])}, {len(unquiet)} in all"] if unquiet else []
        return "; ".join(["no new files", *written, *_held_up(intake, standing), missing_now(intake, datetime.now(UTC))])
    digest = hashlib.sha256("\n".join(found).encode()).hexdigest()[:16]
    return _request(instance, job, digest)


def _request(instance: dg.DagsterInstance, job: str, digest: str) -> dg.RunRequest | str:
    """A run for what has arrived, of this ``digest``: again where earlier ones died or could not take it, at once up to ``ATTEMPTS``."""
    of_these = dg.RunsFilter(job_name=job, tags={ARRIVED_TAG: digest})
    earlier = instance.get_runs_count(of_these)
    if earlier >= ATTEMPTS:
        newest = instance.get_run_records(of_these, limit=1)[0].create_timestamp
        again = (newest if newest.tzinfo else newest.replace(tzinfo=UTC)) + AGAIN
        if datetime.now(UTC) < again:
            why = f"{earlier} runs did not take what has arrived; see their logs, or run 'recon land --from' by hand"
            return f"{why}; it is tried again at {again:%H:%M:%SZ}"
    return dg.RunRequest(run_key=f"{job}:{digest}:attempt {earlier + 1}", tags={ARRIVED_TAG: digest})


def _held_up(intake: Intake, standing: Standing) -> list[str]:
    """Why files that were received are not in their window, for the reason of a sensor that starts nothing."""
    found = [f"source {name} takes no file: {error}" for name, error in intake.broken.items()]
    found += [f"source {name} is stopped by {bad.shown}, file {bad.id}" for name, bad in stopped(intake, standing).items()]
    found += [f"{file.shown}: {why}" for file in standing.open if (why := waits(intake, file)) is not None][:_NAMED_MAX]
    if standing.rejected:
        found.append(f"rejected files: {len(standing.rejected)}, first {standing.rejected[0].shown}")
    return found


def _arrived(intake: Intake, standing: Standing) -> tuple[list[str], list[str]]:
    """What a delivery run would take: new files with their stamps, and files of earlier deliveries with the tries that they had; not those
    whose records functions on AWS still work on, or whose source is stopped or has a mistake. And the names of files that are still being
    written."""
    taken = [file for file in standing.open if file.source not in intake.broken and not is_stopped(intake, standing, file)]
    found = [f"{file.id} {file.state} {file.tries}" for file in taken if waits(intake, file) is None]
    unquiet = list[str]()
    for location in intake.inboxes:
        inbox = intake.inbox(location)
        if isinstance(inbox, QueueInbox):
            # A message has no name before it is received: as long as some wait, each minute may start a run.
            found += [f"{location} {datetime.now(UTC):%Y-%m-%dT%H:%M}"] if inbox.waiting() else []
        else:
            new = fresh(intake, inbox.items())
            still = changing(intake, new)
            unquiet += [item.name for item in still]
            found += [f"{item.place} {item.stamp}" for item in new if item not in still]
    return found, unquiet
