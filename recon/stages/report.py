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
    """What a run did. ``bad``: window → why it was left out. ``open``: windows with files that are still open. ``short``: windows
    that were closed with fewer files than expected; ``all_rejected``: windows of which every row was rejected. Both are committed.

    ``requests``: stage → service → operation → requests and bytes, where the store counts them; ``other`` are requests outside the stages.
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
        """Requests of this process in its stages."""

    @contextmanager
    def timed(self, stage: str, store: ObjectStore | None = None) -> Iterator[Spent]:
        """Adds the seconds of a stage and, given the store, its requests. The yielded ``Spent`` is filled when the block ends."""
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
        """Adds requests of a stage, of this or another process."""
        if usage:
            self.requests[stage] = to_json(from_json(self.requests.get(stage, {})) + usage)

    @contextmanager
    def whole(self, store: ObjectStore) -> Iterator[None]:
        """Adds the requests of the block outside of any stage, as ``other``."""
        before, timed_before = usage_of(store), self._timed.copy()
        try:
            yield
        finally:
            self.asked("other", usage_of(store) - before - (self._timed - timed_before))

    def took(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def take_in(self, other: Mapping[str, Any]) -> None:
        """Adds the report (``dataclasses.asdict``) of a stage on a cluster, without its seconds: the caller has timed the wait."""
        for name, value in other.items():
            own = getattr(self, name)
            if name in ("seconds", "prices"):
                continue
            if name == "requests":
                for stage, asked in value.items():
                    self.asked(stage, from_json(asked))
            elif isinstance(own, dict):
                own.update(value)
            elif isinstance(own, list):
                own += [item for item in value if item not in own]
            else:
                setattr(self, name, own + value)

    def add(self, merged: Merged, reduced: Sequence[Figures], committed: Mapping[str, Mapping[str, Any]]) -> None:
        """Adds one merge. ``committed``: the committed figures of the ``reduced`` windows."""
        if merged.commit is None:
            return
        self.commits.append(merged.commit)
        self.windows += merged.windows
        self.keys += merged.keys
        self.written += merged.written
        self.bytes += merged.bytes
        self.recounted += [name for name in merged.recounted if name not in self.recounted]
        for figures in (window for window in reduced if window.window in merged.windows):
            now = committed[figures.window]
            self.rows += figures.arrived.rows
            self.rejected += figures.rejected.rows
            self.accepted += int(now["counted"]["rows"])
            self.duplicates += figures.duplicates.rows + int(now["suppressed"]["rows"])
            marked = CommittedWindow.of(now, merged.commit)
            self.short += [figures.window] if marked.has(Mark.SHORT) else []
            self.all_rejected += [figures.window] if marked.has(Mark.ALL_REJECTED) else []
