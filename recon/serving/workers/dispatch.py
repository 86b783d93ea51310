"""Dispatches shares to workers as the configuration says; loads few rows in this process, which is faster than starting a worker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from recon.config import Config
from recon.config.settings import Workers
from recon.metering.meter import Meter
from recon.metering.usage import from_counts, tally_of
from recon.serving.dynamodb import TableClient
from recon.serving.load import Loaded, load_share
from recon.serving.shares import Share
from recon.serving.workers import plans
from recon.serving.workers.attempts import read_done
from recon.serving.workers.coordinator import Coordinator, Crew, Progress, Timing
from recon.serving.workers.launchers import LambdaFunction, Launcher, Processes
from recon.serving.workers.plans import Plan, plan_for
from recon.serving.workers.worker import KMS_KEY
from recon.storage.port import ObjectStore

HERE_ROWS_MAX = 5_000
"""Up to so many rows are loaded in this process if workers are processes: starting one takes as long."""
BEATS_PER_SILENCE = 4
GRACE = timedelta(days=1)


class WorkerDispatch:
    """Loads shares by workers (a recon.serving.sync.LoadShares). ``launcher``, ``timing``: in place of the configuration's."""

    def __init__(
        self,
        store: ObjectStore,
        config: Config,
        tables: TableClient,
        progress: Progress = lambda part: None,
        launcher: Launcher | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._store, self._config, self._tables, self._progress = store, config, tables, progress
        self._launcher, self._timing = launcher, timing or timing_of(config.workers)

    def __call__(self, shares: Iterable[Share]) -> Iterator[Loaded]:
        pending = list(shares)
        rows = sum(share.end - share.first for share in pending)
        if self._config.workers.kind == "processes" and self._launcher is None and rows <= HERE_ROWS_MAX:
            for share in pending:
                yield load_share(self._store, self._tables, share)
            return
        while pending:
            plan = self._plan(pending)
            yield from self._loaded(plan)
            # An existing plan may end at an earlier commit, or be cut differently: later commits get a plan of their own.
            pending = [share for share in pending if not share.fresh and share.commit > plan.upto]

    def _plan(self, pending: Sequence[Share]) -> Plan:
        """A build has one plan, of the commit 0; plans of later commits begin after the table's frontier, which is 1 at least."""
        first = pending[0]
        after = 0 if first.fresh else first.commit - 1
        upto = max(share.commit for share in pending)
        rows = sum(share.end - share.first for share in pending)
        workers, rate = self._config.workers.count, plans.last_rate(self._store, first.table)
        size = plans.share_rows(self._timing.limit_s, rows, workers, rate)
        return plan_for(self._store, first.table, after, upto, lambda: [share.to_json() for share in cut(pending, size)])

    def _loaded(self, plan: Plan) -> Iterator[Loaded]:
        table = str(next(iter(plan.shares.values()))["table"])
        launcher = self._launcher or launcher_of(self._config, tally_of(self._store))
        crew = Crew(launcher, self._config.workers.count, self._timing)
        Coordinator(self._store, self._config.location, table, plan, crew).run(self._progress)
        tally = tally_of(self._store)
        for name in plan.shares:
            counts = read_done(self._store, plan.folder, name)["counts"]
            if tally is not None:
                tally.add(from_counts(counts))
            yield Loaded(name, **{field: count for field, count in counts.items() if field in Loaded.__dataclass_fields__})
        plans.sweep_plans(self._store, table, datetime.now(UTC), GRACE)


def cut(shares: Iterable[Share], rows: int) -> Iterator[Share]:
    """Shares of at most ``rows`` rows. Workers put no items unconditionally: a revoked worker may still be running, and must do no harm."""
    for share in shares:
        name = share.share.removesuffix(f"-{share.first}-{share.end}")
        for first in range(share.first, share.end, rows):
            end = min(first + rows, share.end)
            yield replace(share, share=f"{name}-{first}-{end}", first=first, end=end, fresh=False)


def timing_of(workers: Workers) -> Timing:
    return Timing(
        limit_s=workers.time_limit.total_seconds(),
        silence_s=workers.silence.total_seconds(),
        beat_s=workers.silence.total_seconds() / BEATS_PER_SILENCE,
        look_s=0.2 if workers.kind == "processes" else 2.0,
        attempts=workers.attempts,
    )


def launcher_of(config: Config, meter: Meter | None = None) -> Launcher:
    """The configuration's launcher. ``meter`` counts invocations."""
    if config.workers.kind == "lambda":
        return LambdaFunction(config.workers.function, meter=meter)
    return Processes(more={KMS_KEY: config.s3.kms_key} if config.s3.kms_key else {})
