"""A stage request to another place and its result, and the figures of a window."""

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
    """A stage, ``reduce`` or ``merge`` (which pre-fetches first), over the windows from ``first`` to ``last``.

    ``todo``: window → revision of those that are not done yet."""

    stage: str
    first: str
    last: str
    todo: Mapping[str, int]

    def digest(self, config: Config) -> str:
        """The same for all who ask for the same work: reconciliation, store, rules, stage, windows with their revisions."""
        about = [config.name, config.location, config.rules_version, self.stage, sorted(self.todo.items())]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:DIGEST_LENGTH]


@dataclass(frozen=True)
class StageResult:
    """``numbers``: window → figures of it or of its block. ``report``: what was done (a RunReport as JSON). ``error``: why it failed."""

    numbers: Mapping[str, Numbers] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    error: ReconError | None = None

    @property
    def bad(self) -> Mapping[str, str]:
        """Window → why it was left out."""
        found: Mapping[str, str] = self.report.get("bad", {})
        return found

    def done_at(self, place: Numbers) -> StageResult:
        """With where it was done among the figures of each window."""
        return replace(self, numbers={window: {**one, **place} for window, one in self.numbers.items()})
