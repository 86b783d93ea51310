"""Failed runs of a reconciliation as incidents: one for a job and its windows, until a later run of it succeeds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import dagster as dg
from dagster._core.storage.tags import WILL_RETRY_TAG

from recon.config import Config
from recon.reading.incidents import Incident
from recon.storage.redact import shareable
from recon_assets.partitions import PARTITION, RANGE_END, RANGE_START, key_of
from recon_assets.retries import FAILURE_TAG, NO_FAILURE

LOOK_BACK = timedelta(hours=1)
"""How far back a first look goes."""
_OVERLAP = timedelta(minutes=1)
"""Runs that were stored late are found by the next look."""
_FORGOTTEN = timedelta(hours=3)
"""An incident that lasts fails again within this time, since no range waits longer than an hour."""
_RUNS_MAX, _OPEN_MAX = 500, 200
_RANGE = (PARTITION, RANGE_START, RANGE_END)

_TRIED_AGAIN = "Nothing yet: it is tried again with growing waits. If this lasts, see that the service it names is there."
KILLED, UNEXPECTED = "killed", "unexpected"
NEXT_STEPS = {
    "Throttled": _TRIED_AGAIN,
    "ConnectionLost": _TRIED_AGAIN,
    "TimedOut": _TRIED_AGAIN,
    "TryAgain": _TRIED_AGAIN,
    "OutOfCapacity": "Free space on the disk, or raise the quota; it is tried again with growing waits.",
    "WrongInput": "Correct the file that is named and land it with `--replace`; the next run takes it.",
    "NotReady": "`recon status` says what these windows wait for.",
    "Damaged": "Restore the file that is named from a copy; `recon verify` finds others.",
    "WrongUsage": "Correct what the message names; nothing is processed until then.",
    KILLED: "Its process was killed, or failed before it came to its stages; lack of memory is the most frequent cause. The next run takes "
    "over its windows; see the run's log in Dagster if it fails again.",
    UNEXPECTED: "See the run's log in Dagster. Nothing is half done, so it may be run again.",
}
"""Kind of failure → what to do."""


@dataclass(frozen=True)
class FailedRuns:
    """Failed runs as of a look. ``incidents``: those that lasted or are new. ``cursor``: for the next look."""

    incidents: list[Incident]
    cursor: dict[str, Any]


def failed_runs(
    instance: dg.DagsterInstance, config: Config, cursor: Mapping[str, Any], windows: Collection[str], now: datetime
) -> FailedRuns:
    """Looks at the runs that failed since the last look. ``windows``: those that are incidents themselves; runs that failed on their data
    are none."""
    since = datetime.fromisoformat(cursor["at"]) if cursor.get("at") else now - LOOK_BACK
    failing = {key: Failing(*kept) for key, kept in cursor.get("failing", {}).items()}
    failing = {key: run for key, run in failing.items() if not run.over(instance, now)}
    found = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since - _OVERLAP),
        limit=_RUNS_MAX,
        order_by="update_timestamp",
        ascending=True,
    )
    seen = set(cursor.get("seen", []))
    for record in found:
        run = record.dagster_run
        if run.run_id not in seen and _is_of(run, config) and not _reported_otherwise(run, config, windows):
            key = f"run_failed:{run.job_name}:{_range_of(run)}"
            known = failing.pop(key, None)  # the newest is the last
            kind = known.kind if known else _kind_of(run) or (UNEXPECTED if _messages(instance, run.run_id) else KILLED)
            failing[key] = Failing(run.run_id, (record.end_time or now.timestamp()), run.job_name, _range_of(run), kind)
    failing = dict(list(failing.items())[-_OPEN_MAX:])
    newest = max([since, *(_utc(record.update_timestamp) for record in found)])
    after = newest + _OVERLAP if len(found) == _RUNS_MAX else newest
    kept = {
        "at": after.isoformat(),
        "seen": [record.dagster_run.run_id for record in found if _utc(record.update_timestamp) >= newest - 2 * _OVERLAP],
        "failing": {key: list(run) for key, run in failing.items()},
    }
    return FailedRuns([_incident(instance, key, run) for key, run in failing.items()], kept)


class Failing(NamedTuple):
    """The newest failed run of an incident, when it ended, in seconds since 1970, its windows, and the kind of its error."""

    run_id: str
    ended: float
    job: str
    windows: str
    kind: str

    def over(self, instance: dg.DagsterInstance, now: datetime) -> bool:
        """Whether a later run of the same job and windows succeeded, or none has failed for a while."""
        if now.timestamp() - self.ended > _FORGOTTEN.total_seconds() or (run := instance.get_run_by_id(self.run_id)) is None:
            return True
        tags = {name: run.tags[name] for name in _RANGE if name in run.tags}
        succeeded = dg.RunsFilter(job_name=self.job, statuses=[dg.DagsterRunStatus.SUCCESS], tags=tags)
        return any((record.end_time or 0) > self.ended for record in instance.get_run_records(succeeded, limit=1))


def _is_of(run: dg.DagsterRun, config: Config) -> bool:
    """Whether a run is of this reconciliation; runs of backfills have its assets, but not its tag."""
    of_assets = any(key.path[0] == config.name for key in run.asset_selection or ())
    return of_assets or run.tags.get("recon/reconciliation") == config.name


def _reported_otherwise(run: dg.DagsterRun, config: Config, windows: Collection[str]) -> bool:
    """Whether Dagster runs it again, or its windows, files or sources are incidents themselves."""
    if run.tags.get(WILL_RETRY_TAG) == "true":
        return True
    kind = _kind_of(run)
    if kind not in ("WrongInput", "Damaged", "WrongUsage"):
        return False
    if run.job_name == f"{config.name}_deliver":
        return True
    first, last = _ends_of(run)
    return kind != "WrongUsage" and any(first <= key_of(config.grid, window) <= last for window in windows)


def _kind_of(run: dg.DagsterRun) -> str:
    kind = run.tags.get(FAILURE_TAG, "")
    return "" if kind == NO_FAILURE else kind


def _ends_of(run: dg.DagsterRun) -> tuple[str, str]:
    """The first and the last partition key; both "" for a run without windows."""
    one = run.tags.get(PARTITION, "")
    return run.tags.get(RANGE_START, one), run.tags.get(RANGE_END, one)


def _range_of(run: dg.DagsterRun) -> str:
    first, last = _ends_of(run)
    return first if first == last else f"{first}..{last}"


def _incident(instance: dg.DagsterInstance, key: str, failing: Failing) -> Incident:
    def text() -> str:
        over = f" over {failing.windows}" if failing.windows else ""
        messages = _messages(instance, failing.run_id)
        return f"Run {failing.run_id} of {failing.job}{over} failed: {shareable(messages[-1]) if messages else 'no message'}"

    return Incident(key, failing.run_id, text, NEXT_STEPS.get(failing.kind, NEXT_STEPS[UNEXPECTED]))


def _messages(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """The errors of the failed steps of a run."""
    return [message for entry in instance.all_logs(run_id, dg.DagsterEventType.STEP_FAILURE) if (message := _message(entry))]


def _message(entry: dg.EventLogEntry) -> str:
    """The error of a failed step."""
    event = entry.dagster_event
    if event is None or not event.is_step_failure:
        return ""
    failure = event.step_failure_data
    if failure.user_failure_data and failure.user_failure_data.description:
        return failure.user_failure_data.description
    error = failure.error.cause or failure.error if failure.error else None
    return error.message if error else ""


def _utc(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)
