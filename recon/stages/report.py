"""``RunReport``: what a run did, per window and per stage."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from recon.metering.usage import Spent, Usage, from_json, to_json, usage_of
from recon.stages.commit import Merged
from recon.state.reduced import Figures
from recon.state.timeline import CommittedWindow, Mark
from recon.storage.port import ObjectStore


@dataclass
class RunReport:
    """What a run did. ``bad``: window → why it was left out. ``open``: windows that hold files but are still open. ``short``: windows
    that were closed with fewer files than expected; ``all_rejected``: windows of which every row was rejected. Both are committed.

    ``requests``: stage → service → operation → requests and bytes, where the store counts them; ``other`` is what no stage asked for.
    ``prices``: what they cost; see recon.metering.prices."""

    windows: list[str] = field(default_factory=list)
    commits: list[int] = field(default_factory=list)
    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    keys: int = 0
    written: int = 0
    bytes: int = 0
    recounted: list[str] = field(default_factory=list)
    certificates: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    prices: dict[str, Any] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    short: list[str] = field(default_factory=list)
    all_rejected: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._timed: Usage = Counter()
        """What this process has asked in its stages."""

    @contextmanager
    def timed(self, stage: str, store: ObjectStore | None = None) -> Iterator[Spent]:
        """Notes the seconds of a stage and, given the store, what is asked of it. What is given is filled at the end."""
        start, before, spent = time.perf_counter(), usage_of(store), Spent()
        try:
            yield spent
        finally:
            spent.seconds = time.perf_counter() - start
            spent.usage = usage_of(store) - before
            self.took(stage, spent.seconds)
            self._timed += spent.usage
            self.asked(stage, spent.usage)

    def asked(self, stage: str, usage: Usage) -> None:
        """Adds to what a stage has asked, in whichever process."""
        if usage:
            self.requests[stage] = to_json(from_json(self.requests.get(stage, {})) + usage)

    @contextmanager
    def whole(self, store: ObjectStore) -> Iterator[None]:
        """Notes what is asked outside of any stage as ``other``."""
        before, timed_before = usage_of(store), self._timed.copy()
        try:
            yield
        finally:
            self.asked("other", usage_of(store) - before - (self._timed - timed_before))

    def took(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def take_in(self, other: Mapping[str, Any]) -> None:
        """What a stage did elsewhere, by its own report (``dataclasses.asdict``). Its seconds are among those that were waited for it."""
        for name, value in other.items():
            held = getattr(self, name)
            if name in ("seconds", "prices"):
                continue
            if name == "requests":
                for stage, asked in value.items():
                    self.asked(stage, from_json(asked))
            elif isinstance(held, dict):
                held.update(value)
            elif isinstance(held, list):
                held += [one for one in value if one not in held]
            else:
                setattr(self, name, held + value)

    def add(self, merged: Merged, reduced: Sequence[Figures], held: Mapping[str, Mapping[str, Any]]) -> None:
        """What one merge did. ``held``: the figures of the windows that were ``reduced``, as the timeline holds them now."""
        if merged.commit is None:
            return
        self.commits.append(merged.commit)
        self.windows += merged.windows
        self.keys += merged.keys
        self.written += merged.written
        self.bytes += merged.bytes
        self.recounted += [name for name in merged.recounted if name not in self.recounted]
        for figures in (one for one in reduced if one.window in merged.windows):
            committed = held[figures.window]
            self.rows += figures.arrived.rows
            self.rejected += figures.rejected.rows
            self.accepted += int(committed["counted"]["rows"])
            self.duplicates += figures.duplicates.rows + int(committed["suppressed"]["rows"])
            marked = CommittedWindow.of(committed, merged.commit)
            self.short += [figures.window] if marked.has(Mark.SHORT) else []
            self.all_rejected += [figures.window] if marked.has(Mark.ALL_REJECTED) else []
