"""Sources whose files are the reconciliation's own breaks: one file a business day, made once the day's windows are certified.

Such a file goes the way of every other: it is received, tracked, converted and kept, and a newer one of the same day takes its place. Its
rows are no events, so they join no batch; aggregations take them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from recon.config import Config
from recon.intake.sources.inbox import Item
from recon.intake.sources.load import BREAKS, WINDOW_IN_NAME, Source
from recon.intake.sources.sections import BreaksOf
from recon.model.windows import name_of
from recon.storage.port import ObjectStore


@dataclass(frozen=True)
class Period:
    """A business day. ``day``: its date. ``window``: its first window, whose name the file has; ``last``: its last one. ``commit``: the
    newest commit that changed a window up to ``last``. ``waits``: why its breaks are not final yet, "" where they are."""

    day: str
    window: datetime
    last: datetime
    commit: int
    waits: str = ""


class Results(Protocol):
    """The breaks of a reconciliation as one state of its timeline has them."""

    def periods(self, of: BreaksOf) -> Sequence[Period]:
        """The periods that have begun, in order of time."""
        ...

    def write(self, period: Period, columns: Sequence[str], file: Path) -> None:
        """Writes the breaks at the end of a period as Parquet of text."""
        ...


ReadResults = Callable[[ObjectStore, Config], Results]
"""Reads the newest state. The room that reads artifacts lies above this one, so who opens an intake hands it in."""


@dataclass
class ResultsInbox:
    """The periods whose breaks are final. ``local`` writes those of the state that ``items`` saw."""

    source: Source
    results: Results
    _periods: dict[str, Period] = field(default_factory=dict)

    def items(self) -> list[Item]:
        assert self.source.breaks is not None, "the site opens this inbox for a source of breaks only"
        found = []
        for period in self.results.periods(self.source.breaks):
            if not period.waits:
                name = f"{self.source.name}-{period.window:{WINDOW_IN_NAME}}-{period.commit}.parquet"
                place = f"{BREAKS}{self.source.name}/{name_of(period.window)}"
                found.append(Item(name, place, str(period.commit), of=self.source.name))
                self._periods[place] = period
        return found

    def local(self, item: Item, scratch: Path) -> Path:
        file = scratch / item.name
        self.results.write(self._periods[item.place], list(self.source.kept), file)
        return file

    def received(self, item: Item) -> None:
        return None


def waiting(source: Source, results: Results) -> dict[str, str]:
    """First window of a period → why its breaks are not final yet."""
    assert source.breaks is not None, "asked of a source of breaks only"
    return {name_of(period.window): period.waits for period in results.periods(source.breaks) if period.waits}
