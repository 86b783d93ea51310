"""Functions of dates, each with Excel's rule in its docstring. Of a blank date they are blank."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from recon.errors import WrongUsage
from recon.transformations.formulas.compile import Compiler, Function, literal_integer
from recon.transformations.formulas.layers import RESULT, Value, column, sql_of
from recon.transformations.formulas.tree import NUM, Text, Tree
from recon.vocabulary import Node, check
from recon.vocabulary.types import DATE, INTEGER

WEEK_STARTS = {1: 7, 2: 1, 11: 1, 12: 2, 13: 3, 14: 4, 15: 5, 16: 6, 17: 7}
"""A type of WEEKDAY and WEEKNUM → the day with which its week begins; Monday is 1."""


def _day_part(name: str) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """YEAR, MONTH, DAY of a date."""
        value = compiler.day(compiler.value(args[0]), name.upper())
        return compiler.layers.computed(check.FUNCTIONS[name][2]([value.node]), [value])

    return build


def in_range(sql: str) -> str:
    """SQL of a date, null outside the years 1900 to 9999."""
    return f"CASE WHEN ({sql}) BETWEEN DATE '1900-01-01' AND DATE '9999-12-31' THEN {sql} END"


def _first_of_month(months: str) -> str:
    """SQL of the first day of a month, that many months after the beginning of the year 0; null outside the years 1900 to 9999."""
    first = f"make_date(CAST({months} // 12 AS BIGINT), CAST({months} % 12 + 1 AS BIGINT), 1)"
    return f"CASE WHEN {months} BETWEEN 22800 AND 119999 THEN {first} END"


def date_of(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """DATE(year, month, day): a year below 1900 counts from 1900; months and days beyond their range run over, as in DATE(2026, 13, 1);
    #NUM! outside 1900 to 9999."""
    numbers = compiler.numbers(args)
    year, month, day = (compiler.whole(number) for number in numbers)
    year = f"({year} + CASE WHEN {year} BETWEEN 0 AND 1899 THEN 1900 ELSE 0 END)"
    months, level = compiler.layers.add(f"{year} * 12 + {month} - 1", numbers)
    sql = f"CASE WHEN {day} BETWEEN -400000 AND 4000000 THEN TRY({_first_of_month(months)} + CAST({day} - 1 AS INTEGER)) END"
    date, level = compiler.layers.add(sql, level)
    below = [*numbers, Value(column(date, DATE), None, level)]
    return compiler.sql(in_range(date), DATE, below, f"CASE WHEN {RESULT} IS NULL THEN {NUM} END")


def _months_on(end: bool) -> Callable[[Compiler, Sequence[Tree]], Value]:
    def build(compiler: Compiler, args: Sequence[Tree]) -> Value:
        """EDATE(date, n): the same day n months later, or the month's last if it is shorter. EOMONTH(date, n): the last day of that month.
        #NUM! outside 1900 to 9999."""
        day = compiler.day(compiler.value(args[0]), "EOMONTH" if end else "EDATE")
        count = compiler.number(compiler.value(args[1]))
        date = sql_of(day.node)
        first = _first_of_month(f"(year({date}) * 12 + month({date}) - 1 + {compiler.whole(count)})")
        last = f"last_day({first})"
        sql = last if end else f"least({first} + CAST(day({date}) - 1 AS INTEGER), {last})"
        return compiler.sql(f"CAST({sql} AS DATE)", DATE, [day, count], f"CASE WHEN {RESULT} IS NULL AND {date} IS NOT NULL THEN {NUM} END")

    return build


