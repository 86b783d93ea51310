"""The sensor that writes figures for Prometheus. Sums of money read every record, so they are made once for a commit, beside the ticks."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from jobs.late_aggregations import KeptAggregations
from jobs.next_block import seconds_of
from jobs.quiet import Watch
from jobs.sensors import TICK, TICK_S, Reasons, at_start
from recon.aggregations.health import unloaded
from recon.aggregations.runs.site import Aggregations
from recon.config import Config
from recon.database.open import is_there
from recon.errors import ReconError
from recon.intake.sources.folder import has_sources
from recon.reading.breaks import by_status, matched_status
from recon.reading.monitored import monitored
from recon.state.timeline import State
from recon.storage.port import ObjectStore
from resources.database import database_key
from resources.metrics_file import Money, text_of, write
from resources.stores import resource_key

_SHARE = 10
"""Between two sums of all records at least ten times as long passes as the last sum took."""


def monitoring_sensor(config: Config, watch: Watch | None = None) -> dg.SensorDefinition:
    """``<name>_monitoring_sensor``; for a configuration with ``observability.metrics.file``. ``watch``: the store that it
    shares with other sensors."""
    shared = watch or Watch(config.name)
    store, last, sums, kept = resource_key(config.name), Reasons(config.name), Sums(config), KeptAggregations(config)
    database = database_key(config.name) if has_sources(config) else None

    @dg.sensor(
        name=f"{config.name}_monitoring_sensor",
        minimum_interval_seconds=seconds_of(TICK, TICK_S),
        default_status=at_start(),
        description="Writes windows by state, artifacts, breaks and money by status into a file for Prometheus. Starts no runs.",
        required_resource_keys={store, *([database] if database else [])},
    )
    def evaluate(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        try:
            opened, timeline = shared.at(getattr(context.resources, store).open, context.instance)
            site = kept.opened(getattr(context.resources, database)) if database else None
            reason = _written(config, opened, timeline.head(), sums, site)
        except ReconError as error:
            reason = f"no figures are written: {error}"
        except OSError as error:
            reason = f"observability.metrics.file: {config.observability.metrics.file} cannot be written ({error.strerror})"
        last.log(context, reason)
        return dg.SkipReason(reason)

    return evaluate


class Sums:
    """Artifacts and money by status as of a recent commit, made by a thread of its own: a state may take longer than a tick."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._newest: Money | None = None
        self._thread: threading.Thread | None = None
        self._problem, self._tried, self._not_before = "", -1, 0.0

    def at(self, store: ObjectStore, state: State) -> tuple[Money | None, str]:
        """The newest sums, None if there are none yet, and why they are not those of ``state``, "" if they are."""
        if self._newest is not None and self._newest.commit > state.commit:
            self._newest = None  # another store is in its place
        if self._newest is not None and self._newest.commit == state.commit:
            return self._newest, ""
        if self._thread is not None and self._thread.is_alive():
            return self._newest, "the sums of the newest commit are being made"
        if self._tried == state.commit and self._problem:
            return self._newest, self._problem
        if time.monotonic() < self._not_before:
            return self._newest, f"the sums of commit {state.commit:,} are made later, since they read every record"
        self._tried, self._problem = state.commit, ""
        self._thread = threading.Thread(target=self._make, args=(store, state), daemon=True, name="recon-sums")
        self._thread.start()
        self._thread.join(1)  # most states take less
        done = self._newest is not None and self._newest.commit == state.commit
        return self._newest, self._problem if done or self._problem else "the sums of the newest commit are being made"

    def _make(self, store: ObjectStore, state: State) -> None:
        begun = time.monotonic()
        try:
            self._newest = Money(state.commit, by_status(store, self._config, state) if state.runs else ())
        except Exception as error:
            self._problem = f"no sums of commit {state.commit:,}: {error if isinstance(error, ReconError) else type(error).__name__}"
        self._not_before = time.monotonic() + _SHARE * (time.monotonic() - begun)


def _written(config: Config, store: ObjectStore, state: State, sums: Sums, site: Aggregations | None = None) -> str:
    settings = config.observability.metrics
    assert settings.file is not None
    found = monitored(store, config, state, datetime.now(UTC))
    same_rules = state.rules in ("", config.rules_version)
    money, why = sums.at(store, state) if settings.money and same_rules else (None, "")
    if settings.money and not same_rules:
        why = "no sums, since the rules changed; see 'recon rebuild'"
    aggregations, why_not = _of_aggregations(site)
    write(Path(settings.file), text_of(config.name, found, matched_status(config), money, aggregations))
    return "; ".join(filter(None, [f"figures of commit {state.commit:,} are in {settings.file}", why, why_not]))


def _of_aggregations(site: Aggregations | None) -> tuple[dict[str, dict[str, int]], str]:
    """Aggregation → state → windows, and why there are none though there are aggregations."""
    if site is None or not is_there(site.config):
        return {}, ""
    try:
        return {one.definition.name: one.by_state for one in unloaded(site)[0]}, ""
    except ReconError as error:
        return {}, f"no figures of aggregations: {error}"
