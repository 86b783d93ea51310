"""Finds the window of a received file: from a part of its name, from a column of its rows, or from its arrival."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from recon.errors import ReconError, WrongInput
from recon.intake.sources.load import Source
from recon.intake.sources.site import Intake, of_file
from recon.intake.sources.tracking import Tracked
from recon.model.windows import Grid, name_of


def window_of(grid: Grid, source: Source, file: str, arrived: datetime, texts: Iterable[str]) -> datetime:
    """The start of the window of ``file``, a name. ``texts``: the distinct values of the column that tells it. Raises WrongInput."""
    rule = source.section.window
    if rule.part is None and rule.column is None:
        return _on(grid, arrived, file, f"its arrival, {name_of(arrived)}")
    if rule.part is not None:
        found = source.match(file)
        assert found is not None
        texts = [found[1][rule.part]]
    read = {text: _parsed(grid, text, rule.format, file, rule.part or str(rule.column)) for text in texts}
    windows = {text: _on(grid, instant, file, repr(text)) for text, instant in read.items()}
    if len(set(windows.values())) == 1:
        return next(iter(windows.values()))
    if not windows:
        raise WrongInput(f"{file}: no row says the file's window, in column {rule.column!r}")
    listed = ", ".join(sorted({name_of(window) for window in windows.values()})[:5])
    raise WrongInput(
        f"{file}: its rows are of {len(set(windows.values()))} windows ({listed}); a file belongs to one: see {source.path}: window, "
        "and ask for one file per window, or use window: arrival"
    )


def known_window(intake: Intake, file: Tracked, texts: Iterable[str] = ()) -> str | None:
    """The name of a file's window, as far as it can be told without landing the file; None where it can't. ``texts``: as in ``window_of``,
    of the rows that were read."""
    try:
        return name_of(window_of(intake.config.grid, of_file(intake, file), file.name, file.received_at, texts))
    except ReconError:
        return None


def _parsed(grid: Grid, text: str | None, form: str, file: str, where: str) -> datetime:
    try:
        read = datetime.strptime(text or "", form)  # noqa: DTZ007 - the zone is added below where the format has none
    except ValueError:
        raise WrongInput(f"{file}: {where}: {text!r} is no time in the form {form}; see window.format of the source") from None
    return read if read.tzinfo else read.replace(tzinfo=ZoneInfo(grid.zone) if grid.zone else UTC)


def _on(grid: Grid, instant: datetime, file: str, what: str) -> datetime:
    if instant < grid.start:
        raise WrongInput(f"{file}: {what} lies before the first window, {name_of(grid.start)}")
    return grid.at(grid.index(instant))
