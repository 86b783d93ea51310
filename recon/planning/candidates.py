"""Which windows stand ready for a stage, asked of the store: what its upstream stage has finished and it has not.

Nothing lists all windows: a look costs what has changed since the last one, and what waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from recon.config import Config
from recon.errors import Damaged
from recon.intake.manifests import read_manifest
from recon.model.windows import name_of
from recon.planning import closing, due, quarantine
from recon.planning.ranges import Size, size_of_batch, size_of_reduced
from recon.state import reduced
from recon.state.certificates import is_certified, maybe_uncertified, note_certified
from recon.state.tiers import indexed_at
from recon.state.timeline import State
from recon.storage.port import ObjectStore

_TOLD_MAX = 8
LOOKED_MAX = 2_000
"""Committed windows that one tick looks at: it must not take longer than the daemon gives it, whatever has piled up."""


@dataclass
class Candidates:
    """``waiting``: windows to look at, in order of time, with their newest noted revision or commit. ``told``: why those that were looked
    at are not ready. ``cursor``: for the next look."""

    waiting: dict[str, int]
    cursor: str
    told: list[str] = field(default_factory=list)
    behind: list[datetime] = field(default_factory=list)
    """Those that wait for the stage before."""


def candidates(store: ObjectStore, state: State, config: Config, stage: str, cursor: str | None) -> Candidates:
    """What may be ready for ``stage``: landed and not committed before the merge, committed and not certified after it."""
    if stage in ("reduce", "merge"):
        return Candidates(*due.follow(store, state, cursor))
    note_certified(store, config, state)
    return Candidates(maybe_uncertified(store, state), "")


def ready(store: ObjectStore, state: State, config: Config, stage: str, found: Candidates, now: datetime) -> Iterator[Ready]:
    """Those that are ready, in order of time, read one by one as they are asked for."""
    landed = stage in ("reduce", "merge")
    for name in islice(list(found.waiting), None if landed else LOOKED_MAX):
        window = config.grid.parse(name)
        try:
            one = (
                _landed(store, state, config, stage, window, found, now)
                if landed
                else _committed(store, config, state, stage, name, window, found)
            )
        except Damaged as error:  # a manifest or a certificate of this window; the others go on
            found.told.append(f"{name} is left out: {error}")
            continue
        if one is not None:
            yield one


def why_nothing(store: ObjectStore, state: State, config: Config, stage: str, found: Candidates, now: datetime) -> str:
    """Why nothing starts, once all candidates were looked at; else what the next window of the grid waits for."""
    told = [*_behind(config, stage, found.behind), *found.told]
    if len(told) > _TOLD_MAX:
        told[_TOLD_MAX:] = [f"{len(told) - _TOLD_MAX} more wait"]
    if told:
        return "; ".join(told)
    done = {"reduce": "everything that is closed is reduced", "merge": "everything that is reduced is merged"}
    said = done.get(stage, f"everything that is merged is {'indexed' if stage == 'index' else 'certified'}")
    if stage != "reduce":
        return said
    # Those that are reduced wait for the merge: not they are told, but the one behind them.
    newest = max((max(names) for names in (state.windows, found.waiting) if names), default=None)
    following = config.grid.start if newest is None else config.grid.after(config.grid.parse(newest))
    return f"{said}; {closing.why_not(store, config, state, following, now)}"


def _behind(config: Config, stage: str, windows: list[datetime]) -> Iterator[str]:
    """``2026-11-01T00:00Z..2026-11-01T05:00Z are not reduced yet``: consecutive windows in one."""
    first = 0
    for at, window in enumerate(windows):
        if at + 1 == len(windows) or windows[at + 1] != config.grid.after(window):
            named = name_of(windows[first]) if first == at else f"{name_of(windows[first])}..{name_of(window)}"
            yield f"{named} {'is' if first == at else 'are'} not {'reduced' if stage == 'merge' else 'indexed'} yet"
            first = at + 1


def _landed(
    store: ObjectStore, state: State, config: Config, stage: str, window: datetime, found: Candidates, now: datetime
) -> Ready | None:
    manifest = read_manifest(store, window)
    if manifest is None or manifest.revision <= state.revision(manifest.window):
        return None  # only noted so far, or done meanwhile
    if not closing.processed(config, state, manifest) or quarantine.read(store, window, manifest.revision, config.rules_version):
        if stage == "reduce" or closing.processed(config, state, manifest):
            found.told.append(closing.why_not(store, config, state, window, now))
        return None
    figures = reduced.find(store, window, manifest.revision, config.rules_version)
    if stage == "merge" and figures is None:
        found.behind.append(window)
    if (figures is not None) != (stage == "merge"):
        return None
    return Ready(manifest.window, manifest.revision, size_of_batch(manifest) if figures is None else size_of_reduced(figures))


def _committed(
    store: ObjectStore, config: Config, state: State, stage: str, name: str, window: datetime, found: Candidates
) -> Ready | None:
    commit = state.windows[name].commit
    if is_certified(store, config, name, state.windows[name]):
        return None
    indexed = indexed_at(store, window) >= commit
    if stage == "certify" and not indexed:
        found.behind.append(window)
    return Ready(name, commit) if indexed == (stage == "certify") else None


@dataclass(frozen=True)
class Ready:
    """A window that a stage may take, at a version: its revision, or the commit that changed it last. ``size``: what it weighs there."""

    window: str
    version: int
    size: Size = field(default_factory=Size)
