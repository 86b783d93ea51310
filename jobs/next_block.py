"""Chooses the block of consecutive windows that a stage processes next."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from recon.config import Config
from recon.errors import WrongUsage
from recon.planning.candidates import Ready
from recon.planning.ranges import blocks

WAIT = "RECON_WAIT_S"
"""Environment variable: seconds until a failed block is retried; doubled with each further failure."""
_WAIT_S, _WAIT_S_MAX = 60, 3600
_KILLED_MAX = 2
"""A block whose process was killed this many times is halved: it may need more memory than the machine has."""


@dataclass(frozen=True)
class Earlier:
    """An earlier run that did not succeed. ``first``, ``last``: its windows. ``digest``: of its block. ``failure``: class of its error,
    or "". ``cancelled``: a person stopped it."""

    run_id: str
    failure: str
    ended: datetime
    first: str
    last: str
    digest: str
    cancelled: bool = False

    @property
    def killed(self) -> bool:
        """Whether its process ended without an error: it was killed, ran out of memory, or its machine stopped."""
        return not self.failure and not self.cancelled

    @property
    def on_data(self) -> bool:
        """Whether it would fail again until a file is corrected."""
        return self.failure == "WrongInput"

    @property
    def of_one_window(self) -> bool:
        """Whether a single window may be the cause, so that the others are tried without it."""
        return self.on_data or self.failure == "Damaged"


@dataclass
class Choice:
    """``block``: the block to start, empty if there is none. ``passed``: why others were passed over."""

    block: Sequence[Ready] = ()
    passed: list[str] = field(default_factory=list)


def digest_of(config: Config, stage: str, block: Sequence[Ready]) -> str:
    """A digest of the stage, what windows are judged by, the windows *and* their versions: with a corrected window, or by changed rules, it
    is another block, without failures so far."""
    versions = (f"{ready.window}/{ready.version}" for ready in block)
    return hashlib.sha256(";".join([stage, config.judged_by, *versions]).encode()).hexdigest()[:16]


def named(block: Sequence[Ready]) -> str:
    """The windows of a block: ``2026-11-01T00:00Z..2026-11-01T05:00Z``."""
    return block[0].window if len(block) == 1 else f"{block[0].window}..{block[-1].window}"


def choose(config: Config, stage: str, ready: Iterable[Ready], earlier: Sequence[Earlier], now: datetime) -> Choice:
    """The oldest block that may start at ``now``, given the earlier runs that did not succeed."""
    choice = Choice()
    for capped in blocks(config, ready, lambda item: item.window, lambda item: item.size):
        for block in _parts(config, stage, capped, earlier):
            digest = digest_of(config, stage, block)
            runs = [run for run in earlier if run.digest == digest]
            if bad := [run for run in runs if run.on_data]:
                choice.passed.append(
                    f"{named(block)} is left out since run {bad[0].run_id} failed on its data; correct the file and land it"
                )
                continue
            # A run that this tick has failed ended after the tick's own time.
            if runs and (wait := _wait(runs)) and now < (again := max(run.ended for run in runs) + wait):
                choice.passed.append(f"{named(block)} is tried again at {again:%H:%M:%SZ}: run {runs[0].run_id} did not succeed")
                continue
            choice.block = block
            return choice
    return choice


def seconds_of(variable: str, default: int) -> int:
    """The seconds in an environment variable. Raises WrongUsage if it is no whole number above 0."""
    text = os.environ.get(variable) or str(default)
    if not (text.isascii() and text.isdigit() and int(text)):
        raise WrongUsage(f"{variable}: {text!r} is no whole number of seconds above 0")
    return int(text)


def _wait(runs: Sequence[Earlier]) -> timedelta:
    """The wait before a retry: none after a first kill, whose cause is seldom the block, else doubled with each failure."""
    tries = len(runs) - any(run.killed for run in runs)
    return timedelta(seconds=min(_WAIT_S_MAX, seconds_of(WAIT, _WAIT_S) * 2 ** min(10, tries - 1))) if tries else timedelta(0)


def _parts(config: Config, stage: str, block: list[Ready], earlier: Sequence[Earlier]) -> Iterator[list[Ready]]:
    """Splits a block around an earlier failed block within it: the windows before, the failed block (in halves if a single window may be at
    fault, or if its process was killed twice), and the windows after.

    So a backlog that grows behind a failed block neither hides the failure nor waits for it."""
    at = {ready.window: number for number, ready in enumerate(block)}
    failed: dict[tuple[int, int], list[Earlier]] = {}
    for run in earlier:
        first, last = at.get(run.first, -1), at.get(run.last, -1)
        if 0 <= first <= last and digest_of(config, stage, block[first : last + 1]) == run.digest:
            failed.setdefault((first, last), []).append(run)
    if not failed:
        if block:
            yield block
        return
    first, last = max(failed, key=lambda ends: (ends[1] - ends[0], -ends[0]))
    part = block[first : last + 1]
    yield from _parts(config, stage, block[:first], earlier)
    runs = failed[first, last]
    if len(part) > 1 and (any(run.of_one_window for run in runs) or sum(run.killed for run in runs) >= _KILLED_MAX):
        middle = len(part) // 2
        yield from _parts(config, stage, part[:middle], earlier)
        yield from _parts(config, stage, part[middle:], earlier)
    else:
        yield part
    yield from _parts(config, stage, block[last + 1 :], earlier)
