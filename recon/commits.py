"""Following the timeline: which windows were changed by a commit and have no certificate of it yet.

Belongs here: that question, with a cursor, so that nothing lists all windows. Does not belong here: certificates (recon.certify).
"""

from __future__ import annotations

import json

from recon.certify import read_certificate
from recon.config import Config
from recon.errors import WrongUsage
from recon.store import ObjectStore
from recon.timeline import State, Timeline

LOOK_BACK = 100
"""Commits that a follower without a cursor looks back. What is older is found by whoever asks certify.uncertified, once a night."""


def follow(store: ObjectStore, config: Config, timeline: Timeline, state: State, cursor: str | None = None) -> tuple[dict[str, int], str]:
    """Windows whose last change has no certificate → the commit of that change, in order of time; and the new cursor, which keeps them.

    Costs the commits since the cursor, and the windows that wait."""
    at, changed = (max(0, state.commit - LOOK_BACK), set()) if cursor is None else _kept(cursor)
    if at > state.commit:  # another store than the cursor was made with
        at, changed = max(0, state.commit - LOOK_BACK), set()
    for number in range(at + 1, state.commit + 1):
        if (entry := timeline.entry(number)) is not None:
            changed |= {*entry.windows, *entry.recounted}
    waiting: dict[str, int] = {}
    for name in sorted(changed & state.windows.keys()):
        certificate, commit = read_certificate(store, config.grid.parse(name)), int(state.windows[name]["commit"])
        if certificate is None or certificate["commit"] < commit:
            waiting[name] = commit
    return waiting, json.dumps({"commit": state.commit, "waiting": sorted(waiting)}, separators=(",", ":"))


def _kept(cursor: str) -> tuple[int, set[str]]:
    try:
        kept = json.loads(cursor)
        return int(kept["commit"]), {str(name) for name in kept["waiting"]}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise WrongUsage(f"cursor {cursor[:60]!r} was not made by recon.commits.follow; clear it") from None
