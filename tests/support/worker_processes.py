"""Index workers as processes, with a coordinator that waits for them for a short time."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from folders import SUPPORT

from recon.serving.workers.coordinator import Coordinator, Crew, Timing
from recon.serving.workers.launchers import Launcher, Processes
from recon.serving.workers.plans import Plan, ShareBody, plan_for
from recon.storage.local import LocalStore

CHILD = SUPPORT / "worker_child.py"
TABLE = "orders"
QUICK = Timing(limit_s=30, silence_s=1.0, beat_s=0.01, look_s=0.05, backoff_s=0.05, attempts=3)
PATIENT = replace(QUICK, limit_s=900, silence_s=900)
"""However slow the machine is, no share is given away."""
ROWS = 100
"""Of a share."""


def shares(count: int) -> list[ShareBody]:
    return [
        {"share": f"s{n}", "run": "state/x/merge.run", "first": n * ROWS, "end": (n + 1) * ROWS, "sequence": 7, "table": TABLE, "commit": 1}
        for n in range(count)
    ]


def planned(store: LocalStore, count: int) -> Plan:
    return plan_for(store, TABLE, 0, 1, lambda: shares(count))


def processes(tmp_path: Path) -> Processes:
    return Processes([sys.executable, str(CHILD), str(tmp_path / "table.db")])


def coordinator(store: LocalStore, plan: Plan, launcher: Launcher, workers: int = 2, patience: Timing = QUICK) -> Coordinator:
    return Coordinator(store, str(store.root), TABLE, plan, Crew(launcher, workers, patience))
