"""Pictures of everything that is answered at a time, to be compared with what is answered of that time later."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import strategies as s

from recon.api import Reconciliation
from recon.errors import WrongInput
from recon.model.windows import name_of
from recon.operations.upkeep import sweep_store
from recon.state.timeline import Timeline


@dataclass(frozen=True)
class Picture:
    """What everybody saw at a time: every artifact, each key as shown, and every artifact as of the middle window."""

    time: str
    artifacts: list[dict[str, Any]]
    shown: dict[str, dict[str, Any]]
    as_of: list[dict[str, Any]]


MIDDLE = name_of(s.at(1))


def taken(r: Reconciliation) -> Picture:
    artifacts = r.artifacts().to_pylist()
    shown = {row["key"]: r.show(row["key"], events=True) for row in artifacts}
    return Picture(datetime.now(UTC).isoformat(), artifacts, shown, r.artifacts(through=MIDDLE).to_pylist())


def check(r: Reconciliation, picture: Picture, keys: set[str]) -> None:
    """The same is answered now of what was known then."""
    assert r.artifacts(known_at=picture.time).to_pylist() == picture.artifacts
    assert r.artifacts(through=MIDDLE, known_at=picture.time).to_pylist() == picture.as_of
    for key, shown in picture.shown.items():
        again = r.show(key, known_at=picture.time, events=True)
        # Which windows held the key once and no longer do is told of the state that stands; one that is folded again has no such past.
        assert {**again, "withdrawn": []} == {**shown, "withdrawn": []}
    for key in keys - picture.shown.keys():
        assert not contributions_then(r, key, picture.time)


def swept(r: Reconciliation, times: int, now: datetime) -> None:
    for number in range(times):
        sweep_store(r.store(), r.config, Timeline(r.store()), now + timedelta(hours=number))


def contributions_then(r: Reconciliation, key: str, time: str) -> list[Any]:
    try:
        return list(r.show(key, known_at=time)["contributions"])
    except WrongInput:
        return []
