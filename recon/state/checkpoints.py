"""Checkpoints: summaries of spans of commits, so that a state is read from a few objects instead of all entries.

A checkpoint of level n spans ``UNIT`` × ``BASE``ⁿ commits. It holds runs, totals and rules as of its last commit, and only the windows
that changed in its span. So each window is written once per level, and any state is read from at most ``BASE`` − 1 checkpoints of each
level and ``UNIT`` − 1 entries. A checkpoint applies to every state within its span. Checkpoints are derived: a missing or damaged one only
costs time. The levels are those of a log-structured merge tree (O'Neil et al., 1996).
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
    """The span of a checkpoint: its last commit and its level."""

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
    """The spans that end with a commit."""
    return [Span(commit, level) for level in range(LEVELS) if commit and commit % span(level) == 0]


def listed(store: ObjectStore, folder: str) -> set[Span]:
    """The spans of the checkpoints of the timeline in ``folder``."""
    below = layout.checkpoints(folder)
    found = (_NAME.match(path[len(below) :]) for path in store.list(below))
    return {Span(int(match[2]), int(match[1])) for match in found if match}


def furthest(places: set[Span], commit: int, target: int | None) -> Span | None:
    """The span that leads furthest from a state at ``commit``, not beyond ``target``."""
    # Each level has one candidate.
    for level in reversed(range(LEVELS)):
        place = Span((commit // span(level) + 1) * span(level), level)
        if place in places and (target is None or place.commit <= target):
            return place
    return None


def write(store: ObjectStore, folder: str, place: Span, checkpoint: Checkpoint) -> None:
    """Puts a checkpoint. Raises AlreadyExists; all checkpoints of one span are equal."""
    revisions, commits, closed, folders, marks = checkpoint.columns
    body = json.dumps(
        {
            **checkpoint.at,
            # Joined texts: a list of 100,000 short texts takes ten times as long to read.
            "windows": {
                "names": "\n".join(checkpoint.names),
                "revisions": list(revisions),
                "commits": list(commits),
                # One digit of base 32 per window: the lowest bit is closed, the others are the marks.
                "closed": "".join(_DIGITS[bool(is_closed) + 2 * mark] for is_closed, mark in zip(closed, marks, strict=True)),
                "folders": "\n".join(folders),
            },
        },
        separators=(",", ":"),
    ).encode()
    digest = hashlib.sha256(body).hexdigest().encode()
    store.put_new(layout.checkpoint(place.commit, place.level, folder), [digest, b"\n", body])


def read(store: ObjectStore, folder: str, place: Span) -> Checkpoint:
    """A checkpoint. Raises NotFound, and Damaged where its bytes are not what was written."""
    path = layout.checkpoint(place.commit, place.level, folder)
    digest, _, body = store.get(path).partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise Damaged(f"{path}: the checkpoint is not what was written; delete it, the entries hold the same")
    at: dict[str, Any] = json.loads(body)
    windows = at.pop("windows")
    names = windows["names"].split("\n") if windows["names"] else []
    states = [_DIGITS.index(digit) for digit in windows["closed"]]
    closed, marks = [bool(state & 1) for state in states], [state >> 1 for state in states]
    folders = windows["folders"].split("\n") if names else []
    return Checkpoint(at, tuple(names), (windows["revisions"], windows["commits"], closed, folders, marks))
