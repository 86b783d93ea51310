"""What formulas take from the request beside the row: its day, its holidays, and whether doubles are allowed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Settings:
    """``today``: what TODAY() and NOW() are. ``holidays``: ascending. ``holiday_years``: the first and the last year of a named calendar,
    whose holidays are not known in other years; None where the request lists the days. ``approximate``: powers and roots may be doubles."""

    today: date
    holidays: tuple[date, ...] = ()
    holiday_years: tuple[int, int] | None = None
    approximate: bool = False
