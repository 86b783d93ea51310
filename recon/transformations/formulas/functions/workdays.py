"""Functions of working days: Monday to Friday but for the request's holidays.

Weekdays are numbered from Monday 1899-12-25 on, so that five make a week; a holiday on a weekday is its number. Then counting days takes a
few sums, and counts in two lists of numbers that the formula has as constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from recon.transformations.formulas.compile import Compiler, Function
from recon.transformations.formulas.functions.dates import in_range
from recon.transformations.formulas.layers import RESULT, Value, sql_of
from recon.transformations.formulas.settings import Settings
from recon.transformations.formulas.tree import NUM, Tree
from recon.vocabulary.types import DATE, INTEGER

_MONDAY = date(1899, 12, 25)


def network_days(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """NETWORKDAYS(start, end): the working days from start to end, both included; below 0 if the end is first. The holidays are those of
    the request; in a year that a named calendar was not asked for, #NUM!."""
    days = [compiler.day(compiler.value(arg), "NETWORKDAYS") for arg in args]
    start, end = (sql_of(day.node) for day in days)
    low, high = (f"{name}({start}, {end})" for name in ("least", "greatest"))
    before, last = _before(low), f"({_before(high)} + {_is_weekday(high)} - 1)"
    holidays = f"{_counted(_holidays(compiler.settings), '<=', last)} - {_counted(_holidays(compiler.settings), '<', before)}"
    count = f"({last} + 1 - {before} - ({holidays}))"
    # least and greatest leave a null out.
    sql = f"CASE WHEN {start} IS NULL OR {end} IS NULL THEN NULL WHEN {end} < {start} THEN -{count} ELSE {count} END"
    return compiler.sql(f"CAST({sql} AS BIGINT)", INTEGER, days, _unknown(compiler.settings, [low, high]))


def workday(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """WORKDAY(start, n): the n-th working day after start, before it if n is below 0, start itself for 0. Holidays as in NETWORKDAYS; #NUM!
    outside 1900 to 9999."""
    day = compiler.day(compiler.value(args[0]), "WORKDAY")
    count = compiler.number(compiler.value(args[1]))
    start, steps = sql_of(day.node), compiler.whole(count)
    weekday_before = f"({_before(start)} + {_is_weekday(start)} - 1)"
    holidays = _holidays(compiler.settings)
    later = _beyond(holidays, weekday_before, steps)
    earlier = f"-({_beyond([-one for one in reversed(holidays)], f'-{_before(start)}', f'-{steps}')})"
    number = compiler.sql(f"CASE WHEN {steps} > 0 THEN {later} WHEN {steps} < 0 THEN {earlier} END", INTEGER, [day, count])
    name = sql_of(number.node)
    moved = f"DATE '{_MONDAY}' + CAST({name} // 5 * 7 + {name} % 5 AS INTEGER)"
    found = in_range(f"CASE WHEN {steps} = 0 THEN {start} WHEN {name} BETWEEN 0 AND 3000000 THEN {moved} END")
    known = compiler.sql(found, DATE, [day, count, number], f"CASE WHEN {RESULT} IS NULL AND {start} IS NOT NULL THEN {NUM} END")
    if compiler.settings.holiday_years is None:
        return known
    result = sql_of(known.node)
    return compiler.sql(result, DATE, [known, day], _unknown(compiler.settings, [start, result]))


def _before(day: str) -> str:
    """SQL of the number of the first weekday that is not before a day."""
    days = f"date_diff('day', DATE '{_MONDAY}', {day})"
    return f"({days} // 7 * 5 + least({days} % 7, 5))"


def _is_weekday(day: str) -> str:
    return f"CASE WHEN date_diff('day', DATE '{_MONDAY}', {day}) % 7 < 5 THEN 1 ELSE 0 END"


def _holidays(settings: Settings) -> list[int]:
    """The numbers of those holidays that are weekdays, ascending."""
    days = [(day - _MONDAY).days for day in settings.holidays]
    return [day // 7 * 5 + day % 7 for day in days if day % 7 < 5]


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
}
