"""The figures of a reconciliation that the alarms of ``infra/template.yaml`` watch, sent once a minute by its freshness sensor."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from recon.config import Config
from recon.planning.freshness import Freshness
from recon.reading import faults
from recon.serving import builds
from recon.state.timeline import State, Timeline
from recon.storage.port import ObjectStore
from resources import cloudwatch


def tell(store: ObjectStore, config: Config, state: State, found: Freshness, kept: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Sends the figures. Returns the sensor's new cursor, and why CloudWatch did not take them, "" after success.

    ``kept``: the cursor, which names the time of the last figures and the certificates that were read."""
    looked = faults.look(store, config, state, faults.Looked.of(kept.get("certificates"), state))
    figures = {
        cloudwatch.DAEMON_TICKS: 1,
        cloudwatch.TICKS_FAILED: 0,
        cloudwatch.SECONDS_BEHIND: max(0.0, found.lag.total_seconds()),
        cloudwatch.WINDOWS_QUARANTINED: faults.not_processed(store, config, state),
        cloudwatch.CERTIFICATES_NOT_TYING: len(looked.untied),
    }
    if config.index.kind == "dynamodb":
        figures[cloudwatch.TABLE_SECONDS_BEHIND] = _table_behind(store, state)
    return {"cloudwatch": time.time(), "certificates": looked.to_json()}, cloudwatch.send(config.name, figures)


def tell_failed(config: Config, kept: Mapping[str, Any]) -> str | None:
    """Sends that the daemon is alive and the store could not be read. Returns the sensor's new cursor."""
    if not cloudwatch.due(kept):
        return json.dumps(kept, separators=(",", ":")) if kept else None
    cloudwatch.send(config.name, {cloudwatch.DAEMON_TICKS: 1, cloudwatch.TICKS_FAILED: 1})
    return json.dumps({**kept, "cloudwatch": time.time()}, separators=(",", ":"))


def _table_behind(store: ObjectStore, state: State) -> float:
    """Seconds since the oldest commit that the index table lacks; 0 if it lacks none."""
    table = builds.current(store, state)
    number = max(state.rebuilt, 1) if table is None else builds.frontier(store, table) + 1
    entry = Timeline(store).entry(number) if number <= state.commit else None
    return 0.0 if entry is None else max(0.0, (datetime.now(UTC) - datetime.fromisoformat(entry.time)).total_seconds())
