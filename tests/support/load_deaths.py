"""Processes that die in the middle of a load, before or after a chosen statement; and processes that load at the same time."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from recon.aggregations.warehouse import duckdb, postgresql, redshift
from recon.aggregations.warehouse.port import Load, Loaded, Warehouse

SESSIONS: dict[str, Any] = {"duckdb": duckdb._Session, "postgresql": postgresql._Session, "redshift": redshift._Session}
Watch = Callable[[str, str], None]
"""``before`` or ``after``, and a statement, or ``stage``: called for each step of a load."""


class Died(BaseException):
    """As an interrupt: nothing of Recon's takes it for an error of its own."""


@contextmanager
def watched(kind: str, watch: Watch) -> Iterator[None]:
    """Loads of a kind of warehouse in the block tell ``watch`` their steps."""
    session = SESSIONS[kind]
    own = {name: session.__dict__[name] for name in ("execute", "query", "stage")}

    def telling(name: str) -> Callable[[Any, Any], Any]:
        def method(self: Any, argument: Any) -> Any:
            step = argument if isinstance(argument, str) else "stage"
            watch("before", step)
            found = own[name](self, argument)
            watch("after", step)
            return found

        return method

    for name in own:
        setattr(session, name, telling(name))
    try:
        yield
    finally:
        for name, method in own.items():
            setattr(session, name, method)


def killed_at(when: str, beginning: str, kind: str, warehouse: Warehouse, load: Load, environment: Mapping[str, str]) -> None:
    """For a child process: it kills itself before or after the first statement with this beginning."""
    os.environ.update(environment)

    def watch(now: str, step: str) -> None:
        if now == when and step.startswith(beginning):
            os.kill(os.getpid(), signal.SIGKILL)

    with watched(kind, watch):
        warehouse.load(load)


def load_all(warehouse: Warehouse, loads: Sequence[Load], environment: Mapping[str, str], out: Any) -> None:
    """For a child process: loads one after another, and puts what came of each."""
    os.environ.update(environment)
    found: list[Loaded | str] = []
    for load in loads:
        try:
            found.append(warehouse.load(load))
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")
    out.put(found)
