"""The report of a business day: its windows with their certificates, and the breaks at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from recon.config import Config
from recon.errors import WrongUsage
from recon.exports.pages import page
from recon.model.moments import upto
from recon.model.totals import Totals, amounts_of, groups_of
from recon.model.windows import is_date, local_midnight, name_of
from recon.reading.breaks import Chosen, amount_of, breaks_and_summary, scope_of
from recon.reading.status import window_status, wrong_in
from recon.state.certificates import unreadable_of
from recon.state.timeline import State
from recon.storage.port import ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa

PARTS = ("in", "accepted", "duplicates", "rejected")
LARGEST = 50
"""Breaks that are listed one by one."""
_NOT_LISTED = {"windows", "last_window", "first_window"}


@dataclass(frozen=True)
class DayWindow:
    """A window of the day that holds a file, expects one, or of which something is wrong. ``local``: its start in the zone of the grid.
    ``stage``: as ``recon status`` has it. ``ties``: of its newest certificate, None without one. ``rows``: part → rows, of the certificate.
    ``wrong``: what a person has to act on. ``waits``: why it is not done yet."""

    window: str
    local: str
    stage: str
    ties: bool | None
    files: int
    rows: Mapping[str, int]
    wrong: Sequence[str]
    waits: str


@dataclass(frozen=True)
class DayReport:
    """The report of a day. ``verdict``: ``right`` where each window that holds or expects files is done and ties, ``wrong`` where a person
    has to act, else ``open``. ``totals``: part → control totals over the certificates. ``unreadable``: control total → rejected rows
    without a readable amount, which no total includes. ``breaks``: the groups of ``recon breaks``, at the end of ``through``, the last
    processed window of the day; None where none is processed. ``largest``: rows of the largest breaks. ``empty``: windows that are over,
    and hold and expect no file. ``to_come``: windows that are not over."""

    name: str
    day: str
    zone: str
    commit: int
    made_at: str
    verdict: str
    windows: Sequence[DayWindow]
    empty: Sequence[str]
    to_come: int
    totals: Mapping[str, Totals]
    unreadable: Mapping[str, int]
    through: str | None
    breaks: Sequence[Mapping[str, Any]] | None
    amount: str | None
    largest: Sequence[Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """The report with plain values, decimals as texts."""
        plain = {name: value for name, value in vars(self).items() if name not in ("windows", "totals", "largest")}
        return {
            **plain,
            "windows": [dict(vars(window)) for window in self.windows],
            "totals": {part: totals.to_json() for part, totals in self.totals.items()},
            "largest": [{name: _plain(value) for name, value in row.items()} for row in self.largest],
        }


def day_report(store: ObjectStore, config: Config, rules: Config, state: State, day: str, now: datetime | None = None) -> DayReport:
    """The report of ``day``, a date in the zone of the grid (UTC without one). A window belongs to the day in which it starts. ``rules``:
    those that made the state. Raises WrongUsage for a text that is no date, and for a day before the first window or after today."""
    now = now or datetime.now(UTC)
    starts = _windows_of(config, day, now)
    begun = [start for start in starts if start <= now]
    found = [window_status(store, config, state, start) for start in begun]
    landed = [answer for answer in found if answer["landed_revision"]]
    over = {name_of(start) for start in begun if config.grid.after(start) <= now}
    empty = [answer["window"] for answer in found if answer["window"] in over and not _counts(answer)]
    windows = [_window(config, answer) for answer in found if answer["landed_revision"] or answer["window"] in over - {*empty}]
    totals = {part: Totals() for part in PARTS}
    for answer in landed:
        for part in PARTS if answer["certificate"] else ():
            totals[part] += Totals.from_json(answer["certificate"][part])
    through = max((answer["window"] for answer in landed if answer["committed_revision"]), default=None)
    breaks, largest = (None, []) if through is None else _breaks(store, rules, state, through, now)
    return DayReport(
        name=config.name,
        day=day,
        zone=config.grid.zone or "UTC",
        commit=state.commit,
        made_at=now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        verdict=_verdict(windows, len(starts) - len(over)),
        windows=windows,
        empty=empty,
        to_come=len(starts) - len(over),
        totals=totals,
        unreadable=unreadable_of(answer["certificate"] for answer in landed if answer["certificate"]),
        through=through,
        breaks=breaks,
        amount=amount_of(rules),
        largest=largest,
    )


def last_day_over(config: Config, state: State, now: datetime) -> str | None:
    """The newest day that is over and has a processed window; None where there is none."""
    zone = ZoneInfo(config.grid.zone or "UTC")
    today = now.astimezone(zone).date().isoformat()
    days = {datetime.fromisoformat(name).astimezone(zone).date().isoformat() for name in state.windows}
    return max((day for day in days if day < today), default=None)


def _windows_of(config: Config, day: str, now: datetime) -> list[datetime]:
    """The starts of the windows of a day."""
    grid = config.grid
    if not is_date(day):
        raise WrongUsage(f"{day}: this is no date; write the day as {(now - timedelta(days=1)).date()}")
    zone = grid.zone or "UTC"
    begin = local_midnight(day, zone, "day")
    next_day = (datetime.fromisoformat(day) + timedelta(days=1)).date().isoformat()
    end = local_midnight(next_day, zone, "day")
    if begin > now:
        raise WrongUsage(f"{day}: this day is in the future; the newest is {now.astimezone(ZoneInfo(zone)).date()}")
    if end <= grid.start:
        raise WrongUsage(f"{day}: the first window is {name_of(grid.start)}; name that day or a later one")
    return [start for start in grid.between(max(begin, grid.start), end - timedelta(microseconds=1)) if begin <= start < end]


def _window(config: Config, answer: Mapping[str, Any]) -> DayWindow:
    start, certificate = config.grid.parse(answer["window"]), answer["certificate"]
    local = start.astimezone(ZoneInfo(config.grid.zone or "UTC")).strftime("%Y-%m-%d %H:%M")
    rows = {} if certificate is None else {part: certificate[part]["rows"] for part in PARTS}
    waits = "" if answer["stage"] in ("done", "SHORT") else answer["why"] or "it waits for the next run"
    if not waits and answer["certificate"] is None:
        waits = "it has no certificate yet"
    return DayWindow(answer["window"], local, answer["stage"], answer["ties"], len(answer["files"]), rows, wrong_in(answer), waits)


def _counts(answer: Mapping[str, Any]) -> bool:
    """Whether a window that is over holds a file, expects one, or something is wrong with it."""
    return bool(answer["landed_revision"] or answer["expected"]["files"] or answer["not_landed"]["missing"] or wrong_in(answer))


def _verdict(windows: Sequence[DayWindow], to_come: int) -> str:
    if any(window.wrong for window in windows):
        return "wrong"
    done = windows and not to_come and all(window.stage == "done" and window.ties and not window.waits for window in windows)
    return "right" if done else "open"


def _breaks(
    store: ObjectStore, rules: Config, state: State, through: str, now: datetime
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Breaks at the end of a window, by status and age, and the largest of them."""
    scope = scope_of(store, rules, state, upto(rules.grid, None, through, now), None)
    listed, summary = breaks_and_summary(scope, Chosen(sort=amount_of(rules), limit=LARGEST))
    return summary, _rows(listed)


def _rows(listed: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = listed.select([name for name in listed.column_names if name not in _NOT_LISTED]).to_pylist()
    return rows


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Decimal | datetime) else value


def html_of(report: DayReport) -> str:
    """The report as a page that needs no other file."""
    parts = [report.totals[part] for part in PARTS]
    money = [{"control": name, "name": f"{name} {by}".strip(), "amounts": amounts_of(parts, name, by)} for name, by in groups_of(parts)]
    return page("day.html", {**vars(report), "money": money, "bars": bars_of(report.breaks or ())})


def bars_of(breaks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A bar for each status, age and currency: ``label``, ``amount`` (the sum of absolute amounts), and ``most``, the largest amount of its
    currency."""
    bars = [
        {"label": f"{line['status']}, {line['age']} {currency}".strip(), "currency": currency, "amount": Decimal(sums["gross"])}
        for line in breaks
        for currency, sums in line["amounts"].items()
    ]
    most: dict[str, Decimal] = {}
    for bar in bars:
        most[bar["currency"]] = max(bar["amount"], most.get(bar["currency"], Decimal(0)))
    return [{**bar, "most": most[bar["currency"]]} for bar in bars]
