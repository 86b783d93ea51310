"""Keeping the index table: bringing it up to the newest commit, filling a new one, and giving up those that nobody needs.

The protocol and what was rejected: docs/decisions/012-serving-index.md.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Protocol

from recon.config import Config
from recon.errors import Damaged, ReconError, TryAgain
from recon.serving import builds
from recon.serving.builds import Filling
from recon.serving.dynamodb import TableClient, TableGone, client_of
from recon.serving.load import Loaded
from recon.serving.shares import RunsGone, Share, shares_of, shares_to_fill
from recon.serving.workers.dispatch import WorkerDispatch
from recon.state.timeline import State, Timeline
from recon.storage import lease
from recon.storage.port import ObjectStore

FILLING = "serving/filling"
"""Lease of who fills a new table. It only keeps two from filling one each."""
LEASE_S = 60.0
COMMITS_AT_ONCE = 256
"""Commits that are loaded before the frontier moves on."""
_ROUNDS_MAX = 5


class LoadShares(Protocol):
    """Carries out shares, by whomever. Gives what each came to, or its pieces, each once; raises what the first that cannot be carried out
    raised. Others may still be at work then, or come back late: shares that are not ``fresh`` do no harm. Who cannot be certain that each
    is over before it returns takes those that are ``fresh`` as if they were not."""

    def __call__(self, shares: Iterable[Share]) -> Iterable[Loaded]: ...


@dataclass(frozen=True)
class Kept:
    """How the table stands now and what was done. ``table`` is "" where none stands yet: the runs answer. ``commit``: its frontier.
    ``filled``: it is a new one. ``entries``: that were to be said; ``items``: put or moved on; ``refused``: stood there already;
    ``units``: write request units, which cost ``cost_usd``."""

    table: str = ""
    commit: int = 0
    filled: bool = False
    shares: int = 0
    entries: int = 0
    items: int = 0
    refused: int = 0
    tombstones: int = 0
    units: float = 0.0
    cost_usd: Decimal = Decimal(0)
    seconds: float = 0.0

    @property
    def cost_per_million_usd(self) -> Decimal | None:
        """Of a million updates, as these came to."""
        updates = self.items + self.refused
        return round(self.cost_usd * 1_000_000 / updates, 4) if updates else None

    def plus(self, loaded: Loaded) -> Kept:
        done = {name: getattr(self, name) + getattr(loaded, name) for name in ("entries", "items", "refused", "tombstones", "units")}
        return replace(self, shares=self.shares + 1, **done)


def keep(
    store: ObjectStore, config: Config, timeline: Timeline, tables: TableClient | None = None, carry: LoadShares | None = None
) -> Kept | None:
    """Brings the table up to the newest commit; None where ``index.kind`` asks for none. Killed anywhere it may be done again.

    Raises kinds of TryAgain while DynamoDB is away or throttles: the runs answer, and nothing is lost."""
    if config.index.kind == "runs":
        return None
    return _Keeping(store, config, timeline, tables or client_of(store, config), carry).keep(anew=False)


def is_kept(store: ObjectStore, config: Config, timeline: Timeline) -> bool:
    """Whether there is nothing to do for ``keep``, as far as the store alone can tell."""
    state = timeline.head()
    if config.index.kind == "runs" or not state.runs:
        return True
    filling = builds.standing(store, state)
    return filling is not None and builds.frontier(store, filling) >= state.commit


def rebuild(
    store: ObjectStore, config: Config, timeline: Timeline, tables: TableClient | None = None, carry: LoadShares | None = None
) -> Kept:
    """Fills a new table from the runs and switches to it; the old one answers until then. Raises TryAgain where another fills one."""
    return _Keeping(store, config, timeline, tables or client_of(store, config), carry).keep(anew=True)


class _Keeping:
    """One call: what it works on, and what it has done so far."""

    def __init__(self, store: ObjectStore, config: Config, timeline: Timeline, tables: TableClient, carry: LoadShares | None) -> None:
        self._store, self._config, self._timeline, self._tables = store, config, timeline, tables
        self._carry = carry or WorkerDispatch(store, config, tables)
        self._kept = Kept()

    def keep(self, anew: bool) -> Kept:
        started, asked = time.perf_counter(), anew
        self._tidy()
        for _ in range(_ROUNDS_MAX):
            state = self._timeline.head()
            filling = builds.standing(self._store, state)
            if not state.runs:
                break
            if filling is None:
                builds.retire(self._store, state)
            if anew or filling is None or self._tables.owner(filling.table) != filling.owner:
                filling = self._filled(state)
                if filling is None:
                    if asked:
                        raise TryAgain("another process fills a new index table, or died at it just now; try again in a minute or two")
                    break
            try:
                if self._caught_up(filling):
                    break
                anew = False  # a rebuild came, and with it another generation
            except (RunsGone, TableGone):
                anew = True
        else:
            raise TryAgain(f"table {self._config.index.table}: the store changes faster than a table is filled; run the same again")
        cost = Decimal(str(self._kept.units)) * self._config.prices.dynamodb_write_million / 1_000_000
        return replace(self._kept, cost_usd=cost, seconds=round(time.perf_counter() - started, 3))

    def _caught_up(self, filling: Filling) -> bool:
        """Loads what came after the frontier. False where the table's generation has passed."""
        while True:
            state, after = self._timeline.head(), builds.frontier(self._store, filling)
            if state.rebuilt != filling.generation:
                return False
            self._kept = replace(self._kept, table=filling.table, commit=after)
            if after >= state.commit:
                return True
            until = min(after + COMMITS_AT_ONCE, state.commit)
            for loaded in self._carried(shares_of(self._store, self._timeline, filling.table, after, until, self._config.index.share)):
                self._kept = self._kept.plus(loaded)
            builds.advance(self._store, filling, until)

    def _filled(self, state: State) -> Filling | None:
        """A new table with all of ``state``, switched to; None where another fills one."""
        held = self._lease()
        if held is None:
            return None
        with held.keeping():
            self._give_up()
            filling = self._begun(state)
            try:
                self._fill(state, filling)
            except RunsGone as error:
                if self._timeline.head().commit == state.commit:
                    raise Damaged(f"{error}; restore it from a copy of the store, then run 'recon verify'") from error
                raise TryAgain(f"{error} while the index table was filled; run the same again") from error
            finally:
                if builds.outcome(self._store, filling.number) is None:
                    self._give_up()
        self._kept = replace(self._kept, filled=True)
        return filling

    def _fill(self, state: State, filling: Filling) -> None:
        shares = shares_to_fill(self._store, self._timeline, state, filling.table, self._config.index.share)
        for loaded in self._carried(shares):
            self._kept = self._kept.plus(loaded)
        self._tables.settle()
        if not builds.decide(self._store, filling, "stands"):
            raise TryAgain(f"table {filling.table}: another took over while it was filled; run the same again")

    def _begun(self, state: State) -> Filling:
        """A filling in a table that nobody else has."""
        while True:
            filling = builds.begin(self._store, self._config.index.table, state)
            self._tables.create(filling.table)
            if self._tables.claim(filling.table, filling.owner):
                self._tables.make_recoverable(filling.table)
                return filling
            # Another store's, or of an earlier life of this one. The next name is this filling's own.
            builds.decide(self._store, filling, "given up")

    def _lease(self) -> lease.Lease | None:
        return lease.acquire(self._store, FILLING, f"{socket.gethostname()} {os.getpid()}", LEASE_S)

    def _tidy(self) -> None:
        """Gives up fillings of processes that died, and removes tables that a newer one took the place of ``retention.grace`` ago."""
        if any(builds.outcome(self._store, one.number) is None for one in builds.begun(self._store)):
            held = self._lease()
            if held is not None:
                with held.keeping():
                    self._give_up()
        for newer, filling in pairwise(list(builds.kept(self._store))):
            decided = builds.outcome(self._store, newer.number)
            if decided and datetime.now(UTC) - datetime.fromisoformat(decided[1]) >= self._config.retention.grace:
                self._remove(filling)

    def _give_up(self) -> None:
        """Fillings that nobody is at any more: the lease is ours. One that was suspended cannot switch to its table then."""
        for filling in builds.begun(self._store):
            if builds.outcome(self._store, filling.number) is None and builds.decide(self._store, filling, "given up"):
                self._remove(filling)

    def _remove(self, filling: Filling) -> None:
        """The table, if it is this filling's. Where that is not allowed, or DynamoDB is away, it stays; nobody reads it."""
        with suppress(ReconError):
            if self._tables.owner(filling.table) == filling.owner:
                self._tables.delete(filling.table)
            builds.forget(self._store, filling)

    def _carried(self, shares: Iterator[Share]) -> Iterable[Loaded]:
        return self._carry(shares)
