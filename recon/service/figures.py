"""How the service does: times by size, errors by code, use and estimated cost by owner, and its availability.

Of the requests that ended, the *good* ones are those that were right: neither cancelled nor refused for what they asked for or for what
their files hold. A good request counts as served if it ended ``done`` within the latency of its lane, from its arrival. Availability is
the share of the good ones that were served.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import Any

import sqlalchemy as sa

from recon.database.tables import REQUESTS
from recon.metering.prices import PLACES, Prices
from recon.service.site import Service
from recon.service.submissions import ENDED

CLASSES = (
    *((64_000, "up to 64 KB"), (1_000_000, "up to 1 MB"), (16_000_000, "up to 16 MB"), (64_000_000, "up to 64 MB")),
    (10**9, "up to 1 GB"),
)
LARGEST = "above 1 GB"
OF_THE_OWNER = frozenset(("wrong-request", "not-permitted", "not-offered", "no-such-input", "too-large", "wrong-input", "exists-already"))
"""Codes of requests that failed for what they asked for."""
_T = REQUESTS.c


@dataclass(frozen=True)
class Ended:
    """A request that ended. ``whole_s``: from its arrival to its end."""

    owner: str
    lane: str
    size: int
    state: str
    code: str
    whole_s: float
    figures: dict[str, Any]

    @property
    def good(self) -> bool:
        return self.state != "cancelled" and not (self.state == "failed" and self.code in OF_THE_OWNER)


def class_of(size: int) -> str:
    """The size class of a request. ``size``: bytes of its inputs."""
    return next((name for most, name in CLASSES if size <= most), LARGEST)


def ended(service: Service, since: datetime | None = None) -> list[Ended]:
    """The requests that ended, oldest first."""
    where = [_T.state.in_(ENDED), *([] if since is None else [_T.ended_at >= since])]
    columns = (_T.owner, _T.lane, _T.size, _T.state, _T.problem, _T.received_at, _T.ended_at, _T.figures)
    with service.database.read() as connection:
        return [
            Ended(
                row.owner,
                row.lane,
                row.size,
                row.state,
                json.loads(row.problem).get("code", ""),
                (row.ended_at - row.received_at).total_seconds(),
                json.loads(row.figures),
            )
            for row in connection.execute(sa.select(*columns).where(*where).order_by(_T.ended_at))
        ]


def figures(service: Service, days: int = 7) -> dict[str, Any]:
    """Figures of the last days: ``waiting`` and ``running`` by lane, ``availability``, ``classes``, ``owners``, ``codes``."""
    with service.database.read() as connection:
        now = service.database.clock(connection)
        counts = sa.select(_T.lane, _T.state, sa.func.count().label("requests")).where(_T.state.not_in(ENDED)).group_by(_T.lane, _T.state)
        active = connection.execute(counts).all()
    found = ended(service, now - timedelta(days=days))
    good = [one for one in found if one.good]
    served = [one for one in good if is_served(service, one)]
    waiting = Counter[str]()
    running = Counter[str]()
    for row in active:
        (running if row.state == "running" else waiting)[row.lane] += row.requests
    return {
        "days": days,
        "waiting": dict(waiting),
        "running": dict(running),
        "ended": dict(Counter(one.state for one in found)),
        "good": len(good),
        "served": len(served),
        "availability": None if not good else round(len(served) / len(good), 6),
        "classes": _by(found, lambda one: class_of(one.size), service.place.prices, [name for _, name in CLASSES] + [LARGEST]),
        "owners": _by(found, lambda one: one.owner, service.place.prices, sorted({one.owner for one in found})),
        "codes": dict(Counter(one.code for one in found if one.code).most_common()),
    }


def is_served(service: Service, one: Ended) -> bool:
    """Whether a good request was done within the latency of its lane."""
    return one.state == "done" and one.whole_s <= service.settings.lane(one.lane).latency.total_seconds()


def _by(found: Sequence[Ended], name_of: Any, prices: Prices, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Ended]] = {name: [] for name in names}
    for one in found:
        groups[name_of(one)].append(one)
    return {name: _summary(group, prices) for name, group in groups.items() if group}


def _summary(group: Sequence[Ended], prices: Prices) -> dict[str, Any]:
    done = [one for one in group if one.state == "done"]
    return {
        "requests": len(group),
        "done": len(done),
        "whole_s": percentiles(one.whole_s for one in done),
        "queue_s": percentiles(one.figures["queue_s"] for one in done),
        "run_s": percentiles(one.figures["run_s"] for one in done),
        "cpu_s": round(sum(one.figures["cpu_s"] for one in done), 3),
        **{name: sum(one.figures[name] for one in done) for name in ("rows_in", "rows_out", "bytes_in", "bytes_out")},
        "engines": dict(Counter(str(one.figures["engine"]) for one in done)),
        "cost": str(sum((cost_of(one.figures, prices) for one in done), Decimal(0))),
    }


def cost_of(one: dict[str, Any], prices: Prices) -> Decimal:
    """An estimate in dollars: the CPU time and the memory of a request by the prices of Fargate; idle machines and requests to S3 are not
    in it. ``one``: its figures."""
    cpu = Decimal(str(one["cpu_s"])) * prices.vcpu_hour
    memory = Decimal(one["peak_bytes"]) / 10**9 * Decimal(str(one["run_s"])) * prices.memory_gb_hour
    return ((cpu + memory) / 3600).quantize(PLACES)


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """p50, p95, p99 and the largest: each a value that occurs (nearest rank); empty without values."""
    known = sorted(values)
    if not known:
        return {}
    ranks = {name: known[ceil(share * len(known)) - 1] for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
    return {**{name: round(value, 3) for name, value in ranks.items()}, "max": round(known[-1], 3)}
