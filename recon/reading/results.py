"""The breaks of each business day, for the sources that have them: when they are final, and as a file."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import accumulate, count, takewhile
from pathlib import Path
from zoneinfo import ZoneInfo

from recon.config import Config
from recon.errors import WrongInput
from recon.intake.sources.results import Period
from recon.intake.sources.sections import BreaksOf
from recon.model.windows import Grid, day_begin, local_midnight, name_of
from recon.reading.artifacts import columns_of
from recon.reading.breaks import Chosen, Scope, chosen_breaks
from recon.state.certificates import read_certificate, uncertified
from recon.state.kept_rules import rules_of
from recon.state.timeline import State, Timeline
from recon.storage.port import ObjectStore
from recon.vocabulary.duckdb import literal, quoted

_NAMED_MAX = 3


@dataclass(frozen=True)
class StateResults:
    """The breaks that one state has."""

    store: ObjectStore
    config: Config
    state: State

    def periods(self, of: BreaksOf) -> list[Period]:
        """The periods from ``since``, or from the first committed window, to the newest committed window, in order of time."""
        return list(self._periods(of))

    def _periods(self, of: BreaksOf) -> Iterator[Period]:
        if not self._names:
            return
        grid, zone = self.config.grid, of.time_zone if of.time_zone is not None else self.config.grid.zone
        first, newest = grid.parse(self._names[0]), grid.parse(self._names[-1])
        if of.since is not None:
            first = max(first, local_midnight(of.since, zone or "UTC", "since"))
        days = Grid(day_begin(grid.start, zone), timedelta(days=1), zone)
        for number in range(days.index(first), days.index(newest) + 1):
            windows = self._windows(days.at(number), days.at(number + 1))
            if windows:
                yield Period(_date(days.at(number), zone), windows[0], windows[-1], self._commit(windows[-1]), self._waits(windows))

    def write(self, period: Period, columns: Sequence[str], file: Path) -> None:
        """Writes the breaks as of the end of a period, all columns as text. Raises WrongInput where a window of the period does not tie, or
        the state was made by rules with other columns."""
        for window in self._windows(period.window, self.config.grid.after(period.last)):
            certificate = read_certificate(self.store, window)
            if certificate is None or not certificate["ties"]:
                raise WrongInput(f"window {name_of(window)} does not tie, so no breaks are made of {period.day}; see its certificate")
        config = rules_of(self.store, self.config, self.state.rules)
        scope = Scope(self.store, config, self.state, period.last, self.config.grid.after(period.last))
        with chosen_breaks(scope, Chosen()) as connection:
            known = {*columns_of(connection, "chosen"), "day", *(config.key if len(config.key) > 1 else ())}
            if unknown := [name for name in columns if name not in known]:
                raise WrongInput(f"the state was made by rules without {unknown[0]!r}; run 'recon rebuild', then this again")
            texts = ", ".join(f"{_text(name, config, period)} AS {quoted(name)}" for name in columns)
            connection.execute(f"COPY (SELECT {texts} FROM chosen ORDER BY place) TO {literal(str(file))} (FORMAT parquet)")

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self.state.windows)

    @cached_property
    def _newest(self) -> dict[str, int]:
        """Window → the newest commit that changed it or an earlier one, or rebuilt the state."""
        commits = (self.state.windows[name].commit for name in self._names)
        return dict(zip(self._names, list(accumulate(commits, max, initial=self.state.rebuilt))[1:], strict=True))

    def _commit(self, last: datetime) -> int:
        at = bisect_right(self._names, name_of(last))
        return self._newest[self._names[at - 1]] if at else self.state.rebuilt

    @cached_property
    def _uncertified(self) -> list[str]:
        return uncertified(self.store, self.config, self.state)

    def _windows(self, begin: datetime, end: datetime) -> list[datetime]:
        """The windows that start from ``begin`` to before ``end``."""
        grid = self.config.grid
        number = max(0, grid.index(begin))
        number += grid.at(number) < begin
        return list(takewhile(lambda start: start < end, map(grid.at, count(number))))

    def _waits(self, windows: Sequence[datetime]) -> str:
        """Which windows keep the breaks of a period from being final; "" for none."""
        names = [name_of(window) for window in windows]
        lacking = [name for name in names if name not in self.state.windows or name in self._uncertified]
        listed = ", ".join(lacking[:_NAMED_MAX]) + (f" and {len(lacking) - _NAMED_MAX} more" if len(lacking) > _NAMED_MAX else "")
        if lacking:
            return f"{len(names) - len(lacking)} of {len(names)} windows are certified: {listed} {'is' if len(lacking) == 1 else 'are'} not"
        before = [name for name in self._uncertified if name < names[0]]
        return f"the earlier window {before[0]} changed, and has no new certificate yet" if before else ""


def results_of(store: ObjectStore, config: Config) -> StateResults:
    """The breaks as the newest state has them."""
    return StateResults(store, config, Timeline(store).head())


def _date(begin: datetime, zone: str) -> str:
    return begin.astimezone(ZoneInfo(zone or "UTC")).date().isoformat()


def _text(name: str, config: Config, period: Period) -> str:
    """SQL of a column of the file as text."""
    if name == "day":
        return literal(period.day)
    if name == "since":
        return "strftime(since AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')"
    if len(config.key) > 1 and name in config.key:
        return f"json_extract_string(key, {literal(f'$[{config.key.index(name)}]')})"
    return f"CAST({quoted(name)} AS VARCHAR)"
