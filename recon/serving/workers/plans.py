"""Plans: which shares are to be done, put once before anybody begins, so that a coordinator that is run again cuts nothing anew."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from recon.errors import WrongUsage
from recon.storage import documents, layout
from recon.storage.port import AlreadyExists, NotFound, ObjectStore

ROWS_MIN, ROWS_MAX = 1_000, 5_000_000
RATE_AT_FIRST = 400.0
"""Rows a second and worker, where no plan has been finished yet."""
OF_LIMIT = 0.25
"""What a share should take of the time limit."""

_PLAN = re.compile(r"(\d{12})/(?:plan|finished)\.json\Z")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")

ShareBody = Mapping[str, Any]
"""A share as JSON: ``share`` (its id), ``run``, ``first`` and ``end`` (rows of it), and whatever else recon.serving.shares puts in."""


@dataclass(frozen=True)
class Plan:
    """Shares of what came after the commit ``after`` up to the commit ``upto``, by id, in their order. ``folder``: where it lies."""

    folder: str
    after: int
    upto: int
    shares: Mapping[str, ShareBody]

    @property
    def rows(self) -> int:
        return sum(rows_of(share) for share in self.shares.values())


def rows_of(share: ShareBody) -> int:
    return int(share["end"]) - int(share["first"])


def plan_for(store: ObjectStore, table: str, after: int, upto: int, cut: Callable[[], Iterable[ShareBody]]) -> Plan:
    """The plan of what came after ``after``: the one that stands, whatever it goes up to, or else a new one of what ``cut`` gives."""
    folder = layout.plan(table, after)
    with suppress(NotFound):
        return read_plan(store, folder)
    shares = list(cut())
    body = {"after": after, "upto": upto, "shares": shares}
    with suppress(AlreadyExists):
        documents.put(store, layout.plan_file(folder), body, **documents.COMPACT)
    return read_plan(store, folder)


def read_plan(store: ObjectStore, folder: str) -> Plan:
    """Raises NotFound where there is none (any more), Damaged."""
    path = layout.plan_file(folder)
    raw = store.get(path)
    with documents.damaged(path, "delete its folder, then run the same again"):
        body = json.loads(raw)
        shares: dict[str, ShareBody] = {_checked(share): share for share in body["shares"]}
        if len(shares) != len(body["shares"]):
            raise ValueError("a share stands in it twice")
        return Plan(folder, int(body["after"]), int(body["upto"]), shares)


def _checked(share: ShareBody) -> str:
    """The id of a share, which becomes part of paths."""
    name = str(share["share"])
    if not _ID.match(name) or not (0 <= int(share["first"]) < int(share["end"])):
        raise WrongUsage(f"share {name[:80]!r}: an id is letters, digits, '.', '_' and '-', and its rows are some")
    return name


def share_rows(limit_s: float, rows: int | None, workers: int, rate: float | None) -> int:
    """How many rows a share has at most. ``rate``: rows a second and worker as last measured; ``rows``: of the whole plan, if that is
    known: then no worker is left without a share unless shares would get too small to be worth their start."""
    size = int((rate or RATE_AT_FIRST) * limit_s * OF_LIMIT)
    if rows is not None:
        size = min(size, math.ceil(rows / workers))
    return min(max(size, ROWS_MIN), ROWS_MAX)


def finish(store: ObjectStore, plan: Plan, dones: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Notes that all shares are done, with their sums: of two that do so at once the first counts. Returns what stands."""
    counts: dict[str, float] = {}
    for done in dones:
        for name, count in done["counts"].items():
            counts[name] = counts.get(name, 0) + count
    seconds = sum(float(done["seconds"]) for done in dones)
    body = {
        "upto": plan.upto,
        "shares": len(plan.shares),
        "rows": plan.rows,
        "seconds": round(seconds, 3),
        "counts": counts,
        "time": datetime.now(UTC).isoformat(),
    }
    with suppress(AlreadyExists):
        documents.put(store, layout.plan_finished(plan.folder), body)
    standing = finished(store, plan.folder)
    return body if standing is None else standing


def finished(store: ObjectStore, folder: str) -> dict[str, Any] | None:
    """What ``finish`` noted of a plan; None where it is not finished, or what was noted cannot be read (then it is noted again)."""
    try:
        body: dict[str, Any] = json.loads(store.get(layout.plan_finished(folder)))
        return body if {"rows", "seconds", "time"} <= set(body) else None
    except (NotFound, ValueError, TypeError):
        return None


def last_rate(store: ObjectStore, table: str) -> float | None:
    """Rows a second and worker of the newest plan that was finished."""
    for folder in reversed(_folders(store, table)):
        told = finished(store, folder)
        if told is not None and told["seconds"] > 0 and told["rows"] >= ROWS_MIN:
            return float(told["rows"]) / float(told["seconds"])
    return None


def sweep(store: ObjectStore, table: str, now: datetime, grace: timedelta) -> int:
    """Removes plans, but the newest, that were finished ``grace`` ago, and what late workers left of such. Returns how many objects."""
    swept = 0
    under, newest = layout.plans(table), max(_folders(store, table), default="")
    for folder in sorted({f"{under}{path[len(under) :].split('/')[0]}/" for path in store.list(under)}):
        if folder >= newest:
            break
        told = finished(store, folder)
        if told is None and store.exists(layout.plan_file(folder)):
            continue
        if told is not None and now - datetime.fromisoformat(told["time"]) < grace:
            continue
        # The plan itself goes last: while it is there, an interrupted sweep is taken up.
        paths = sorted(store.list(folder), key=lambda path: path.endswith(".json"))
        for path in paths:
            store.delete(path)
        swept += len(paths)
    return swept


def _folders(store: ObjectStore, table: str) -> list[str]:
    """Folders of plans that are there whole, oldest first."""
    under = layout.plans(table)
    found = (_PLAN.match(path[len(under) :]) for path in store.list(under))
    return sorted({f"{under}{match[1]}/" for match in found if match is not None})
