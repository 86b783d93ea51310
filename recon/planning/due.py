"""Which windows are due: what has landed and is not committed, and what is still open."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from recon.config import Config
from recon.errors import Damaged, WrongUsage
from recon.intake import landing_log
from recon.intake.landing_log import _WAITING, _now, since
from recon.intake.manifests import Manifest, read_manifest
from recon.planning.closing import close_due, past_deadline, processed
from recon.state.timeline import State
from recon.storage import clock, frontiers
from recon.storage.port import ObjectStore


def follow(store: ObjectStore, state: State, cursor: str | None = None, now: Callable[[], datetime] = _now) -> tuple[dict[str, int], str]:
    """Windows with a noted revision that is not committed → that revision, in order of time; and the new cursor, which keeps them.

    Costs the windows that landed since the cursor and those that wait; never those that are done."""
    at, before = (None, {}) if cursor is None else _kept(cursor)
    touched, at = since(store, at, now)
    waiting = {
        window: revision
        for window in sorted({*before, *touched})
        if (revision := max(before.get(window, 0), touched.get(window, 0))) > state.revision(window)
    }
    return waiting, json.dumps({"at": at, "waiting": waiting}, separators=(",", ":"))


def waiting(store: ObjectStore, state: State) -> dict[str, int]:
    """As ``follow``, with one cursor in the store for all callers."""
    _, cursor = frontiers.read(store, _WAITING)
    found, cursor = follow(store, state, cursor)
    frontiers.renew(store, _WAITING, cursor)
    return found


def _kept(cursor: str) -> tuple[str | None, dict[str, int]]:
    """The contents of a cursor: its instant, and the windows that waited then."""
    try:
        kept = json.loads(cursor)
        return str(kept["at"]), {str(window): int(revision) for window, revision in kept["waiting"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise WrongUsage(
            f"cursor {cursor[:60]!r} was not made by recon.planning.due.follow; clear it, and all windows are looked at once"
        ) from None


@dataclass(frozen=True)
class Due:
    """``ready``: manifests of the windows to process, whose revision is not committed. ``open``: open windows with files. ``bad``: windows
    whose manifest cannot be read → why."""

    ready: tuple[Manifest, ...]
    open: tuple[str, ...]
    bad: Mapping[str, str] = field(default_factory=dict)


def due(
    store: ObjectStore,
    config: Config,
    state: State,
    first: datetime | None = None,
    last: datetime | None = None,
    windows: Collection[str] | None = None,
) -> Due:
    """Windows from ``first`` to ``last`` (both included) with a revision that is not committed, in order of time.

    ``windows``: names to look at (see ``follow``); without it all notes of landings are listed, which depends on no clock."""
    ready, still_open, bad = [], [], {}
    for name in _newer(store, state) if windows is None else sorted(windows):
        window = config.grid.parse(name)
        if (first and window < first) or (last and window > last):
            continue
        try:
            manifest = read_manifest(store, window)
        except Damaged as error:
            bad[name] = str(error)
            continue
        if manifest is None or manifest.revision <= state.revision(name):
            continue  # only noted so far, or done meanwhile
        if processed(config, state, manifest):
            ready.append(manifest)
        elif manifest.files:
            still_open.append(name)
    return Due(tuple(ready), tuple(still_open), bad)


def _newer(store: ObjectStore, state: State) -> Iterator[str]:
    return (name for name, revision in landing_log.since(store)[0].items() if revision > state.revision(name))


def due_after_closing(
    store: ObjectStore,
    config: Config,
    state: State,
    first: datetime | None = None,
    last: datetime | None = None,
    look: Callable[[], Collection[str]] | None = None,
) -> Due:
    """As ``due``, after closing the windows that hold the expected number of files or whose deadline has passed.

    ``look``: gives the names of the windows to look at; it is called again once windows were closed."""
    todo = due(store, config, state, first, last, look and look())
    if config.closing.files is None and config.closing.deadline is None:
        return todo
    now = clock.now(store)
    still_open = {*todo.open, *(manifest.window for manifest in todo.ready if not manifest.closed)}
    for name in past_deadline(config, state, now):
        if last and config.grid.parse(name) > last:
            break
        if not (first and config.grid.parse(name) < first):
            still_open.add(name)
    closed = close_due(store, config, now, sorted(still_open))
    return due(store, config, state, first, last, look and look()) if closed else todo


def peek(store: ObjectStore, state: State) -> dict[str, int]:
    """As ``waiting``, without moving the cursor in the store."""
    return follow(store, state, frontiers.read(store, _WAITING)[1])[0]
