"""Functions of working days: Monday to Friday, or other days of the week, but for the request's holidays.

Working days of the week are numbered from Monday 1899-12-25 on; a holiday on one of them is its number. Then counting days takes a few
sums, and counts in two lists of numbers that the formula has as constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from recon.errors import WrongUsage
from recon.transformations.formulas.compile import Compiler, Function, literal_integer
from recon.transformations.formulas.functions.dates import in_range
from recon.transformations.formulas.layers import RESULT, Value, sql_of
from recon.transformations.formulas.settings import Settings
from recon.transformations.formulas.tree import NUM, Text, Tree
from recon.vocabulary.types import DATE, INTEGER

_MONDAY = date(1899, 12, 25)


@dataclass(frozen=True)
class Week:
    """``works``: whether each day is a working day, from Monday on; at least one is."""

    works: tuple[bool, ...] = (True, True, True, True, True, False, False)

    @property
    def days(self) -> int:
        return sum(self.works)

    def before(self, day: str) -> str:
        """SQL of the number of the first working day of the week that is not before a day."""
        days = _days(day)
        if self == MONDAY_TO_FRIDAY:
            return f"({days} // 7 * 5 + least({days} % 7, 5))"
        return f"({days} // 7 * {self.days} + {[sum(self.works[:at]) for at in range(7)]}[{days} % 7 + 1])"

    def works_on(self, day: str) -> str:
        """SQL: 1 for a working day of the week, else 0."""
        if self == MONDAY_TO_FRIDAY:
            return f"CASE WHEN {_days(day)} % 7 < 5 THEN 1 ELSE 0 END"
        return f"{[int(one) for one in self.works]}[{_days(day)} % 7 + 1]"

    def day(self, number: str) -> str:
        """SQL of the day with a number."""
        within = f"{number} % 5"
        if self != MONDAY_TO_FRIDAY:
            within = f"{[at for at, one in enumerate(self.works) if one]}[{number} % {self.days} + 1]"
        return f"DATE '{_MONDAY}' + CAST({number} // {self.days} * 7 + {within} AS INTEGER)"

    def holidays(self, settings: Settings) -> list[int]:
        """The numbers of those holidays that are working days of the week, ascending."""
        days = [(day - _MONDAY).days for day in settings.holidays]
        return [day // 7 * self.days + sum(self.works[: day % 7]) for day in days if self.works[day % 7]]


MONDAY_TO_FRIDAY = Week()


def network_days(compiler: Compiler, args: Sequence[Tree], week: Week = MONDAY_TO_FRIDAY) -> Value:
    """NETWORKDAYS(start, end): the working days from start to end, both included; below 0 if the end is first. The holidays are those of
    the request; in a year that a named calendar was not asked for, #NUM!."""
    days = [compiler.day(compiler.value(arg), "NETWORKDAYS") for arg in args]
    start, end = (sql_of(day.node) for day in days)
    low, high = (f"{name}({start}, {end})" for name in ("least", "greatest"))
    before, last = week.before(low), f"({week.before(high)} + {week.works_on(high)} - 1)"
    free = week.holidays(compiler.settings)
    holidays = f"{_counted(free, '<=', last)} - {_counted(free, '<', before)}"
    count = f"({last} + 1 - {before} - ({holidays}))"
    # least and greatest leave a null out.
    sql = f"CASE WHEN {start} IS NULL OR {end} IS NULL THEN NULL WHEN {end} < {start} THEN -{count} ELSE {count} END"
    return compiler.sql(f"CAST({sql} AS BIGINT)", INTEGER, days, _unknown(compiler.settings, [low, high]))


