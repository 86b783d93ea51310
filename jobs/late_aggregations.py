"""Incidents of aggregations: windows that are not loaded in time, and definitions with a mistake."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from recon.aggregations.health import Overdue, unloaded
from recon.aggregations.preconditions.snapshot import ALL
from recon.aggregations.runs.site import Aggregations
from recon.config import Config
from recon.model.windows import name_of
from recon.reading.incidents import Incident
from recon.storage.redact import shareable
from resources.database import SiteDatabase

SLOW = timedelta(minutes=30)
"""How long a window whose time is over may be due, or at work, before that is an incident: its run needs some time."""
_SCOPES_MAX = 400
"""The newest scopes of an aggregation that are watched."""


class KeptAggregations:
    """The aggregations of a sensor, which remember from tick to tick what they have read of files and runs."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._site: Aggregations | None = None

    def opened(self, database: SiteDatabase) -> Aggregations:
        if self._site is None:
            self._site = Aggregations(database.intake(self._config, "sensor"))
        return self._site


@dataclass
class LateAggregations:
    """``seen``: key of a scope that is overdue, and not reported → when that was seen first. ``lasting``: keys of what was reported. Both
    as of the last tick."""

    seen: dict[str, str] = field(default_factory=dict)
    lasting: Collection[str] = ()

    def look(self, site: Aggregations, now: datetime) -> Iterator[Incident]:
        """The incidents of all aggregations."""
        found, broken = unloaded(site, now)
        for name, mistake in broken.items():
            text = shareable(f"The aggregation {name} is disabled by a mistake: {mistake}")
            step = f"Correct `aggregations/{name}.yaml`; `recon aggregation list` checks it."
            yield Incident(f"aggregation_broken:{name}", name, partial(str, text), step)
        before, self.seen = self.seen, {}
        for one in found:
            newest = dict(list(one.overdue.items())[-_SCOPES_MAX:])
            yield from self.of_one(one.definition.name, newest, one.grace, before, now)

    def of_one(
        self, name: str, found: Mapping[str, Overdue], grace: timedelta, before: Mapping[str, str], now: datetime
    ) -> Iterator[Incident]:
        """The incidents of one aggregation. ``before``: ``seen`` as of the last tick.

        A scope that waits and was never loaded is late at once. One that is due or at work is late after a while, and new input of a loaded
        scope after as long as its first input was given. An incident lasts until the scope is loaded, whatever it waits for meanwhile."""
        for scope, one in found.items():
            key = f"aggregation_late:{name}:{scope}"
            first = before.get(key, now.isoformat())
            if key in self.lasting or now - datetime.fromisoformat(first) >= patience(one, grace):
                yield _incident(key, name, one)
            if key not in self.lasting:
                self.seen[key] = first


def patience(one: Overdue, grace: timedelta) -> timedelta:
    """How long a scope is overdue before that is an incident."""
    if one.loaded:
        return max(grace, SLOW)
    return timedelta() if one.state == "waits" else SLOW


def _incident(key: str, name: str, one: Overdue) -> Incident:
    by = f", which was to be there by {name_of(one.since)}" if one.since is not None else ""
    what = "all files" if one.scope == ALL else f"window {one.scope}"
    missing = f"new input of {what} is not loaded" if one.loaded else f"{what}{by}, is not loaded" if by else f"{what}: not loaded"
    text = shareable(f"The aggregation {name} is late: {missing}: {one.why}.")
    of = "" if one.scope == ALL else f" --window {one.scope}"
    step = f"`recon aggregation why {name}{of}` has each condition; if a run failed, `recon aggregation run {name}{of}` tries again."
    return Incident(key, name if one.scope == ALL else f"{name}, {one.scope}", partial(str, text), step)
