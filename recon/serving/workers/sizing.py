"""How many index workers a rate of changed keys needs.

A conditional update is work of the client: signing, TLS, JSON. Once the core of a worker is busy, more threads do not help; more workers
do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from recon.config import Config
from recon.serving import builds
from recon.serving.workers import plans
from recon.state.timeline import State
from recon.storage.port import ObjectStore

UPDATE_CPU_S = 0.0017
"""CPU-seconds of one core for one conditional update, as measured; what is assumed until a plan of workers has been finished."""
HEADROOM = 1.3
"""Workers beyond those that the mean rate needs: keys come in batches, and a worker that died is replaced only after a silence."""
UNITS_PER_SECOND_NEW = 4_000
"""Write units a second that a table billed by request takes from the beginning; DynamoDB doubles it as the load grows."""
UNITS_PER_SECOND_MAX = 40_000
"""Write units a second of one table that an account has by default."""


@dataclass(frozen=True)
class Sizing:
    """``rate``: updates a second of one worker; ``measured``: by the newest plan that workers have finished. ``workers``: how many are
    needed, ``count``: how many the configuration has. ``usd_per_hour``: of the updates alone."""

    keys_per_hour: int
    rate: float
    measured: bool
    workers: int
    count: int
    usd_per_hour: Decimal

    @property
    def follows(self) -> bool:
        """Whether the configured workers follow."""
        return self.workers <= self.count

    @property
    def per_second(self) -> float:
        """Write units a second, for keys of items up to 1 KB."""
        return self.keys_per_hour / 3600


def size(store: ObjectStore, config: Config, state: State, keys_per_hour: int) -> Sizing:
    """The workers that ``keys_per_hour`` changed keys need."""
    build = builds.current(store, state)
    last = None if build is None else plans.last_rate(store, build.table)
    rate = last or 1 / UPDATE_CPU_S
    usd = Decimal(keys_per_hour) * config.prices.dynamodb_write_million / 1_000_000
    return Sizing(keys_per_hour, rate, last is not None, workers_for(keys_per_hour, rate), config.workers.count, round(usd, 2))


def workers_for(keys_per_hour: int, rate: float = 1 / UPDATE_CPU_S) -> int:
    """The number of workers that follow a rate of changed keys with headroom; at least 1. ``rate``: updates a second of one worker."""
    return max(1, math.ceil(keys_per_hour / 3600 / rate * HEADROOM))
