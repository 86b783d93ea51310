"""A request to a cluster to carry out a stage, and its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from recon.errors import ReconError

if TYPE_CHECKING:
    from recon.config import Config


Numbers = Mapping[str, float | int | str]
"""Figures of one window, or of the block that it was done in, by name."""
DIGEST_LENGTH = 16


@dataclass(frozen=True)
class StageRequest:
    """A stage, ``reduce`` or ``merge`` (which pre-fetches first), over the windows from ``first`` to ``last``; or ``aggregate``, which
    reduces the files of one manifest that the store does not have.

    ``todo``: window → revision of those that are not done yet. ``manifest``: for ``aggregate``, as the store would have it. ``log``: fields
    of the caller's logs, see recon.telemetry.logs."""

    stage: str
    first: str
    last: str
    todo: Mapping[str, int]
    manifest: str = ""
    log: Mapping[str, Any] = field(default_factory=dict)

    def digest(self, config: Config) -> str:
        """Equal for equal work: reconciliation, store, rules, stage, windows with their revisions."""
        about = [config.name, config.location, config.rules_version, self.stage, sorted(self.todo.items())]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:DIGEST_LENGTH]


@dataclass(frozen=True)
class StageResult:
    """``numbers``: window → figures of the window or of its block. ``report``: a RunReport as JSON. ``error``: why the stage failed."""

    numbers: Mapping[str, Numbers] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    error: ReconError | None = None

    @property
    def bad(self) -> Mapping[str, str]:
        """Window → why it was left out."""
        found: Mapping[str, str] = self.report.get("bad", {})
        return found

    def done_at(self, place: Numbers) -> StageResult:
        """Adds figures of the place, such as the cluster and its step, to each window."""
        return replace(self, numbers={window: {**figures, **place} for window, figures in self.numbers.items()})
