"""Synchronizes the index table with the timeline: loads new commits, builds a new table where one is needed, deletes old tables.

Protocol and rejected alternatives: docs/decisions/012-serving-index.md.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Protocol

from recon.config import Config, Place
from recon.errors import Damaged, ReconError, TryAgain, WrongUsage
from recon.serving import builds, imports, watching
from recon.serving.builds import TableBuild
from recon.serving.dynamodb import TableClient, TableGone, client_of
from recon.serving.load import Loaded
from recon.serving.shares import RunsGone, Share, shares_of, shares_to_fill
from recon.serving.workers.dispatch import WorkerDispatch
from recon.state.timeline import State, Timeline
from recon.storage import lease
from recon.storage.port import ObjectStore

_LOG = logging.getLogger(__name__)
BUILD_LEASE = "serving/filling"
"""Name of the lease for building a table. It saves work: two builds at once do no harm."""
LEASE_S = 60.0
COMMITS_AT_ONCE = 256
"""Commits that are loaded before the frontier advances."""
_ROUNDS_MAX = 5


class LoadShares(Protocol):
    """Loads shares and yields one ``Loaded`` per share or piece. Raises the first failing share's error; other workers may still be
    running. Late writes are harmless for conditional shares; a dispatcher that cannot stop its workers must treat ``fresh`` shares as
    conditional."""

    def __call__(self, shares: Iterable[Share]) -> Iterable[Loaded]: ...


@dataclass(frozen=True)
class Synced:
    """The table after a call, and what the call did. ``table``: "" while no table is complete and the runs answer. ``commit``: the table's
    frontier. ``filled``: the table is new. ``entries``: of runs; ``items``: put or updated; ``refused``: already there, or newer.
    ``units``: write request units. ``imported_bytes``: of the items of an import, before compression. Both cost ``cost_usd``."""

    table: str = ""
    commit: int = 0
    filled: bool = False
    shares: int = 0
    entries: int = 0
    items: int = 0
    refused: int = 0
    tombstones: int = 0
    units: float = 0.0
    imported_bytes: int = 0
    cost_usd: Decimal = Decimal(0)
    seconds: float = 0.0

    @property
    def cost_per_million_usd(self) -> Decimal | None:
        """The cost of a million updates at the rate of this call."""
        updates = self.items + self.refused
        return round(self.cost_usd * 1_000_000 / updates, 4) if updates else None

    def plus(self, loaded: Loaded) -> Synced:
        sums = {name: getattr(self, name) + getattr(loaded, name) for name in ("entries", "items", "refused", "tombstones", "units")}
        return replace(self, shares=self.shares + 1, **sums)


def needs_table(place: Place) -> None:
    """Raises WrongUsage where the configuration asks for no index table."""
    if place.index.kind != "dynamodb":
        raise WrongUsage(f"{place.path.name}: no index table is asked for; write index: {{kind: dynamodb}}")


def sync_asked(store: ObjectStore, config: Config, timeline: Timeline) -> Synced:
    """As ``sync``. Raises WrongUsage where the configuration asks for no index table."""
    needs_table(config)
    synced = sync(store, config, timeline)
    assert synced is not None
    return synced


def sync(
    store: ObjectStore, config: Config, timeline: Timeline, tables: TableClient | None = None, load: LoadShares | None = None
) -> Synced | None:
    """Brings the table up to the newest commit; None where ``index.kind`` asks for no table. May be killed and called again.

    Raises kinds of TryAgain while DynamoDB is away or throttles: the runs answer, and nothing is lost."""
    if config.index.kind == "runs":
        return None
    return _Sync(store, config, timeline, tables or client_of(store, config), load).run(anew=False)


def is_synced(store: ObjectStore, config: Config, timeline: Timeline) -> bool:
    """Whether ``sync`` has nothing to do, by what the store records. DynamoDB is not asked."""
    state = timeline.head()
    if config.index.kind == "runs" or not state.runs:
        return True
    build = builds.current(store, state)
    return build is not None and builds.frontier(store, build) >= state.commit


def rebuild_table(
    store: ObjectStore, config: Config, timeline: Timeline, tables: TableClient | None = None, load: LoadShares | None = None
) -> Synced:
    """Builds a new table from the runs and switches to it; the old table answers until then. Raises TryAgain where another process builds
    one."""
    return _Sync(store, config, timeline, tables or client_of(store, config), load).run(anew=True)


class _Sync:
    """One call of ``sync`` or ``rebuild_table``."""

    def __init__(self, store: ObjectStore, config: Config, timeline: Timeline, tables: TableClient, load: LoadShares | None) -> None:
        self._store, self._config, self._timeline, self._tables = store, config, timeline, tables
        self._load = load or WorkerDispatch(store, config, tables)
        self._synced = Synced()

    def run(self, anew: bool) -> Synced:
        """``anew``: builds a new table first."""
        started, required = time.perf_counter(), anew
        if self._config.index.fill == "import":
            imports.check_place(self._config)
        self._tidy()
        for _ in range(_ROUNDS_MAX):
            state = self._timeline.head()
            build = builds.current(self._store, state)
            if not state.runs:
                break
            if build is None:
                builds.retire(self._store, state)
            if anew or build is None or self._tables.owner(build.table) != build.owner:
                build = self._built(state)
                if build is None:
                    if required:
                        raise TryAgain("another process fills a new index table, or died at it just now; try again in a minute or two")
                    break
            try:
                if self._caught_up(build):
                    break
                anew = False  # a rebuild has switched to another generation
            except (RunsGone, TableGone):
                anew = True
        else:
            raise TryAgain(f"table {self._config.index.table}: the store changes faster than a table is filled; run the same again")
        cost = Decimal(str(self._synced.units)) * self._config.prices.dynamodb_write_million / 1_000_000
        cost += Decimal(self._synced.imported_bytes) * self._config.prices.dynamodb_import_gb / 10**9
        return replace(self._synced, cost_usd=cost, seconds=round(time.perf_counter() - started, 3))

    def _caught_up(self, build: TableBuild) -> bool:
        """Loads the commits after the frontier. False if the table's generation is no longer the current one."""
        while True:
            state, after = self._timeline.head(), builds.frontier(self._store, build)
            if state.rebuilt != build.generation:
                return False
            self._synced = replace(self._synced, table=build.table, commit=after)
            if after >= state.commit:
                return True
            until = min(after + COMMITS_AT_ONCE, state.commit)
            self._add(shares_of(self._store, self._timeline, build.table, after, until, self._config.index.share))
            builds.advance(self._store, build, until)

    def _built(self, state: State) -> TableBuild | None:
        """A new table with the records of ``state``, switched to; None while another process builds one."""
        acquired = self._lease()
        if acquired is None:
            return None
        with acquired.keeping():
            self._give_up()
            build = self._begun(state)
            try:
                self._fill(state, build)
            except RunsGone as error:
                if self._timeline.head().commit == state.commit:
                    raise Damaged(f"{error}; restore it from a copy of the store, then run 'recon verify'") from error
                raise TryAgain(f"{error} while the index table was filled; run the same again") from error
            finally:
                if builds.outcome(self._store, build.number) is None:
                    self._give_up()
        self._synced = replace(self._synced, filled=True)
        return build

    def _fill(self, state: State, build: TableBuild) -> None:
        if self._config.index.fill == "import":
            self._import(state, build)
        else:
            self._add(shares_to_fill(self._store, self._timeline, state, build.table, self._config.index.share))
            self._tables.settle()
        if not builds.decide(self._store, build, "stands"):
            raise TryAgain(f"table {build.table}: another took over while it was filled; run the same again")
        if problem := watching.watch_like(self._config.index.table, build.table):
            _LOG.warning(problem)

    def _import(self, state: State, build: TableBuild) -> None:
        shares = shares_to_fill(self._store, self._timeline, state, build.table, imports.FILE_ENTRIES)
        imported = imports.import_table(self._store, self._config, self._tables, build, shares)
        if self._tables.owner(build.table) != build.owner:
            raise TryAgain(f"table {build.table}: it has no item of its owner after the import; run the same again")
        self._tables.make_recoverable(build.table)
        for loaded in imported.loaded:
            self._synced = self._synced.plus(loaded)
        self._synced = replace(self._synced, imported_bytes=self._synced.imported_bytes + imported.size)

    def _add(self, shares: Iterable[Share]) -> None:
        for loaded in self._load(shares):
            self._synced = self._synced.plus(loaded)

    def _begun(self, state: State) -> TableBuild:
        """A build with an empty table that it owns; for an import, with a name that no table has."""
        importing = self._config.index.fill == "import"
        while True:
            build = builds.begin(self._store, self._config.index.table, state)
            if importing and not self._tables.is_there(build.table):
                return build
            if importing:
                builds.decide(self._store, build, "given up")
                continue
            self._tables.create(build.table)
            if self._tables.claim(build.table, build.owner):
                self._tables.make_recoverable(build.table)
                return build
            # The table belongs to another store, or to an earlier store at this place. The next name ends in an id of its own.
            builds.decide(self._store, build, "given up")

    def _lease(self) -> lease.Lease | None:
        return lease.acquire(self._store, BUILD_LEASE, f"{socket.gethostname()} {os.getpid()}", LEASE_S)

    def _tidy(self) -> None:
        """Gives up the builds of dead processes, and removes tables that a newer table replaced ``retention.grace`` ago."""
        if any(builds.outcome(self._store, build.number) is None for build in builds.all_builds(self._store)):
            acquired = self._lease()
            if acquired is not None:
                with acquired.keeping():
                    self._give_up()
        for build in builds.all_builds(self._store):
            if (builds.outcome(self._store, build.number) or ("", ""))[0] == "given up":
                self._remove(build)  # which was not possible when it was given up
        for newer, build in pairwise(list(builds.completed(self._store))):
            decided = builds.outcome(self._store, newer.number)
            if decided and datetime.now(UTC) - datetime.fromisoformat(decided[1]) >= self._config.retention.grace:
                self._remove(build)

    def _give_up(self) -> None:
        """Gives up all undecided builds; only with the lease. A suspended process cannot switch to its table afterwards."""
        for build in builds.all_builds(self._store):
            if builds.outcome(self._store, build.number) is None and builds.decide(self._store, build, "given up"):
                self._remove(build)

    def _remove(self, build: TableBuild) -> None:
        """Deletes the table if this build owns it. If that is not allowed, or DynamoDB is away, or an import is still filling it, the table
        stays until a later call; nothing reads it."""
        imports.remove_files(self._store, build)
        with suppress(ReconError):
            if self._tables.state(build.table) == "CREATING":
                return
            if self._tables.owner(build.table) == build.owner:
                self._tables.delete(build.table)
                watching.forget(build.table)
            builds.forget(self._store, build)
