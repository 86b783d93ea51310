"""What every stage takes and yields: ``Work``, windows, and one ``WindowResult`` per window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from recon.config import Config
from recon.engines.blame import blaming, isolated, quarantined
from recon.errors import TryAgain, WrongInput
from recon.model.progress import Progress, silent, spanned
from recon.model.windows import name_of
from recon.planning import quarantine
from recon.stages.report import RunReport
from recon.stages.request import Numbers, StageRequest, StageResult
from recon.state.earlier import refuse_earlier_records
from recon.state.kept_rules import refuse_other_rules
from recon.state.reduced import Figures
from recon.state.timeline import State, Timeline
from recon.storage.port import ObjectStore

T = TypeVar("T")
Windows = Sequence[datetime]


@dataclass(frozen=True)
class WindowResult(Generic[T]):
    """What a stage did with one window. ``made``: what the store holds of the window after the stage, such as its manifest or its
    certificate. ``numbers``: figures that only this run knows, of the window or of the block of windows that it was processed with."""

    window: str
    made: T
    numbers: Numbers = field(default_factory=dict)


class RunOnCluster(Protocol):
    """Carries out a stage of a range on a cluster. Returns when the cluster has finished or failed."""

    def __call__(self, work: Work, request: StageRequest, /) -> StageResult: ...


@dataclass(frozen=True)
class Work:
    """One reconciliation's store, configuration and timeline; what the caller gets back: ``report``, ``progress``, and ``errors``, the
    errors of stages in order. ``cluster``: carries out the engine's stages if they do not run in this process. ``placed``: gets the cluster
    and step, or the job, as soon as a stage is submitted."""

    store: ObjectStore
    config: Config
    timeline: Timeline
    report: RunReport = field(default_factory=RunReport)
    progress: Progress = silent
    errors: list[Exception] = field(default_factory=list)
    cluster: RunOnCluster | None = None
    placed: Callable[[Numbers], None] = lambda place: None

    def head(self) -> State:
        """The newest state. Raises WrongUsage where its rules differ from the configuration's, or its records are of an earlier version."""
        state = self.timeline.head()
        refuse_other_rules(self.config, state)
        refuse_earlier_records(self.store, state)
        return state

    @contextmanager
    def noting_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.errors.append(error)
            raise


def leave_out(work: Work, window: str, revision: int, error: WrongInput) -> None:
    """Reports why a window cannot be processed; puts it in quarantine if its files are at fault."""
    work.report.bad[window] = str(error)
    if quarantined(error):
        quarantine.put(work.store, work.config.grid.parse(window), window, revision, work.config.judged_by, str(error))


@contextmanager
def leaving_out_a_single_window(work: Work, block: Sequence[Figures], doing: str) -> Iterator[None]:
    """Raises the error of a block, and leaves out its window if it has only one. With several windows the error does not show which one
    is bad: ``recon.stages.pipeline.process`` halves the range until one is left."""
    try:
        with blaming(work.store, [figures.window for figures in block], doing):
            yield
    except WrongInput as error:
        if len(block) == 1 and isolated(error):
            leave_out(work, block[0].window, block[0].revision, error)
        raise


def on_cluster(work: Work, stage: str, windows: Windows, todo: Mapping[str, int]) -> StageResult:
    """Has the cluster carry out what is left to do; an empty result where there is no cluster or nothing to do."""
    if work.cluster is None or not todo:
        return StageResult()
    work.progress(stage, range_name(windows), 0)
    result = work.cluster(work, StageRequest(stage, name_of(windows[0]), name_of(windows[-1]), todo))
    work.report.take_in(result.report)
    return result


def superseded(window: str) -> TryAgain:
    return TryAgain(f"window {window}: a newer revision arrived while the cluster processed an older one; run the same again")


def range_name(windows: Windows) -> str:
    """``first..last`` for progress and messages."""
    return spanned([name_of(window) for window in windows])
