"""What stages work on and what they tell: one reconciliation's store, rules and timeline, the report that they fill, their progress."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from recon.config import Config
from recon.engines.blame import blaming, isolated, quarantined
from recon.errors import TryAgain, WrongInput
from recon.model.progress import Progress, silent, spanned
from recon.model.windows import name_of
from recon.planning import quarantine
from recon.stages.report import RunReport
from recon.stages.request import Answer, Asked
from recon.state.kept_rules import refuse_other_rules
from recon.state.reduced import Figures
from recon.state.timeline import State, Timeline
from recon.storage.port import ObjectStore

if TYPE_CHECKING:
    from recon.serving.dynamodb import TableClient
    from recon.stages.request import Answer, Asked


Windows = Sequence[datetime]
_NAMED_MAX = 12


class Elsewhere(Protocol):
    """Carries out a stage of a range in another place, a cluster, and comes back when it is done or has failed there."""

    def __call__(self, work: Work, asked: Asked) -> Answer: ...


@dataclass(frozen=True)
class Work:
    """What a stage works on: one reconciliation's store, its rules and its timeline. ``report`` and ``progress`` are for whoever asked
    for the work; ``errors``: what stages have failed with, the last one last. ``tables``: DynamoDB, where whoever asked has reached it
    already; else it is reached when it is needed. ``elsewhere``: where the engine carries out its stages, if not in this process."""

    store: ObjectStore
    config: Config
    timeline: Timeline
    report: RunReport = field(default_factory=RunReport)
    progress: Progress = silent
    errors: list[Exception] = field(default_factory=list)
    tables: TableClient | None = None
    elsewhere: Elsewhere | None = None

    def head(self) -> State:
        """The newest state. Raises WrongUsage where it was made by other rules than those that are configured now."""
        state = self.timeline.head()
        refuse_other_rules(self.config, state)
        return state

    @contextmanager
    def noting_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.errors.append(error)
            raise


@contextmanager
def _alone_or_raised(work: Work, block: Sequence[Figures], doing: str) -> Iterator[None]:
    """Raises what goes wrong with a block. Of several windows it is not known which one is bad: whoever asked halves the range until that
    one is alone, and then it is left out."""
    try:
        with blaming(work.store, [one.window for one in block], doing):
            yield
    except WrongInput as error:
        if len(block) == 1 and isolated(error):
            _leave_out(work, block[0].window, block[0].revision, error)
        raise


def _elsewhere(work: Work, stage: str, windows: Windows, todo: Mapping[str, int]) -> Answer:
    """Has what is left to do carried out elsewhere, if that is where the engine is."""
    if work.elsewhere is None or not todo:
        return Answer()
    work.progress(stage, _named(windows), 0)
    answer = work.elsewhere(work, Asked(stage, name_of(windows[0]), name_of(windows[-1]), todo))
    work.report.take_in(answer.report)
    return answer


def _overtaken(window: str) -> TryAgain:
    return TryAgain(f"window {window}: a newer revision came in while this one was carried out elsewhere; run the same again")


def _leave_out(work: Work, window: str, revision: int, error: WrongInput) -> None:
    """Keeps why a window could not be processed."""
    work.report.bad[window] = str(error)
    if quarantined(error):
        quarantine.put(work.store, work.config.grid.parse(window), window, revision, work.config.rules_version, str(error))


def _named(windows: Windows) -> str:
    return spanned([name_of(window) for window in windows])
