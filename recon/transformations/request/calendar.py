"""The holidays of a request: listed, or those of a named calendar, which the library ``holidays`` resolves."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import BeforeValidator, Field

from recon.config.fields import Section, Text, mistake

Year = Annotated[int, Field(ge=1900, le=9999)]
YEARS_MAX = 100


class Calendar(Section):
    """``calendar``: a country (``DE``), a part of a country (``US-NY``) or a market (``ECB``, ``NYSE``). ``years``: the first and the last
    year in which holidays are looked up."""

    calendar: Text
    years: tuple[Year, Year]

    def days(self) -> tuple[date, ...]:
        """The calendar's holidays, ascending. Raises a mistake for a calendar that the library does not know."""
        import holidays

        country, _, part = self.calendar.partition("-")
        years = range(self.years[0], self.years[1] + 1)
        try:
            if self.calendar in holidays.list_supported_financial():
                found = holidays.financial_holidays(self.calendar, years=years)
            else:
                found = holidays.country_holidays(country, subdiv=part or None, years=years)
        except NotImplementedError as error:
            raise mistake(f"{error}; name a country such as DE, a part such as US-NY, or a market such as ECB", "calendar") from None
        return tuple(sorted(day for day in found if day.year in years))


def _holidays(value: object) -> object:
    """Days, or a calendar where there are names."""
    if not isinstance(value, dict):
        return value
    calendar = Calendar.model_validate(value)
    first, last = calendar.years
    if not first <= last < first + YEARS_MAX:
        raise mistake(f"{first} to {last} are no years in order, at most {YEARS_MAX}", "years")
    calendar.days()
    return calendar


Holidays = Annotated[Calendar | tuple[date, ...], BeforeValidator(_holidays)]
"""Days as they are listed, or a calendar."""