def difference(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """DATEDIF(start, end, unit): whole years "Y", months "M", days "D"; months beyond years "YM"; days beyond months "MD", which after a
    shorter month can be below 0. #NUM! if the end is before the start."""
    unit = args[2].value.upper() if isinstance(args[2], Text) else ""
    if unit not in ("Y", "M", "D", "YM", "MD"):
        raise WrongUsage('the unit of DATEDIF is "Y", "M", "D", "YM" or "MD" as it is written')
    days = [compiler.day(compiler.value(arg), "DATEDIF") for arg in args[:2]]
    start, end = (sql_of(day.node) for day in days)
    short = f"CASE WHEN day({end}) < day({start}) THEN 1 ELSE 0 END"
    months = f"((year({end}) - year({start})) * 12 + month({end}) - month({start}) - {short})"
    before = f"day(last_day({end} - CAST(day({end}) AS INTEGER)))"
    found = {
        "Y": f"{months} // 12",
        "M": months,
        "YM": f"{months} % 12",
        "D": sql_of(check.FUNCTIONS["date_diff"][2]([day.node for day in days])),
        "MD": f"day({end}) - day({start}) + CASE WHEN day({end}) < day({start}) THEN {before} ELSE 0 END",
    }
    sql = f"CASE WHEN {end} >= {start} THEN CAST({found[unit]} AS BIGINT) END"
    return compiler.sql(sql, INTEGER, days, f"CASE WHEN {end} < {start} THEN {NUM} END")


def days_between(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """DAYS(end, start)."""
    end, start = (compiler.day(compiler.value(arg), "DAYS") for arg in args)
    return compiler.layers.computed(check.FUNCTIONS["date_diff"][2]([start.node, end.node]), [end, start])


def _start_of_week(args: Sequence[Tree], name: str) -> int:
    kind = literal_integer(args[1], f"the type of {name}", 1, 21) if len(args) > 1 else 1
    if kind not in WEEK_STARTS:
        raise WrongUsage(f"the type {kind} of {name} is not supported; there are {', '.join(map(str, WEEK_STARTS))}")
    return WEEK_STARTS[kind]


def weekday(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """WEEKDAY(date, type): 1 to 7 from Sunday on; for the types 2 and 11 to 17 from Monday, and Monday to Sunday on; for 3 0 to 6 from
    Monday on. The type is a number as it is written."""
    day = compiler.day(compiler.value(args[0]), "WEEKDAY")
    number = sql_of(check.FUNCTIONS["weekday"][2]([day.node]))
    if len(args) > 1 and literal_integer(args[1], "the type of WEEKDAY", 1, 17) == 3:
        return compiler.sql(f"CAST({number} - 1 AS BIGINT)", INTEGER, [day])
    return compiler.sql(f"CAST(({number} - {_start_of_week(args, 'WEEKDAY')} + 7) % 7 + 1 AS BIGINT)", INTEGER, [day])


def week(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """WEEKNUM(date, type): the week of the year; the week of January 1 is the first, and weeks begin on Sunday, or as the type of WEEKDAY
    says; type 21 is ISOWEEKNUM."""
    if len(args) > 1 and literal_integer(args[1], "the type of WEEKNUM", 1, 21) == 21:
        return iso_week(compiler, args[:1])
    day = compiler.day(compiler.value(args[0]), "WEEKNUM")
    date, start = sql_of(day.node), _start_of_week(args, "WEEKNUM")
    first = sql_of(check.FUNCTIONS["weekday"][2]([day.node]))
    before = f"(({first} - dayofyear({date}) + 1 - {start}) % 7 + 7) % 7"
    return compiler.sql(f"CAST((dayofyear({date}) - 1 + {before}) // 7 + 1 AS BIGINT)", INTEGER, [day])


def iso_week(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """ISOWEEKNUM(date): the week by ISO 8601: from Monday on, and the first has the year's first Thursday."""
    day = compiler.day(compiler.value(args[0]), "ISOWEEKNUM")
    return compiler.sql(f"CAST(weekofyear({sql_of(day.node)}) AS BIGINT)", INTEGER, [day])


def today(compiler: Compiler, args: Sequence[Tree]) -> Value:
    """TODAY(), NOW(): the request's ``as_of``, a day without a time."""
    return Value(Node("literal", (), DATE, compiler.settings.today))


DATES: Mapping[str, Function] = {
    "YEAR": Function(1, 1, _day_part("year")),
    "MONTH": Function(1, 1, _day_part("month")),
    "DAY": Function(1, 1, _day_part("day")),
    "DATE": Function(3, 3, date_of),
    "EDATE": Function(2, 2, _months_on(end=False)),
    "EOMONTH": Function(2, 2, _months_on(end=True)),
    "DATEDIF": Function(3, 3, difference),
    "DAYS": Function(2, 2, days_between),
    "WEEKDAY": Function(1, 2, weekday),
    "WEEKNUM": Function(1, 2, week),
    "ISOWEEKNUM": Function(1, 1, iso_week),
    "TODAY": Function(0, 0, today),
    "NOW": Function(0, 0, today),
}
