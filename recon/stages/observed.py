"""A stage as others see it: log lines and lineage of its beginning and its end, with its windows."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from recon.stages.used import used_by
from recon.stages.work import WindowResult, Windows, Work, range_name
from recon.storage.redact import shareable
from recon.telemetry import lineage, logs

Stage = Callable[[Work, Windows], Iterator[WindowResult[Any]]]
_LOG = logging.getLogger("recon.stages")


def observed(name: str, stage: Stage) -> Stage:
    """The stage, which logs, where logs are JSON, and sends lineage, where that is configured, when it begins, and ends or fails."""

    def carried_out(work: Work, windows: Windows) -> Iterator[WindowResult[Any]]:
        if not windows:
            yield from stage(work, windows)
            return
        with logs.logged_with(reconciliation=work.config.name, stage=name, window=range_name(windows)):
            seen = _Seen(work, name, windows)
            seen.begun()
            try:
                for result in stage(work, windows):
                    seen.results.append(result)
                    yield result
            except BaseException as error:
                seen.failed(error)
                raise
            seen.done()

    return carried_out


class _Seen:
    """One run of a stage. ``results``: so far, for the figures of its datasets."""

    def __init__(self, work: Work, stage: str, windows: Windows) -> None:
        self._settings, self._stage, self._begun = work.config.observability.lineage, stage, time.perf_counter()
        self.results: list[WindowResult[Any]] = []
        span, name = (windows[0], work.config.grid.after(windows[-1])), work.config.name
        self._run = lineage.JobRun(f"{name}.{stage}", work.config.location, span, lineage.parent_of(f"{name}.run"))

    def begun(self) -> None:
        _log(logging.INFO, "%s begun", self._stage)
        lineage.emit(self._settings, "START", self._run, used_by(self._stage))

    def done(self) -> None:
        _log(logging.INFO, "%s done: %d windows in %.3f s", self._stage, len(self.results), time.perf_counter() - self._begun)
        lineage.emit(self._settings, "COMPLETE", self._run, used_by(self._stage, self.results))

    def failed(self, error: BaseException) -> None:
        kind = lineage.kind_of(error)
        level, what = (logging.WARNING, "aborted") if kind == "ABORT" else (logging.ERROR, "failed")
        _log(level, "%s %s: %s: %s", self._stage, what, type(error).__name__, shareable(str(error)))
        lineage.emit(self._settings, kind, self._run, used_by(self._stage), error=error)


def _log(level: int, text: str, *values: object) -> None:
    """Logs if logs are JSON: without a handler Python would write errors to the terminal, beside the command's own."""
    if logs.on():
        _LOG.log(level, text, *values)
