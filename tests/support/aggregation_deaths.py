"""Processes that die in the middle of a run of an aggregation, before or after a chosen step."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aggregation_site as s

from recon.aggregations.runs import carry_out as carrying
from recon.aggregations.runs import compute as computing
from recon.aggregations.runs import tracking
from recon.aggregations.runs.tracking import Runs
from recon.aggregations.tick import tick
from recon.aggregations.warehouse import load as loading
from recon.aggregations.warehouse.duckdb import DuckDBWarehouse
from recon.storage.local import LocalStore

STEPS: list[tuple[Any, str]] = [
    *((Runs, name) for name in ("start", "prepare", "end")),
    (carrying, "compute"),
    (carrying, "put_certificate"),
    (computing, "engine_of"),
    (LocalStore, "put_new"),
    (LocalStore, "delete"),
    (DuckDBWarehouse, "load"),
    *(
        (loading, name)
        for name in dir(loading)
        if getattr(getattr(loading, name), "__module__", "") == loading.__name__ and name[0].islower()
    ),
]


@contextmanager
def stepping(step: Callable[[], None]) -> Iterator[None]:
    """Calls ``step`` before and after each call of any of STEPS in the block."""

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            step()
            result = real(*args, **named)
            step()
            return result

        return call

    patches = [patch.object(place, name, wrapped(getattr(place, name))) for place, name in STEPS]
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in patches:
            one.stop()


@contextmanager
def silent() -> Iterator[None]:
    """Runs whose leases have run out when they are taken, and that give no sign of life afterwards."""
    with patch.object(tracking, "LEASE", timedelta(0)), patch.object(carrying, "_BEATS", 0.001):
        yield


def run_and_die(folder: Path, number: int) -> None:
    """For a process of its own: claims what is due, carries it out, and is killed at a step."""
    left = number

    def step() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    site = s.opened(folder)
    with silent():
        (claimed,) = tick(site, worker="victim").claimed
        with stepping(step):
            carrying.carry_out(site, claimed, "victim")
