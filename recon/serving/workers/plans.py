"""Plans: the shares to load, put once before any worker starts, so that a restarted coordinator uses the same shares."""

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
"""Rows per second and worker until a plan has been finished."""
OF_LIMIT = 0.25
"""Target duration of a share, as a part of the time limit."""

_PLAN = re.compile(r"(\d{12})/(?:plan|finished)\.json\Z")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")

ShareBody = Mapping[str, Any]
"""A share as JSON: ``share`` (its id), ``run``, ``first`` and ``end`` (its rows), and the other fields of recon.serving.shares.Share."""


@dataclass(frozen=True)
class Plan:
    """The shares of the commits after ``after`` up to ``upto``, by id, in order. ``folder``: the plan's place in the store."""

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
    """The plan of the commits after ``after``: the existing one, whatever its last commit, or else a new one of the shares of ``cut``."""
    folder = layout.plan(table, after)
    with suppress(NotFound):
        return read_plan(store, folder)
    shares = list(cut())
    body = {"after": after, "upto": upto, "shares": shares}
    with suppress(AlreadyExists):
        documents.put(store, layout.plan_file(folder), body, **documents.COMPACT)
    return read_plan(store, folder)


def read_plan(store: ObjectStore, folder: str) -> Plan:
    """Raises NotFound if there is no such plan, and Damaged."""
    path = layout.plan_file(folder)
    raw = store.get(path)
    with documents.damaged(path, "delete its folder, then run the same again"):
        body = json.loads(raw)
        shares: dict[str, ShareBody] = {_checked(share): share for share in body["shares"]}
        if len(shares) != len(body["shares"]):
            raise ValueError("a share is in it twice")
        return Plan(folder, int(body["after"]), int(body["upto"]), shares)


def _checked(share: ShareBody) -> str:
    """The id of a share, which is part of paths."""
    name = str(share["share"])
    if not _ID.match(name) or not (0 <= int(share["first"]) < int(share["end"])):
        raise WrongUsage(f"share {name[:80]!r}: an id is letters, digits, '.', '_' and '-', and it has at least one row")
    return name


def share_rows(limit_s: float, rows: int | None, workers: int, rate: float | None) -> int:
    """The maximum number of rows of a share. ``rate``: rows per second and worker as last measured; ``rows``: of the whole plan, if known:
    then every worker gets a share, unless shares would be too small to be worth a start."""
    size = int((rate or RATE_AT_FIRST) * limit_s * OF_LIMIT)
    if rows is not None:
        size = min(size, math.ceil(rows / workers))
    return min(max(size, ROWS_MIN), ROWS_MAX)


def finish(store: ObjectStore, plan: Plan, dones: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Records that all shares are done, with their sums; of two such records the first counts. Returns the record that counts."""
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
    first = finished(store, plan.folder)
    return body if first is None else first


def finished(store: ObjectStore, folder: str) -> dict[str, Any] | None:
    """The record of ``finish``; None if the plan is not finished, or the record is damaged (then it is put again)."""
    try:
        body: dict[str, Any] = json.loads(store.get(layout.plan_finished(folder)))
        return body if {"rows", "seconds", "time"} <= set(body) else None
    except (NotFound, ValueError, TypeError):
        return None


def last_rate(store: ObjectStore, table: str) -> float | None:
    """Rows per second and worker of the newest finished plan."""
    for folder in reversed(_folders(store, table)):
        done = finished(store, folder)
        if done is not None and done["seconds"] > 0 and done["rows"] >= ROWS_MIN:
            return float(done["rows"]) / float(done["seconds"])
    return None


def sweep_plans(store: ObjectStore, table: str, now: datetime, grace: timedelta) -> int:
    """Removes all plans but the newest that were finished ``grace`` ago, and objects of late workers. Returns the number of objects."""
    swept = 0
    under, newest = layout.plans(table), max(_folders(store, table), default="")
    for folder in sorted({f"{under}{path[len(under) :].split('/')[0]}/" for path in store.list(under)}):
        if folder >= newest:
            break
        done = finished(store, folder)
        if done is None and store.exists(layout.plan_file(folder)):
            continue
        if done is not None and now - datetime.fromisoformat(done["time"]) < grace:
            continue
        # The plan itself is removed last: while it exists, the next sweep continues an interrupted one.
        paths = sorted(store.list(folder), key=lambda path: path.endswith(".json"))
        for path in paths:
            store.delete(path)
        swept += len(paths)
    return swept


def _folders(store: ObjectStore, table: str) -> list[str]:
    """Folders of complete plans, oldest first."""
    under = layout.plans(table)
    found = (_PLAN.match(path[len(under) :]) for path in store.list(under))
    return sorted({f"{under}{match[1]}/" for match in found if match is not None})
