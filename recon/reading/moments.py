"""The states that questions are about: the newest state, or what was known at an earlier time."""

from __future__ import annotations

from datetime import UTC, datetime

from recon.config import Config
from recon.errors import WrongUsage
from recon.model.moments import known_instant
from recon.state.timeline import State, Timeline, known_at


def instant_of(timeline: Timeline, text: str) -> datetime:
    """The last instant that ``--known-at TEXT`` means: the end of the second, or of the fraction of a second, that is written."""
    return known_instant(text, timeline.head().time, datetime.now(UTC))


def state_known_at(timeline: Timeline, config: Config, text: str) -> State:
    """The state that readers saw at the time TEXT of ``--known-at``. Raises WrongUsage for the future, for a time before the first commit,
    and for a time beyond ``retention.history``."""
    instant, kept, now = instant_of(timeline, text), config.retention.history, datetime.now(UTC)
    if kept is not None and now - instant > kept:
        raise WrongUsage(
            f"--known-at {text}: lies beyond retention.history in {config.path.name}; what was known is kept since "
            f"{now - kept:%Y-%m-%dT%H:%MZ}, certificates for ever"
        )
    return known_at(timeline, instant)
