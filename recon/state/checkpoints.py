"""Checkpoints: what a span of commits came to, so that a state is read from a few objects instead of all entries.

A checkpoint of level n spans ``UNIT`` × ``BASE``ⁿ commits and holds, as of its last commit, what is small (runs, totals, rules), and
of the windows just those that changed in its span. So each window is written once per level however long the store lives, and any state
is read from at most ``BASE`` − 1 checkpoints of each level and ``UNIT`` − 1 entries. A checkpoint fits every state from the first commit
of its span on. They are derived: one that is missing or damaged costs time only. The levels are those of a log-structured merge tree
(O'Neil et al., 1996).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from recon.errors import Damaged
from recon.storage import layout
from recon.storage.port import ObjectStore

UNIT, BASE, LEVELS = 32, 16, 5

_DIGITS = "0123456789abcdefghijklmnopqrstuv"
_NAME = re.compile(r"(\d)/(\d{12})\Z")


def span(level: int) -> int:
    """Commits that a checkpoint of a level spans."""
    return UNIT * int(BASE**level)


class Span(NamedTuple):
    """A checkpoint by its last commit and its level."""

    commit: int
    level: int

    @property
    def since(self) -> int:
        """The commit before the first one of the span."""
        return self.commit - span(self.level)


@dataclass(frozen=True)
class Checkpoint:
    """``at``: commit, rules, time, runs, totals, watermark and last rebuild as of the last commit of the span. ``names`` of the windows
    that changed in it, and their ``columns``: revision, commit, closed, folder, marks."""

    at: dict[str, Any]
    names: tuple[str, ...]
    columns: tuple[Sequence[Any], ...]

    def windows(self) -> dict[str, tuple[Any, ...]]:
        """Name → revision, commit, closed, folder, marks."""
        return dict(zip(self.names, zip(*self.columns, strict=True), strict=True))


def due(commit: int) -> list[Span]:
    """The checkpoints that end with a commit."""
    return [Span(commit, level) for level in range(LEVELS) if commit and commit % span(level) == 0]


def listed(store: ObjectStore, folder: str) -> set[Span]:
    """The checkpoints of the timeline in ``folder``."""
    below = layout.checkpoints(folder)
    found = (_NAME.match(path[len(below) :]) for path in store.list(below))
    return {Span(int(match[2]), int(match[1])) for match in found if match}


def furthest(places: set[Span], commit: int, target: int | None) -> Span | None:
    """The one that leads on furthest from a state at ``commit``, not beyond ``target``."""
    # By arithmetic, not by a search: there are as many candidates as levels.
    for level in reversed(range(LEVELS)):
        place = Span((commit // span(level) + 1) * span(level), level)
        if place in places and (target is None or place.commit <= target):
            return place
    return None


def write(store: ObjectStore, folder: str, place: Span, checkpoint: Checkpoint) -> None:
    """Puts a checkpoint. Raises AlreadyExists: all of one place are equal."""
    revisions, commits, closed, folders, marks = checkpoint.columns
    body = json.dumps(
        {
            **checkpoint.at,
            # Joined texts, since a list of 100,000 short ones takes ten times as long to read.
            "windows": {
                "names": "\n".join(checkpoint.names),
                "revisions": list(revisions),
                "commits": list(commits),
                # One digit of base 32 per window: the lowest bit says closed, the others are the marks.
                "closed": "".join(_DIGITS[bool(one) + 2 * mark] for one, mark in zip(closed, marks, strict=True)),
                "folders": "\n".join(folders),
            },
        },
        separators=(",", ":"),
    ).encode()
    digest = hashlib.sha256(body).hexdigest().encode()
    store.put_new(layout.checkpoint(place.commit, place.level, folder), [digest, b"\n", body])


def read(store: ObjectStore, folder: str, place: Span) -> Checkpoint:
    """A checkpoint. Raises NotFound, and Damaged where it is not as it was written."""
    path = layout.checkpoint(place.commit, place.level, folder)
    digest, _, body = store.get(path).partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise Damaged(f"{path}: the checkpoint is not as it was written; delete it, the entries hold all that it says")
    at: dict[str, Any] = json.loads(body)
    windows = at.pop("windows")
    names = windows["names"].split("\n") if windows["names"] else []
    states = [_DIGITS.index(one) for one in windows["closed"]]
    closed, marks = [bool(one & 1) for one in states], [one >> 1 for one in states]
    folders = windows["folders"].split("\n") if names else []
    return Checkpoint(at, tuple(names), (windows["revisions"], windows["commits"], closed, folders, marks))
