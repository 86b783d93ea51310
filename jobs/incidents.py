"""The sensor that reports incidents to a webhook: one message for each, sent again until the webhook has taken it.

Its cursor has the incidents that last, which were reported, and the messages that wait. A message is sent before the cursor is stored, so
a daemon that dies in between sends it twice rather than not at all.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from jobs.failed_runs import failed_runs
from jobs.late_aggregations import KeptAggregations, LateAggregations
from jobs.next_block import seconds_of
from jobs.quiet import Watch
from jobs.sensors import TICK, TICK_S, Reasons, at_start, kept_in
from recon.aggregations.runs.site import Aggregations
from recon.config import Config
from recon.database.open import is_there
from recon.errors import ReconError, TryAgain
from recon.intake.sources.folder import has_sources
from recon.reading import faults
from recon.reading.incidents import Incident, of_certificates, of_sources, of_windows
from recon.state.timeline import Timeline
from recon.storage.port import ObjectStore
from recon.storage.redact import shareable
from resources import webhook
from resources.database import SiteDatabase, database_key
from resources.redis import dagster_secret
from resources.stores import resource_key

ALONE_MAX = 5
"""More incidents of one kind in one tick are one message."""
_NAMED_MAX = 10
_POSTED_MAX, _WAITING_MAX = 20, 500
"""Messages that a tick sends, and that wait for the webhook."""
_WAIT_S, _WAIT_S_MAX = 10, 900
_AWAY = timedelta(minutes=5)
"""A store or a database that is away for less is no incident."""
_SENDING_S_MAX = 20.0
"""After this time a tick sends no further message: the daemon ends ticks that last a minute."""
MANY = {
    "quarantined": "windows could not be processed and are in quarantine",
    "damaged": "windows cannot be read",
    "short": "windows are SHORT: they were closed with fewer files than expected",
    "all_rejected": "windows had every row rejected",
    "does_not_tie": "windows have a certificate that does not tie",
    "source_broken": "sources take no file",
    "source_late": "deliveries are late",
    "file_rejected": "files were rejected",
    "aggregation_broken": "aggregations are disabled by a mistake",
    "aggregation_late": "windows of aggregations are not loaded in time",
    "run_failed": "runs failed",
}
"""Kind of incident → the words of a message about many of them."""


def incidents_sensor(config: Config, watch: Watch | None = None) -> dg.SensorDefinition:
    """``<name>_incidents_sensor``; for a configuration with ``observability.webhook``. ``watch``: the store that it
    shares with other sensors."""
    shared = watch or Watch(config.name)
    store, last, kept = resource_key(config.name), Reasons(config.name), KeptAggregations(config)
    database = database_key(config.name) if has_sources(config) else None

    @dg.sensor(
        name=f"{config.name}_incidents_sensor",
        minimum_interval_seconds=seconds_of(TICK, TICK_S),
        default_status=at_start(),
        description="Reports failed runs, bad or short windows, late files, aggregations and watermarks to a webhook. Starts no runs.",
        required_resource_keys={store, *([database] if database else [])},
    )
    def evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        def opened() -> tuple[ObjectStore, Timeline]:
            return shared.at(getattr(context.resources, store).open, context.instance)

        site: SiteDatabase | None = getattr(context.resources, database) if database else None
        look = Look(config, context.instance, kept_in(context.cursor), datetime.now(UTC))
        look.at_store(opened)
        if site is not None:
            look.at_sources(site)
            look.at_aggregations(kept.opened(site))
        look.at_runs()
        reason = look.report()
        last.log(context, reason)
        return dg.SensorResult(skip_reason=dg.SkipReason(reason), cursor=json.dumps(look.cursor, separators=(",", ":")))

    return evaluate


@dataclass
class Look:
    """One tick. ``cursor``: of the last tick; then for the next one."""

    config: Config
    instance: dg.DagsterInstance
    cursor: dict[str, Any]
    now: datetime
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lasting: dict[str, list[str]] = self.cursor.setdefault("lasting", {})
        self._waiting: list[str] = self.cursor.setdefault("waiting", [])

    def at_store(self, opened: Callable[[], tuple[ObjectStore, Timeline]]) -> None:
        with self._noting("store"):
            store, timeline = opened()
            state = timeline.head()
            self.found("windows", of_windows(store, self.config, state, self.now))
            looked = faults.look(store, self.config, state, faults.Looked.of(self.cursor.get("certificates"), state))
            self.found("certificates", of_certificates(store, self.config, looked))
            self.cursor["certificates"] = looked.to_json()

    def at_sources(self, site: SiteDatabase) -> None:
        with self._noting("database"):
            if is_there(self.config):
                self.found("sources", of_sources(site.intake(self.config, "sensor"), self.now))

    def at_aggregations(self, site: Aggregations) -> None:
        if "database" in self.cursor.get("away", {}):
            return  # that is said once
        with self._noting("aggregations"):
            if is_there(self.config):
                late = LateAggregations(self.cursor.get("overdue", {}), self._lasting.get("aggregations", []))
                self.found("aggregations", late.look(site, self.now))
                self.cursor["overdue"] = late.seen

    def at_runs(self) -> None:
        with self._noting("runs"):
            bad = [key.split(":", 1)[1].rsplit(":", 1)[0] for key in self._lasting.get("windows", []) if key.startswith("quarantined:")]
            bad += [key.split(":", 1)[1] for key in self._lasting.get("windows", []) if key.startswith("damaged:")]
            found = failed_runs(self.instance, self.config, self.cursor.get("runs", {}), bad, self.now)
            self.found("runs", found.incidents)
            self.cursor["runs"] = found.cursor

    @contextmanager
    def _noting(self, place: str) -> Iterator[None]:
        """An error is an incident once it has lasted; it does not keep the other places from being looked at."""
        away: dict[str, str] = self.cursor.setdefault("away", {})
        try:
            yield
        except Exception as error:
            since = datetime.fromisoformat(away.setdefault(place, self.now.isoformat()))
            why = shareable(str(error)) if isinstance(error, ReconError) else type(error).__name__
            self.problems.append(f"{place}: {why}")
            if self.now - since >= _AWAY:
                text = f"The {place} could not be read since {since:%Y-%m-%d %H:%M}Z: {why}"
                step = "See that it is there and answers; `recon doctor` names what is missing. Windows are not watched until then."
                self.found(f"away {place}", [Incident(f"away:{place}", place, lambda: text, step)])
        else:
            away.pop(place, None)
            self._lasting.pop(f"away {place}", None)

    def found(self, place: str, incidents: Iterable[Incident]) -> None:
        """Notes which incidents last, and makes messages of the new ones. Those that find no room come again at the next tick."""
        found, before = {incident.key: incident for incident in incidents}, set(self._lasting.get(place, []))
        new: dict[str, list[Incident]] = {}
        for key, incident in found.items():
            if key not in before:
                new.setdefault(incident.kind, []).append(incident)
        made = [(those, self._messages(kind, those)) for kind, those in new.items()]  # all before the first waits: the store may be away
        for those, messages in made:
            if len(self._waiting) + len(messages) <= _WAITING_MAX:
                self._waiting += messages
                before |= {incident.key for incident in those}
        self._lasting[place] = [key for key in found if key in before]

    def _messages(self, kind: str, incidents: Sequence[Incident]) -> list[str]:
        return [self._one(incident) for incident in incidents] if len(incidents) <= ALONE_MAX else [self._many(kind, incidents)]

    def _one(self, incident: Incident) -> str:
        ui = self.config.observability.webhook.ui
        link = f"\n{ui.rstrip('/')}/runs/{incident.about}" if ui and incident.kind == "run_failed" else ""
        return f"*{self.config.name}*: {_text_of(incident)}\nNext: {incident.next_step}{link}"

    def _many(self, kind: str, incidents: Sequence[Incident]) -> str:
        more = " …" if len(incidents) > _NAMED_MAX else ""
        listed = ", ".join(incident.about for incident in incidents[:_NAMED_MAX]) + more
        return f"*{self.config.name}*: {len(incidents):,} {MANY[kind]}: {listed}\nNext, for the first: {incidents[0].next_step}"

    def report(self) -> str:
        """Sends what waits. Returns the reason of the tick."""
        sent, problem = 0, ""
        if self._waiting and self.now.timestamp() >= self.cursor.get("again_at", 0):
            sent, problem = self._send()
        texts = [f"{sent} sent"] if sent else []
        if self._waiting:
            again = datetime.fromtimestamp(self.cursor.get("again_at", self.now.timestamp()), UTC)
            texts.append(f"{len(self._waiting)} wait until {again:%H:%M:%SZ}")
        lasting = sum(map(len, self._lasting.values()))
        return "; ".join([f"{lasting} incidents last", *texts, *filter(None, [problem]), *self.problems])

    def _send(self) -> tuple[int, str]:
        begun, sent = time.monotonic(), 0
        while self._waiting and sent < _POSTED_MAX and time.monotonic() - begun < _SENDING_S_MAX:
            posted = webhook.post(self.config.observability.webhook, self._waiting[0], dagster_secret)
            if posted.problem:
                if posted.refused:  # perhaps for its own sake, such as its length: the others do not wait behind it
                    self._waiting.append(self._waiting.pop(0))
                tries = self.cursor["tries"] = self.cursor.get("tries", 0) + 1
                wait_s = max(posted.wait_s, min(_WAIT_S_MAX, _WAIT_S * 2 ** min(10, tries - 1)))
                self.cursor["again_at"] = self.now.timestamp() + wait_s
                return sent, posted.problem
            self._waiting.pop(0)
            sent += 1
            self.cursor |= {"tries": 0, "again_at": 0}
        return sent, ""


def _text_of(incident: Incident) -> str:
    """The incident's text; where its details are damaged, what it is about: it holds up no other incident. Raises TryAgain."""
    try:
        return incident.text()
    except TryAgain:
        raise
    except Exception as error:
        why = shareable(str(error)) if isinstance(error, ReconError) else type(error).__name__
        return f"{incident.about}: {incident.kind.replace('_', ' ')}; the details could not be read ({why})"
