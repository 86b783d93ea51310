"""Which windows are ready for a stage: those that the stage before has finished and this stage has not.

No window list is read in full: a look costs the windows that changed since the last look, and those that wait.
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

_REASONS_MAX = 8
LOOKED_MAX = 2_000
"""Committed windows per tick: with any backlog a tick must end within the daemon's time limit."""


@dataclass(frozen=True)
class Ready:
    """A window that a stage may take. ``version``: its revision, or the commit that changed it last. ``size``: for the caps."""

    window: str
    version: int
    size: Size = field(default_factory=Size)


@dataclass
class Candidates:
    """Windows that a stage may take. ``waiting``: windows to look at, in order of time, with their newest noted revision or commit.
    ``cursor``: for the next look. ``reasons``: why windows are not ready."""

    waiting: dict[str, int]
    cursor: str
    reasons: list[str] = field(default_factory=list)
    behind: list[datetime] = field(default_factory=list)
    """Windows that wait for the stage before."""


def candidates(store: ObjectStore, state: State, config: Config, stage: str, cursor: str | None) -> Candidates:
    """For ``reduce`` and ``merge``: windows that landed and are not committed. For the later stages: committed and not certified."""
    if stage in ("reduce", "merge"):
        return Candidates(*due.follow(store, state, cursor))
    note_certified(store, config, state)
    return Candidates(maybe_uncertified(store, state), "")


def ready(store: ObjectStore, state: State, config: Config, stage: str, found: Candidates, now: datetime) -> Iterator[Ready]:
    """Those that are ready, in order of time, read one by one as the caller asks for them."""
    landed = stage in ("reduce", "merge")
    look = _Look(store, state, config, stage, found, now)
    for name in islice(list(found.waiting), None if landed else LOOKED_MAX):
        try:
            window = look.landed(name) if landed else look.committed(name)
        except Damaged as error:  # a manifest or a certificate of this window; the others go on
            found.reasons.append(f"{name} is left out: {error}")
            continue
        if window is not None:
            yield window


@dataclass(frozen=True)
class _Look:
    """One look at the candidates of a stage. Notes in ``found`` why a window is not ready."""

    store: ObjectStore
    state: State
    config: Config
    stage: str
    found: Candidates
    now: datetime

    def landed(self, name: str) -> Ready | None:
        """The window if ``reduce`` or ``merge`` may take it."""
        window, rules = self.config.grid.parse(name), self.config.rules_version
        manifest = read_manifest(self.store, window)
        if manifest is None or manifest.revision <= self.state.revision(name):
            return None  # only noted so far, or done meanwhile
        processed = closing.processed(self.config, self.state, manifest)
        if not processed or quarantine.read(self.store, window, manifest.revision, self.config.judged_by):
            if self.stage == "reduce" or processed:
                self.found.reasons.append(closing.why_not(self.store, self.config, self.state, window, self.now))
            return None
        figures = reduced.find(self.store, window, manifest.revision, rules)
        if self.stage == "merge":
            if figures is None:
                self.found.behind.append(window)
                return None
            return Ready(name, manifest.revision, size_of_reduced(figures))
        return Ready(name, manifest.revision, size_of_batch(manifest)) if figures is None else None

    def committed(self, name: str) -> Ready | None:
        """The window if ``index`` or ``certify`` may take it."""
        window, committed = self.config.grid.parse(name), self.state.windows[name]
        if is_certified(self.store, self.config, name, committed):
            return None
        indexed = indexed_at(self.store, window) >= committed.commit
        if self.stage == "certify" and not indexed:
            self.found.behind.append(window)
        return Ready(name, committed.commit) if indexed == (self.stage == "certify") else None


def why_nothing(store: ObjectStore, state: State, config: Config, stage: str, found: Candidates, now: datetime) -> str:
    """Why no candidate is ready; without candidates, what the next window of the grid waits for."""
    reasons = [*_behind(config, stage, found.behind), *found.reasons]
    if len(reasons) > _REASONS_MAX:
        reasons[_REASONS_MAX:] = [f"{len(reasons) - _REASONS_MAX} more wait"]
    if reasons:
        return "; ".join(reasons)
    done = {"reduce": "everything that is closed is reduced", "merge": "everything that is reduced is merged"}
    nothing_to_do = done.get(stage, f"everything that is merged is {'indexed' if stage == 'index' else 'certified'}")
    if stage != "reduce":
        return nothing_to_do
    # Reduced windows wait for the merge, not for this stage: the window after them is explained.
    newest = max((max(names) for names in (state.windows, found.waiting) if names), default=None)
    following = config.grid.start if newest is None else config.grid.after(config.grid.parse(newest))
    return f"{nothing_to_do}; {closing.why_not(store, config, state, following, now)}"


def _behind(config: Config, stage: str, windows: list[datetime]) -> Iterator[str]:
    """``2026-11-01T00:00Z..2026-11-01T05:00Z are not reduced yet``, once per range of consecutive windows."""
    first = 0
    for at, window in enumerate(windows):
        if at + 1 == len(windows) or windows[at + 1] != config.grid.after(window):
            named = name_of(windows[first]) if first == at else f"{name_of(windows[first])}..{name_of(window)}"
            yield f"{named} {'is' if first == at else 'are'} not {'reduced' if stage == 'merge' else 'indexed'} yet"
            first = at + 1
