"""Which block of consecutive windows a stage takes next."""

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
"""Environment: after how many seconds a block that failed is tried again; doubled with each further failure."""
_WAIT_S, _WAIT_S_MAX = 60, 3600
_KILLED_MAX = 2
"""A block whose process was killed this often is halved: it may need more memory than there is."""


@dataclass(frozen=True)
class Earlier:
    """An earlier run that did not succeed, by its first and last window and the digest of its block. ``failure``: the class of its
    error, if it had one. ``cancelled``: a person stopped it."""

    run_id: str
    failure: str
    ended: datetime
    first: str
    last: str
    digest: str
    cancelled: bool = False

    @property
    def killed(self) -> bool:
        """Its process ended without a word: it was killed, ran out of memory, or its machine stopped."""
        return not self.failure and not self.cancelled

    @property
    def on_data(self) -> bool:
        """It would fail again, until a file is corrected."""
        return self.failure == "WrongInput"

    @property
    def of_one_window(self) -> bool:
        """One window may have caused it, so the others are tried without it."""
        return self.on_data or self.failure == "Damaged"


@dataclass
class Choice:
    """The block to start, if any, and why others were passed over."""

    block: Sequence[Ready] = ()
    passed: list[str] = field(default_factory=list)


def digest_of(stage: str, block: Sequence[Ready]) -> str:
    """Names the stage, the windows *and* their versions: a window that was corrected is another block, with no failures so far."""
    return hashlib.sha256(";".join([stage, *(f"{one.window}/{one.version}" for one in block)]).encode()).hexdigest()[:16]


def named(block: Sequence[Ready]) -> str:
    """``2026-11-01T00:00Z..2026-11-01T05:00Z``."""
    return block[0].window if len(block) == 1 else f"{block[0].window}..{block[-1].window}"


def choose(config: Config, stage: str, ready: Iterable[Ready], earlier: Sequence[Earlier], now: datetime) -> Choice:
    """The oldest block that may be started at ``now``, given the runs that did not succeed."""
    choice = Choice()
    for whole in blocks(config, ready, lambda one: one.window, lambda one: one.size):
        for block in _parts(stage, whole, earlier):
            digest = digest_of(stage, block)
            runs = [run for run in earlier if run.digest == digest]
            if bad := [run for run in runs if run.on_data]:
                choice.passed.append(
                    f"{named(block)} is left out since run {bad[0].run_id} failed on its data; correct the file and land it"
                )
                continue
            # The clock of a run that was failed by this very tick is ahead of the tick's.
            if runs and (wait := _wait(runs)) and now < (again := max(run.ended for run in runs) + wait):
                choice.passed.append(f"{named(block)} is tried again at {again:%H:%M:%SZ}: run {runs[0].run_id} did not succeed")
                continue
            choice.block = block
            return choice
    return choice


def wait_s() -> int:
    """Seconds until a block that failed once is tried again. Raises WrongUsage where $RECON_WAIT_S is no whole number above 0."""
    told = os.environ.get(WAIT, "")
    if told and not (told.isascii() and told.isdigit() and int(told)):
        raise WrongUsage(f"{WAIT}: {told!r} is no whole number of seconds above 0")
    return int(told) if told else _WAIT_S


def _wait(runs: Sequence[Earlier]) -> timedelta:
    """A first kill is taken over from at once: its cause is seldom in the block. All else waits ever longer."""
    tries = len(runs) - any(run.killed for run in runs)
    return timedelta(seconds=min(_WAIT_S_MAX, wait_s() * 2 ** min(10, tries - 1))) if tries else timedelta(0)


def _parts(stage: str, block: list[Ready], earlier: Sequence[Earlier]) -> Iterator[list[Ready]]:
    """The block; where it holds one that did not succeed, what is before that, it (in halves if one of its windows may be at fault, or
    its process was killed twice), and the rest.

    So a backlog that grows behind a failed block neither hides its failure nor has to wait for it."""
    at = {one.window: number for number, one in enumerate(block)}
    failed: dict[tuple[int, int], list[Earlier]] = {}
    for run in earlier:
        first, last = at.get(run.first, -1), at.get(run.last, -1)
        if 0 <= first <= last and digest_of(stage, block[first : last + 1]) == run.digest:
            failed.setdefault((first, last), []).append(run)
    if not failed:
        if block:
            yield block
        return
    first, last = max(failed, key=lambda ends: (ends[1] - ends[0], -ends[0]))
    part = block[first : last + 1]
    yield from _parts(stage, block[:first], earlier)
    runs = failed[first, last]
    if len(part) > 1 and (any(run.of_one_window for run in runs) or sum(run.killed for run in runs) >= _KILLED_MAX):
        middle = len(part) // 2
        yield from _parts(stage, part[:middle], earlier)
        yield from _parts(stage, part[middle:], earlier)
    else:
        yield part
    yield from _parts(stage, block[last + 1 :], earlier)
