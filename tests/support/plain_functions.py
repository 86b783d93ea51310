"""Functions of formulas in plain Python, with Excel's rules: of values that are None (blank), Decimal, str, bool or date."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, ROUND_UP, Decimal
from typing import Any

DIV0, VALUE, NUM, NA = 2, 3, 6, 7

DAY_0 = date(1899, 12, 30)

DIGITS = r"(\d+|\d{1,3}(,\d{3})+)?"

NUMBER = re.compile(
    rf"\s*(([+-]?\$?|\$[+-]){DIGITS}(\.\d{{1,10}}0*)?|\(\$?{DIGITS}(\.\d{{1,10}}0*)?\)|[+-]?{DIGITS}(\.\d{{1,8}}0*)?%)\s*\Z", re.ASCII
)

HOLIDAYS = [date(2026, 12, 25), date(2026, 12, 26), date(2027, 1, 1)]

MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]

WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


@dataclass(frozen=True)
class Wrong(Exception):
    """An error value."""

    code: int


def number(value: Any) -> Decimal:
    if value is None:
        return Decimal(0)
    if isinstance(value, bool):
        return Decimal(int(value))
    if isinstance(value, date):
        return Decimal((value - DAY_0).days)
    if isinstance(value, str):
        if not NUMBER.match(value) or not re.search(r"\d", value):
            raise Wrong(VALUE)
        digits = Decimal(re.sub(r"[^\d.]", "", value, flags=re.ASCII)) * (Decimal("0.01") if "%" in value else 1)
        return -digits if re.search("[-(]", value) else digits
    return Decimal(value)


def text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, str):
        return value
    plain = f"{number(value) or Decimal(0):f}"  # no -0
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def truth(value: Any) -> bool:
    if isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise Wrong(VALUE)
        return value.lower() == "true"
    return bool(number(value))


def _compared(holds: Callable[[int], bool]) -> Callable[[Any, Any], bool]:
    def compare(one: Any, two: Any) -> bool:
        one, two = (_like(value, other) for value, other in ((one, two), (two, one)))
        sides = [_ranked(value) for value in (one, two)]
        return holds((sides[0] > sides[1]) - (sides[0] < sides[1]))

    return compare


def _like(value: Any, other: Any) -> Any:
    """A blank is 0, an empty text, or FALSE, as what it is compared with."""
    if value is not None:
        return value
    return "" if isinstance(other, str) else False if isinstance(other, bool) else Decimal(0)


def _ranked(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool):
        return 2, value
    return (1, value.lower()) if isinstance(value, str) else (0, number(value))


def divided(one: Any, two: Any) -> Decimal:
    below = number(two)
    if not below:
        raise Wrong(DIV0)
    return (number(one) / below).quantize(Decimal("1e-10"), ROUND_HALF_UP)


def _rounded(how: str) -> Callable[..., Decimal]:
    return lambda value, digits=Decimal(0): number(value).quantize(Decimal(1).scaleb(-int(digits)), how)


def moved(day: date | None, days: Decimal) -> date | None:
    """A date and whole days are a date."""
    if day is None:
        return None
    try:
        found = day + timedelta(days=int(days))
    except OverflowError:
        return wrong(NUM)
    return found if found >= date(1900, 1, 1) else wrong(NUM)


def _modulo(one: Any, two: Any) -> Decimal:
    below = number(two)
    if not below:
        raise Wrong(DIV0)
    return number(one) - below * (number(one) / below).to_integral_value(ROUND_FLOOR)


def _step(how: str) -> Callable[[Any, Any], Decimal]:
    def evaluate(value: Any, step: Any) -> Decimal:
        x, by = number(value), number(step)
        if not by:
            return wrong(DIV0) if how == "FLOOR" else Decimal(0)
        if x > 0 > by or (how == "MROUND" and x < 0 < by):
            return wrong(NUM)
        rounding = {"CEILING": ROUND_CEILING, "FLOOR": ROUND_FLOOR, "MROUND": ROUND_HALF_UP}[how]
        return (x / by).to_integral_value(rounding) * by

    return evaluate


def _to_two(odd: int) -> Callable[[Any], Decimal]:
    def evaluate(value: Any) -> Decimal:
        x = number(value)
        size = abs(x).to_integral_value(ROUND_UP)
        size += (int(size) + odd) % 2
        return -size if x < 0 else size

    return evaluate


def _cut(value: Any, start: int, size: int) -> str:
    if start < 1 or size < 0:
        raise Wrong(VALUE)
    return text(value)[start - 1 : start - 1 + size]


def _right(value: Any, size: Any = Decimal(1)) -> str:
    if int(number(size)) < 0:
        raise Wrong(VALUE)
    return text(value)[-int(number(size)) :] if int(number(size)) else ""


def _found(value: Any, within: Any, start: Any, pattern: bool) -> Decimal:
    needle, hay, first = text(value), text(within), int(number(start))
    if not 1 <= first <= max(len(hay), 1):
        raise Wrong(VALUE)
    if pattern:
        parts = re.findall(r"~[*?~]|.", needle.lower(), re.DOTALL)
        form = "".join({"*": ".*", "?": "."}.get(part, re.escape(part[-1])) for part in parts)
        match = re.compile(form, re.DOTALL).search(hay.lower(), first - 1)
        return Decimal(match.start() + 1) if match else wrong(VALUE)
    place = hay.find(needle, first - 1)
    return Decimal(place + 1) if place >= 0 else wrong(VALUE)


def _substitute(value: Any, old: Any, new: Any, place: Any = None) -> str:
    whole, old, new = text(value), text(old), text(new)
    pieces = whole.split(old) if old else [whole]
    if place is None:
        return new.join(pieces)
    if len(pieces) <= int(place):
        return whole
    return old.join(pieces[: int(place)]) + new + old.join(pieces[int(place) :])


def _beside(value: Any, delimiter: Any, place: Any, after: bool) -> str:
    whole, cut, at = text(value), text(delimiter), int(place)
    if not cut:
        return whole if after == (at > 0) else ""
    pieces = whole.split(cut)
    if len(pieces) <= abs(at):
        raise Wrong(NA)
    at += len(pieces) if at < 0 else 0
    return cut.join(pieces[at:] if after else pieces[:at])


def _replaced(value: Any, start: Any, size: Any, new: Any) -> str:
    first, count = int(number(start)), int(number(size))
    if first < 1 or count < 0:
        raise Wrong(VALUE)
    return text(value)[: first - 1] + text(new) + text(value)[first - 1 + count :]


def _repeated(value: Any, times: Any) -> str:
    count = int(number(times))
    return text(value) * count if count >= 0 and len(text(value)) * count <= 32767 else wrong(VALUE)


def _formatted(value: Any, form: str) -> Any:
    if form[0] in "ymd":
        if value is None:
            return None
        parts = {
            "yyyy": f"{value.year:04}",
            "yy": f"{value.year % 100:02}",
            "mmmm": MONTHS[value.month - 1],
            "mmm": MONTHS[value.month - 1][:3],
            "mm": f"{value.month:02}",
            "m": f"{value.month}",
            "dddd": WEEKDAYS[value.weekday()],
            "ddd": WEEKDAYS[value.weekday()][:3],
            "dd": f"{value.day:02}",
            "d": f"{value.day}",
        }
        return re.sub("y+|m+|d+", lambda found: parts[found[0]], form)
    if isinstance(value, bool) or (isinstance(value, str) and not (NUMBER.match(value) and re.search(r"\d", value))):
        return text(value)
    after = len(form.strip("%").partition(".")[2])
    shown = (number(value) * (100 if "%" in form else 1)).quantize(Decimal(1).scaleb(-after), ROUND_HALF_UP)
    whole, _, fraction = f"{abs(shown):f}".partition(".")
    whole = f"{int(whole):,}" if "," in form else whole.zfill(form.partition(".")[0].count("0"))
    return f"{'-' if shown < 0 else ''}{whole}{'.' if after else ''}{fraction}{'%' if '%' in form else ''}"


def _month_moved(day: date | None, count: Any, end: bool) -> date | None:
    if day is None:
        return None
    months = day.year * 12 + day.month - 1 + int(number(count))
    if not 22800 <= months <= 119999:
        raise Wrong(NUM)
    last = monthrange(months // 12, months % 12 + 1)[1]
    return date(months // 12, months % 12 + 1, last if end else min(day.day, last))


def _dated(rule: Callable[..., Any]) -> Callable[..., Any]:
    """Of a blank date it is blank."""
    return lambda *days: None if any(day is None for day in days) else rule(*days)


def _difference(start: date | None, end: date | None, unit: str) -> Any:
    if start is None or end is None:
        return None
    if end < start:
        raise Wrong(NUM)
    short = end.day < start.day
    months = (end.year - start.year) * 12 + end.month - start.month - short
    before = (end.replace(day=1) - timedelta(days=1)).day
    days = end.day - start.day + (before if short else 0)
    return Decimal({"Y": months // 12, "M": months, "D": (end - start).days, "YM": months % 12, "MD": days}[unit])


def _works(day: date, weekend: Any) -> bool:
    return day.weekday() not in _off(weekend) and day not in HOLIDAYS


def _off(weekend: Any) -> set[int]:
    if isinstance(weekend, str):
        return {day for day, sign in enumerate(weekend) if sign == "1"}
    return {{1: 5, 2: 6, 7: 4}[int(weekend)], {1: 6, 2: 0, 7: 5}[int(weekend)]} if weekend < 11 else {{11: 6, 13: 1, 17: 5}[int(weekend)]}


def _network_days(start: date, end: date, weekend: Any = Decimal(1)) -> Decimal:
    low, high = min(start, end), max(start, end)
    count = sum(_works(low + timedelta(days=day), weekend) for day in range((high - low).days + 1))
    return Decimal(count if start <= end else -count)


def _workday(start: date | None, count: Any, weekend: Any = Decimal(1)) -> date | None:
    left = int(number(count))
    if start is None:
        return None
    while left:
        start += timedelta(days=1 if left > 0 else -1)
        left -= _works(start, weekend) * (1 if left > 0 else -1)
    return start


def _week(day: date, kind: Any = Decimal(1)) -> Decimal:
    start = {1: 6, 2: 0, 11: 0, 15: 4, 17: 6}.get(int(kind))
    if start is None:
        return Decimal(day.isocalendar().week)
    first = date(day.year, 1, 1)
    begins = first - timedelta(days=(first.weekday() - start) % 7)
    return Decimal((day - begins).days // 7 + 1)


def _date_value(value: Any) -> date | None:
    if value is None or isinstance(value, date):
        return value
    for form in ("%Y-%m-%d", "%m/%d/%Y", "%d-%b-%Y", "%B %d, %Y"):
        try:
            return datetime.strptime(value.strip(" "), form).date()  # noqa: DTZ007
        except ValueError:
            continue
    raise Wrong(VALUE)


def _date(year: Any, month: Any, day: Any) -> date:
    months = (int(number(year)) + (1900 if 0 <= int(number(year)) < 1900 else 0)) * 12 + int(number(month)) - 1
    if not 22800 <= months <= 119999:
        raise Wrong(NUM)
    try:
        found = date(months // 12, months % 12 + 1, 1) + timedelta(days=int(number(day)) - 1)
    except OverflowError:
        raise Wrong(NUM) from None
    if not date(1900, 1, 1) <= found <= date(9999, 12, 31):
        raise Wrong(NUM)
    return found


def wrong(code: int) -> Any:
    raise Wrong(code)


EAGER: dict[str, Callable[..., Any]] = {
    "+": lambda one, two: number(one) + number(two),
    "-": lambda one, two: number(one) - number(two),
    "*": lambda one, two: number(one) * number(two),
    "/": divided,
    "^": lambda one, two: number(one) ** int(two) if number(one) or int(two) else wrong(NUM),
    "&": lambda one, two: text(one) + text(two),
    "=": _compared(lambda sign: sign == 0),
    "<>": _compared(lambda sign: sign != 0),
    "<": _compared(lambda sign: sign < 0),
    "<=": _compared(lambda sign: sign <= 0),
    ">": _compared(lambda sign: sign > 0),
    ">=": _compared(lambda sign: sign >= 0),
    "NEG": lambda value: -number(value),
    "%": lambda value: number(value) * Decimal("0.01"),
    "NOT": lambda value: not truth(value),
    "ABS": lambda value: abs(number(value)),
    "ROUND": _rounded(ROUND_HALF_UP),
    "ROUNDUP": _rounded(ROUND_UP),
    "ROUNDDOWN": _rounded(ROUND_DOWN),
    "INT": lambda value: number(value).to_integral_value(ROUND_FLOOR),
    "MOD": _modulo,
    "CONCAT": lambda *values: "".join(map(text, values)),
    "TEXTJOIN": lambda between, ignore, *values: text(between).join(one for one in map(text, values) if one or not truth(ignore)),
    "LEN": lambda value: Decimal(len(text(value))),
    "UPPER": lambda value: text(value).upper(),
    "LOWER": lambda value: text(value).lower(),
    "TRIM": lambda value: re.sub(" +", " ", text(value).strip(" ")),
    "LEFT": lambda value, size=Decimal(1): _cut(value, 1, int(number(size))),
    "RIGHT": _right,
    "MID": lambda value, start, size: _cut(value, int(number(start)), int(number(size))),
    "VALUE": lambda value: None if value is None else number(value),
    "YEAR": lambda value: None if value is None else Decimal(value.year),
    "MONTH": lambda value: None if value is None else Decimal(value.month),
    "DAY": lambda value: None if value is None else Decimal(value.day),
    "DATE": _date,
    "NA": lambda: wrong(NA),
    "TRUE": lambda: True,
    "FALSE": lambda: False,
    "N": lambda value: Decimal(0) if isinstance(value, str) else number(value),
    "T": lambda value: value if isinstance(value, str) else "",
    "SIGN": lambda value: Decimal(1).copy_sign(number(value)) if number(value) else Decimal(0),
    "TRUNC": _rounded(ROUND_DOWN),
    "QUOTIENT": lambda one, two: (number(one) / number(two)).to_integral_value(ROUND_DOWN) if number(two) else wrong(DIV0),
    **{how: _step(how) for how in ("CEILING", "FLOOR", "MROUND")},
    "EVEN": _to_two(0),
    "ODD": _to_two(1),
    "PROPER": lambda value: re.sub(r"[^\W\d_]+", lambda word: word[0][0].upper() + word[0][1:], text(value).lower()),
    "CLEAN": lambda value: re.sub(r"[\x00-\x1f]", "", text(value)),
    "EXACT": lambda one, two: text(one) == text(two),
    "REPLACE": _replaced,
    "REPT": _repeated,
    "FIND": lambda value, within, start=Decimal(1): _found(value, within, start, pattern=False),
    "SEARCH": lambda value, within, start=Decimal(1): _found(value, within, start, pattern=True),
    "SUBSTITUTE": _substitute,
    "TEXTBEFORE": lambda value, delimiter, place=1: _beside(value, delimiter, place, after=False),
    "TEXTAFTER": lambda value, delimiter, place=1: _beside(value, delimiter, place, after=True),
    "TEXT": _formatted,
    "DATEVALUE": _date_value,
    "EDATE": lambda day, count: _month_moved(day, count, end=False),
    "EOMONTH": lambda day, count: _month_moved(day, count, end=True),
    "DATEDIF": _difference,
    "DAYS": _dated(lambda end, start: Decimal((end - start).days)),
    "WEEKDAY": _dated(lambda day, kind=Decimal(1): Decimal((day.weekday() - {1: 6, 2: 0, 3: 0, 13: 2}[int(kind)]) % 7 + (kind != 3))),
    "WEEKNUM": _dated(_week),
    "ISOWEEKNUM": _dated(lambda day: Decimal(day.isocalendar().week)),
    "NETWORKDAYS": _dated(_network_days),
    "WORKDAY": _workday,
    "NETWORKDAYS.INTL": _dated(_network_days),
    "WORKDAY.INTL": _workday,
}
