"""The command line's way to Dagster: carries out runs in the instance that the UI shows, and repairs what the UI shows.

No other module of `recon` imports the packages that are built on it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from recon.operations.packaging.own_packages import refuse_foreign_modules

if TYPE_CHECKING:
    from jobs.in_process import InProcess
    from jobs.repair import Repaired
    from recon.api import Reconciliation
    from recon.config import Config
    from recon.model.progress import Progress
    from recon.stages.work import Work

STAGE = "dagster"
"""Name of Dagster's own time among the seconds of the stages."""


def repaired(reconciliation: Reconciliation, progress: Progress) -> Repaired:
    """Makes the UI show what the store holds."""
    from recon.stages.work import Work
    from recon.state.timeline import Timeline

    refuse_foreign_modules()
    from jobs.repair import repair
    from resources.dagster_instance import quick_instance, storage_errors_in_one_line

    store, path = reconciliation.store(), reconciliation.config.path
    with quick_instance(path) as instance, storage_errors_in_one_line(path):
        return repair(Work(store, reconciliation.config, Timeline(store), progress=progress), instance)


class Materializing:
    """A recon.stages.pipeline.CarryOut. Opens Dagster's instance for the first range and closes it at the end of the ``with`` block."""

    consecutive = True

    def __init__(self) -> None:
        self._opened = ExitStack()
        self._in_process: InProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._opened.close()

    def __call__(self, work: Work, windows: Sequence[str], stages: Sequence[str]) -> None:
        with _rest_timed(work):
            self._opened_for(work.config)(work, windows, stages)

    def _opened_for(self, config: Config) -> InProcess:
        if self._in_process is None:
            refuse_foreign_modules()
            from jobs.in_process import InProcess
            from resources.dagster_instance import quick_instance

            self._in_process = InProcess(config, self._opened.enter_context(quick_instance(config.path)))
        return self._in_process


@contextmanager
def _rest_timed(work: Work) -> Iterator[None]:
    """Adds to the report the time that the stages do not account for, as Dagster's."""
    start, before = time.perf_counter(), sum(work.report.seconds.values())
    try:
        yield
    finally:
        stages = sum(work.report.seconds.values()) - before
        work.report.took(STAGE, max(0.0, time.perf_counter() - start - stages))
