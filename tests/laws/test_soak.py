"""Years in minutes: windows that come late, doubled and corrected, runs that fail, rebuilds, compactions and sweeps, all at random.

``make soak`` runs 500 windows; ``RECON_SOAK_WINDOWS`` and ``RECON_SOAK_SEED`` choose others. What the test did is printed.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import faulty_store
import pytest
import strategies as s
from histories import carry_out, check_store, open_in, run_range
from other_rules import OTHER_RULES, OTHER_YAML

import recon
from recon.api import Reconciliation
from recon.errors import TryAgain
from recon.operations.upkeep import sweep_store
from recon.state.compaction import compact
from recon.state.timeline import Timeline

SETTINGS = "retention: {grace: 1m}\ncompaction: {disk: 1.3}\n"
RULES = {s.STANDARD_YAML: s.STANDARD_RULES, OTHER_YAML: OTHER_RULES}
STANDARD, OTHER = RULES
FIRST = -520
"""The first window, counted from 2026-11-01: so many fit before now."""


@dataclass
class Soak:
    """A store in its life, and what must be in it."""

    folder: Path
    draw: random.Random
    r: Reconciliation
    rules: str = STANDARD
    state: s.State = field(default_factory=s.State)
    did: Counter[str] = field(default_factory=Counter)
    now: datetime = field(default_factory=lambda: datetime.now(UTC) + timedelta(hours=1))
    known: list[tuple[str, str, list[dict[str, Any]]]] = field(default_factory=list)

    def do(self, *operations: s.Operation) -> None:
        for operation in operations:
            carry_out(self.r, operation)
            self.state = s.apply(self.state, operation)
            self.did[type(operation).__name__] += 1

    def file(self, stem: str) -> s.File:
        draw = self.draw
        rows = []
        for _ in range(draw.randrange(1, 12)):
            row = s.Row(
                order_id=draw.choice(("A", "B", 'k,"é"', *(f"K{draw.randrange(60)}" for _ in range(6)))),
                event_id=draw.choice((None, *(str(draw.randrange(400)) for _ in range(9)))),
                event_type=draw.choice(s.EVENT_TYPES),
                amount=draw.choice(s.AMOUNTS),
                currency=draw.choice(s.CURRENCIES),
                booked_at=draw.choice(s.TIMES),
            )
            spoiled = draw.choice(s.BAD) if draw.random() < 0.04 else None
            rows.append(s._spoil(row, spoiled))
        return s.File(stem, tuple(rows), draw.choice(s.FORMATS))

    def fails_once(self) -> None:
        """A run whose store fails at one call; the next one completes it."""
        whole, at = self.r.store(), self.draw.randrange(1, 12)
        kind = self.draw.choice(("put_new", "get", "list", "copy_in"))

        def hook(call: faulty_store.Call) -> None:
            if call.kind == kind and call.number == at:
                raise TryAgain("a test: the store is away")

        self.r._store, self.r._timeline = faulty_store.WatchedStore(whole, before=hook), None
        try:
            run_range(self.r, tuple(self.state.pending))
        except TryAgain:
            self.did["a run that failed"] += 1
        finally:
            self.r._store, self.r._timeline = whole, None
        self.r.run()  # certifies what the run that failed had committed, and does what it had not
        self.state = s.apply(self.state, s.Run(tuple(self.state.pending)))

    def changes_rules(self) -> None:
        self.rules = OTHER if self.rules == STANDARD else STANDARD
        (self.folder / "recon.yaml").write_text(placed(self.rules))
        self.r = recon.open(self.folder / "recon.yaml")
        self.r.rebuild()
        self.did["rebuild by other rules"] += 1


def placed(rules: str) -> str:
    return rules.replace("start: 2026-11-01T00:00Z", "start: 2026-10-01T00:00Z") + SETTINGS


def step(soak: Soak, number: int) -> None:
    """One thing that happens in a store's life."""
    draw, state = soak.draw, soak.state
    landed = [(window, file) for window, files in state.files.items() for file in files]
    what = draw.choices(
        ("replace", "unland", "land more", "replay", "run some", "fails", "compact", "sweep", "rebuild", "rules", "know"),
        (4, 2, 4, 2, 8, 2, 2, 2, 1, 1, 2),
    )[0]
    if what in ("replace", "unland", "land more") and landed:
        window, file = draw.choice(landed)
        if what == "replace":
            soak.do(s.Replace(window, file.name, soak.file(f"r{number}")))
        elif what == "unland":
            soak.do(s.Unland(window, file.name))
        else:
            soak.do(s.Land(window, soak.file(f"m{number}")))
    elif what == "replay" and state.revisions:
        soak.do(s.Replay(draw.choice(sorted(state.revisions))))
    elif what == "run some" and state.pending:
        pending = sorted(state.pending)
        soak.do(s.Run(tuple(draw.sample(pending, draw.randrange(1, len(pending) + 1)))))
    elif what == "fails" and state.pending:
        soak.fails_once()
    elif what == "compact":
        compact(soak.r.store(), soak.r.config, Timeline(soak.r.store()), always=draw.random() < 0.5)
        soak.did[what] += 1
    elif what == "sweep":
        soak.now += timedelta(hours=1)
        sweep_store(soak.r.store(), soak.r.config, Timeline(soak.r.store()), soak.now)
        soak.did[what] += 1
    elif what == "rebuild" and state.revisions and draw.random() < 0.3:
        soak.r.rebuild()
        soak.did[what] += 1
    elif what == "rules" and state.revisions and draw.random() < 0.2:
        soak.changes_rules()
    elif what == "know" and state.revisions:
        soak.known.append((datetime.now(UTC).isoformat(), soak.rules, soak.r.artifacts().to_pylist()))
        soak.did["picture"] += 1


@pytest.mark.parametrize("windows", [20, pytest.param(int(os.environ.get("RECON_SOAK_WINDOWS", "500")), marks=pytest.mark.soak)])
def test_a_store_that_lives_through_everything_at_random_is_what_the_oracle_says(windows: int) -> None:
    seed = int(os.environ.get("RECON_SOAK_SEED", "20261124"))
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        soak = Soak(folder, random.Random(seed), open_in(folder, placed(STANDARD)))
        order = list(range(FIRST, FIRST + windows))
        for start in range(0, windows, 8):  # nearly in order: some come late
            part = order[start : start + 12]
            soak.draw.shuffle(part)
            order[start : start + 12] = part
        for number, window in enumerate(order):
            soak.do(s.Land(window, soak.file(f"w{window}")), s.Close(window))
            for _ in range(soak.draw.randrange(0, 3)):
                step(soak, number)
            if number % max(20, windows // 10) == windows // 20 and soak.state.revisions:
                check_store(soak.r, soak.state, RULES[soak.rules])
        soak.do(s.Run(tuple(sorted(soak.state.pending))))
        check_store(soak.r, soak.state, RULES[soak.rules])
        for time, _, artifacts in soak.known:
            assert soak.r.artifacts(known_at=time).to_pylist() == artifacts, f"as it was known at {time}"
        verified = soak.r.verify(full=True)
        assert not verified.problems, verified.problems[:5]
        print(f"\nsoak of {windows} windows, seed {seed}: {dict(soak.did)}; {verified.commit} commits, {verified.records} records, ")
        print(f"{verified.certificates} certificates, recomputed from {verified.events} events; {len(soak.known)} past pictures equal")