def workday(compiler: Compiler, args: Sequence[Tree], week: Week = MONDAY_TO_FRIDAY) -> Value:
    """WORKDAY(start, n): the n-th working day after start, before it if n is below 0, start itself for 0. Holidays as in NETWORKDAYS; #NUM!
    outside 1900 to 9999."""
    day = compiler.day(compiler.value(args[0]), "WORKDAY")
    count = compiler.number(compiler.value(args[1]))
    start, steps = sql_of(day.node), compiler.whole(count)
    weekday_before = f"({week.before(start)} + {week.works_on(start)} - 1)"
    holidays = week.holidays(compiler.settings)
    later = _beyond(holidays, weekday_before, steps)
    earlier = f"-({_beyond([-one for one in reversed(holidays)], f'-{week.before(start)}', f'-{steps}')})"
    number = compiler.sql(f"CASE WHEN {steps} > 0 THEN {later} WHEN {steps} < 0 THEN {earlier} END", INTEGER, [day, count])
    name = sql_of(number.node)
    found = in_range(f"CASE WHEN {steps} = 0 THEN {start} WHEN {name} BETWEEN 0 AND 3000000 THEN {week.day(name)} END")
    known = compiler.sql(found, DATE, [day, count, number], f"CASE WHEN {RESULT} IS NULL AND {start} IS NOT NULL THEN {NUM} END")
    if compiler.settings.holiday_years is None:
        return known
    result = sql_of(known.node)
    return compiler.sql(result, DATE, [known, day], _unknown(compiler.settings, [start, result]))


def network_days_of(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """NETWORKDAYS.INTL(start, end, weekend): NETWORKDAYS with other days off, as they are written: 1 Saturday and Sunday, 2 Sunday and
    Monday, … 7 Friday and Saturday; 11 Sunday alone, … 17 Saturday alone; or a text such as "0000011", a 1 for each day off from Monday
    on."""
    return network_days(compiler, args[:2], _week(args, "NETWORKDAYS.INTL"))


def workday_of(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """WORKDAY.INTL(start, n, weekend): WORKDAY with other days off, as in NETWORKDAYS.INTL."""
    return workday(compiler, args[:2], _week(args, "WORKDAY.INTL"))


def _week(args: Sequence[Tree], name: str) -> Week:
    """Raises WrongUsage for days off that are none as they are written."""
    if len(args) < 3:
        return MONDAY_TO_FRIDAY
    if isinstance(args[2], Text):
        text = args[2].value
        if len(text) != 7 or set(text) - {"0", "1"} or "0" not in text:
            raise WrongUsage(f'the days off of {name} are a text such as "0000011", a 1 for each day off from Monday on, or a number')
        return Week(tuple(sign == "0" for sign in text))
    number = literal_integer(args[2], f"the days off of {name}", 1, 17)
    if 7 < number < 11:
        raise WrongUsage(f"the days off of {name} are {number}; there are 1 to 7 and 11 to 17")
    # 1 is Saturday and Sunday, 11 Sunday alone; each next one begins a day later.
    off = {(number + 4) % 7, (number + 5) % 7} if number <= 7 else {(number - 5) % 7}
    return Week(tuple(at not in off for at in range(7)))


def _days(day: str) -> str:
    return f"date_diff('day', DATE '{_MONDAY}', {day})"


def _counted(numbers: Sequence[int], sign: str, limit: str) -> str:
    """SQL of how many numbers are before a limit."""
    return f"len(list_filter({list(numbers)}, lambda one: one {sign} {limit}))" if numbers else "0"


def _beyond(holidays: Sequence[int], base: str, steps: str) -> str:
    """SQL of the number of the weekday that is ``steps`` working days after a weekday.

    From the base to the j-th holiday of all, c of which are not after the base, there are holiday - base - (j - c) working days; the
    holiday is passed if they are fewer than the steps. holiday - j never falls with j, so that those that are passed can be counted."""
    behind = _counted(holidays, "<=", base)
    room = [holiday - place for place, holiday in enumerate(holidays, 1)]
    return f"({base} + {steps} + {_counted(room, '<', f'({base} + {steps} - {behind})')} - {behind})"


def _unknown(settings: Settings, days: Sequence[str]) -> str | None:
    """SQL of the error for a day in a year whose holidays are not known."""
    if settings.holiday_years is None:
        return None
    first, last = settings.holiday_years
    outside = " OR ".join(f"year({day}) NOT BETWEEN {first} AND {last}" for day in days)
    return f"CASE WHEN {outside} THEN {NUM} END"


WORKDAYS: Mapping[str, Function] = {
    "NETWORKDAYS": Function(2, 2, network_days),
    "WORKDAY": Function(2, 2, workday),
    "NETWORKDAYS.INTL": Function(2, 3, network_days_of),
    "WORKDAY.INTL": Function(2, 3, workday_of),
}
