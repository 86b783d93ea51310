"""What reconciliation means, in the plainest Python there is: every engine's result is compared with this.

What the library does in steps (merge, recount, as of) is said here in one, so that the steps get tested.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, localcontext
from typing import Any, NamedTuple

Type = str | tuple[str, int, int]
"""``("decimal", precision, scale)``, ``"integer"``, ``"boolean"``, ``"date"``, ``"timestamp"`` or ``"text"``."""

Verdict = str
"""What became of a row: one of VERDICTS; a row has exactly one."""
VERDICTS = ("counted", "duplicate", "suppressed", "rejected")

NEVER = datetime.max.replace(tzinfo=UTC)

EXACT = Context(prec=200)
"""Wide enough for every sum of decimal(38, s): Python's default of 28 digits would round."""

Scope = dict[str, Any]
"""Names → typed values, as ``where``, derived values and statuses see them."""


@dataclass(frozen=True)
class Event:
    """One row of a landed file, as text: empty and None are null. ``order`` is the file's place in the order of landing of its
    window; ``line`` is the physical line that the row starts on."""

    window: datetime
    file: str
    order: int
    line: int
    values: Mapping[str, str | None]


class Measure(NamedTuple):
    """``kind`` is sum, count, min, max, first or last; ``column`` is None for ``count: "*"``."""

    name: str
    kind: str
    column: str | None = None
    where: Callable[[Scope], bool | None] | None = None


class Control(NamedTuple):
    """A control total: ``kind`` is sum or count, ``column`` is None for ``count: "*"``; ``by`` splits it."""

    name: str
    kind: str
    column: str | None = None
    by: str | None = None


@dataclass(frozen=True)
class Rules:
    """``types`` names every column that anything uses, text ones too; key and id are always text, time a timestamp. An ``id`` of several
    columns may end with "#", which numbers the equal rows of a file."""

    key: tuple[str, ...]
    types: Mapping[str, Type]
    id: str | tuple[str, ...] | None = None
    time: str | None = None
    dedupe: timedelta = timedelta(days=31)
    currency: str | None = None
    measures: Sequence[Measure] = ()
    derived: Sequence[tuple[str, Callable[[Scope], Any]]] = ()
    status: Sequence[tuple[str, Callable[[Scope], bool | None]]] = ()
    control: Sequence[Control] = ()
    clean: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Key column → trim, nfc, strip_format."""


class Picked(NamedTuple):
    """What ``first`` and ``last`` give: the value and the time of the event that it comes from."""

    time: datetime
    value: Any


@dataclass(frozen=True)
class Contribution:
    """What one window adds to one key: ``n`` counted ``events``, ``d`` ``suppressed`` ones, as sorted (file, line). ``duplicates`` stand a
    second time in the window itself."""

    window: datetime
    n: int
    d: int
    measures: Scope
    events: list[tuple[str, int]]
    suppressed: list[tuple[str, int]]
    duplicates: list[tuple[str, int]]
    currencies: list[str]


@dataclass(frozen=True)
class Artifact:
    """A key's record: contributions in the order of their windows, never none; ``measures`` may hold Picked. ``by_currency``: the measures
    over the events of each currency, of which an empty one is ""."""

    key: str
    status: str | None
    measures: Scope
    derived: Scope
    contributions: list[Contribution]
    currencies: list[str]
    by_currency: dict[str, Scope]


@dataclass
class WindowTotals:
    """A window's rows by verdict; ``counted + duplicates + suppressed + len(rejected) == rows``.

    ``duplicates`` stand a second time in the window itself, ``suppressed`` in an earlier one; ``accepted`` is their
    sum with ``counted``. ``conflicting`` are those duplicates that differ from the row that stands for them.
    ``earlier`` counts the suppressed rows that differ from the row that counts, by its window, and ``later`` those of later windows that
    differ from a row of this one that counts. ``two_keys`` are the ids that stand under more than one key.
    ``rejected`` is (file, line, why). ``money`` is {control: {"in" or verdict: {value of ``by``: total}}}: "" stands
    where a control has no ``by``, None for rows whose ``by`` is null; a sum over no readable amount is 0.
    ``keys`` are those of the accepted rows.
    """

    rows: int = 0
    counted: int = 0
    duplicates: int = 0
    suppressed: int = 0
    rejected: list[tuple[str, int, str]] = field(default_factory=list)
    conflicting: list[tuple[str, int]] = field(default_factory=list)
    earlier: dict[datetime, int] = field(default_factory=dict)
    later: dict[datetime, int] = field(default_factory=dict)
    two_keys: set[str] = field(default_factory=set)
    money: dict[str, dict[str, dict[Any, Decimal | int]]] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)

    @property
    def accepted(self) -> int:
        return self.counted + self.duplicates + self.suppressed


@dataclass(frozen=True)
class Result:
    """Artifacts by key text; totals by window, for the windows that have rows."""

    artifacts: dict[str, Artifact]
    windows: dict[datetime, WindowTotals]


@dataclass(frozen=True)
class Row:
    """An event with its typed values (null where unreadable); ``why`` says why it is rejected, if it is."""

    event: Event
    key: str
    id: str | None
    time: datetime | None
    values: Scope
    why: str | None

    @property
    def place(self) -> tuple[str, int]:
        return self.event.file, self.event.line


def oracle(events: Iterable[Event], rules: Rules, as_of: datetime | None = None) -> Result:
    """``events``: of the current revision of every window, in any order. ``as_of`` leaves later windows out."""
    with localcontext(EXACT):
        rows = numbered([read(event, rules) for event in events if as_of is None or event.window <= as_of], rules)
        verdicts, conflicting = judge(rows, rules)
        totals = _totals(rows, verdicts, conflicting, rules)
        _conflicts(rows, verdicts, totals)
        return Result(_artifacts(rows, verdicts, rules), totals)


def numbered(rows: Sequence[Row], rules: Rules) -> list[Row]:
    """The rows with their ids, where these are put together of several columns. An empty part makes an id none, unless rows are
    numbered."""
    if not isinstance(rules.id, tuple):
        return list(rows)
    columns, counts = [name for name in rules.id if name != "#"], Counter[Any]()
    found = {}
    for row in sorted(rows, key=lambda row: row.event.line):
        parts = [row.values[name] for name in columns]
        same = (row.event.window, row.event.order, row.key, *parts)
        counts[same] += 1
        if "#" in rules.id:
            parts.append(str(counts[same]))
        known = "#" in rules.id or None not in parts
        found[same, row.event.line] = (row, json.dumps(parts, ensure_ascii=False) if known else None)
    ids = {id(row): text for row, text in found.values()}
    return [replace(row, id=ids[id(row)]) for row in rows]


def withdrawn(revisions: Mapping[datetime, Sequence[Sequence[Event]]], rules: Rules) -> dict[str, list[datetime]]:
    """Key → windows whose last committed revision holds it no more; ``revisions`` per window, oldest first."""
    gone: dict[str, list[datetime]] = defaultdict(list)
    for window in sorted(revisions):
        held = [{row.key for row in (read(e, rules) for e in events) if row.why is None} for events in revisions[window]]
        for key in set().union(*held) - held[-1]:
            gone[key].append(window)
    return dict(gone)


# ---- rows: text to typed values --------------------------------------------------------------------------------------


class UnreadableError(Exception):
    """A text that is not of its column's type; the message is the kind of reason."""


_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,6})?")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?")


def read(event: Event, rules: Rules) -> Row:
    """Types a row. Of several reasons the first is given: empty key, then columns in the order of id, time, types."""
    columns: dict[str, Type] = dict.fromkeys(rules.key, "text")
    for name in (rules.id,) if isinstance(rules.id, str) else rules.id or ():
        if name != "#":
            columns.setdefault(name, "text")
    if rules.time is not None:
        columns[rules.time] = "timestamp"
    columns = {**columns, **{name: kind for name, kind in rules.types.items() if name not in columns}}
    values: Scope = {}
    given = {name: clean(event.values.get(name) or "", rules.clean.get(name, frozenset())) for name in columns}
    reasons = ["empty key"] if any(not given[column] for column in rules.key) else []
    for name, kind in columns.items():
        try:
            text = given[name]
            values[name] = typed(text, kind) if text else None
        except UnreadableError as why:
            values[name] = None
            reasons.append("bad time" if name == rules.time else str(why))
    return Row(
        event=event,
        key=key_text([values[column] or "" for column in rules.key]),
        id=values[rules.id] if isinstance(rules.id, str) else None,
        time=values[rules.time] if rules.time is not None else None,
        values=values,
        why=reasons[0] if reasons else None,
    )


_DRAWN = ("ARABIC", "SYRIAC", "KAITHI", "EGYPTIAN")
"""What the names of format characters that are drawn begin with; but ARABIC LETTER MARK is not."""


def clean(text: str, steps: Collection[str]) -> str:
    """A key without format characters that are not seen; then composed; then without blanks around."""
    if "strip_format" in steps:
        kept = [unicodedata.category(c) != "Cf" or (unicodedata.name(c).startswith(_DRAWN) and c != "\u061c") for c in text]
        text = "".join(c for c, is_kept in zip(text, kept, strict=True) if is_kept)
    if "nfc" in steps:
        text = unicodedata.normalize("NFC", text)
    if "trim" in steps:
        blank = [c.isspace() and c not in "\x1c\x1d\x1e\x1f" for c in text]
        if all(blank):
            return ""
        text = text[blank.index(False) : len(text) - blank[::-1].index(False)]
    return text


def key_text(values: Sequence[str]) -> str:
    """A key of one column is its text, of several a compact JSON array."""
    return values[0] if len(values) == 1 else json.dumps(list(values), ensure_ascii=False, separators=(",", ":"))


def typed(text: str, kind: Type) -> Any:
    """A non-empty text → its value; money keeps exactly the declared scale. Raises UnreadableError."""
    if isinstance(kind, tuple):
        return _decimal(text.strip(" \t"), kind[1], kind[2])
    if kind == "integer":
        return _integer(text.strip(" \t"))
    if kind == "boolean":
        if text.strip(" \t") not in ("true", "false", "1", "0"):
            raise UnreadableError("not a boolean")
        return text.strip(" \t") in ("true", "1")
    if kind == "date":
        return _date(text)
    return _timestamp(text) if kind == "timestamp" else text


def _decimal(text: str, precision: int, scale: int) -> Decimal:
    if not _DECIMAL.fullmatch(text):
        raise UnreadableError("not a decimal")
    number = Decimal(text)
    whole_digits = number.adjusted() + 1
    if number == 0:
        return Decimal(0).scaleb(-scale)
    if whole_digits <= precision - scale:
        rounded = number.quantize(Decimal(1).scaleb(-scale), context=EXACT)
        if rounded == number:
            return rounded
    raise UnreadableError("does not fit" if whole_digits > precision - scale else "too many decimals")


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise UnreadableError("not an integer")
    if not -(2**63) <= int(text) < 2**63:
        raise UnreadableError("does not fit")
    return int(text)


def _date(text: str) -> date:
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise UnreadableError("not a date")


def _timestamp(text: str) -> datetime:
    try:
        if _TIME.fullmatch(text):
            instant = datetime.fromisoformat(text)
            if instant.tzinfo is None and len(text.strip()) > len("2026-11-01"):
                raise UnreadableError("not a timestamp")  # a clock without a zone; a date alone is the beginning of its day
            return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise UnreadableError("not a timestamp")


# ---- duplicates ------------------------------------------------------------------------------------------------------


def judge(rows: Sequence[Row], rules: Rules) -> tuple[list[Verdict], set[tuple[datetime, str, int]]]:
    """One verdict per row, and (window, file, line) of the duplicates that differ from the row that stands for them."""
    accepted = [row for row in rows if row.why is None]
    windows = sorted({row.event.window for row in accepted})
    alike: dict[Any, list[Row]] = defaultdict(list)
    for row in accepted:
        alike[row.event.window, row.key, row.id if row.id is not None else row.place].append(row)
    stands_for = {identity: min(same, key=_delivery_order) for identity, same in alike.items()}
    verdicts, conflicting = [], set()
    for row in rows:
        window = row.event.window
        if row.why is not None:
            verdicts.append("rejected")
            continue
        standing = stands_for[window, row.key, row.id if row.id is not None else row.place]
        earlier = [other for other in windows if window - rules.dedupe <= other < window]
        if row is not standing:
            verdicts.append("duplicate")
            if row.values != standing.values:
                conflicting.add((window, *row.place))
        elif row.id is not None and any((other, row.key, row.id) in alike for other in earlier):
            verdicts.append("suppressed")
        else:
            verdicts.append("counted")
    return verdicts, conflicting


def _conflicts(rows: Sequence[Row], verdicts: Sequence[Verdict], totals: Mapping[datetime, WindowTotals]) -> None:
    """Adds to each window's totals the conflicts with other windows, and the ids under two keys."""
    counting: dict[Any, Row] = {}
    keys: dict[Any, set[str]] = defaultdict(set)
    standing = [(row, verdict) for row, verdict in zip(rows, verdicts, strict=True) if verdict in ("counted", "suppressed")]
    for row, _ in standing:
        if row.id is not None:
            keys[row.event.window, row.id].add(row.key)
    for (window, event_id), under in keys.items():
        if len(under) > 1:
            totals[window].two_keys.add(event_id)
    for row, verdict in sorted(standing, key=lambda pair: pair[0].event.window):
        if row.id is None:
            continue
        # The row that counts is the last counted one: whatever is suppressed after it is suppressed because of it.
        if verdict == "counted":
            counting[row.key, row.id] = row
        elif row.values != counting[row.key, row.id].values:
            mine, other = row.event.window, counting[row.key, row.id].event.window
            totals[mine].earlier[other] = totals[mine].earlier.get(other, 0) + 1
            totals[other].later[mine] = totals[other].later.get(mine, 0) + 1


def _delivery_order(row: Row) -> tuple[Any, ...]:
    """(time, order of landing, line), a null time last."""
    return row.time is None, row.time or NEVER, row.event.order, row.event.line


# ---- artifacts -------------------------------------------------------------------------------------------------------


def _artifacts(rows: Sequence[Row], verdicts: Sequence[Verdict], rules: Rules) -> dict[str, Artifact]:
    by_verdict: dict[str, dict[str, dict[datetime, list[Row]]]] = {verdict: defaultdict(lambda: defaultdict(list)) for verdict in VERDICTS}
    for row, verdict in zip(rows, verdicts, strict=True):
        by_verdict[verdict][row.key][row.event.window].append(row)
    counted, suppressed, duplicates = (by_verdict[verdict] for verdict in ("counted", "suppressed", "duplicate"))
    artifacts = {}
    for key in sorted(counted.keys() | suppressed.keys()):
        # One row of every identity in a window is counted or suppressed: so these are all windows that hold the key.
        contributions = [
            _contribution(window, counted[key][window], suppressed[key][window], duplicates[key][window], rules)
            for window in sorted(counted[key].keys() | suppressed[key].keys())
        ]
        own = [row for rows_of in counted[key].values() for row in rows_of]
        measures = _measures(own, rules)
        currencies = _currencies(own, rules)
        by_currency = {one: _measures([row for row in own if _currency(row, rules) == one], rules) for one in currencies}
        mixed = len(currencies) > 1
        if mixed:
            measures = {m.name: None if _is_amount(m, rules) else measures[m.name] for m in rules.measures}
        scope = {name: value.value if isinstance(value, Picked) else value for name, value in measures.items()}
        derived = {}
        for name, value_of in rules.derived:
            derived[name] = scope[name] = None if mixed else value_of(scope)
        status = "MIXED_CURRENCY" if mixed else next((name for name, holds in rules.status if holds(scope)), None)
        artifacts[key] = Artifact(key, status, measures, derived, contributions, currencies, by_currency)
    return artifacts


def _contribution(window: datetime, counted: list[Row], suppressed: list[Row], duplicates: list[Row], rules: Rules) -> Contribution:
    return Contribution(
        window=window,
        n=len(counted),
        d=len(suppressed),
        measures=_measures(counted, rules),
        events=sorted(row.place for row in counted),
        suppressed=sorted(row.place for row in suppressed),
        duplicates=sorted(row.place for row in duplicates),
        currencies=_currencies(counted, rules),
    )


def _currency(row: Row, rules: Rules) -> str:
    return "" if rules.currency is None else row.values[rules.currency] or ""


def _currencies(rows: Sequence[Row], rules: Rules) -> list[str]:
    return [] if rules.currency is None else sorted({_currency(row, rules) for row in rows})


def _is_amount(measure: Measure, rules: Rules) -> bool:
    """A number that is no count."""
    return measure.kind != "count" and (
        rules.types[str(measure.column)] == "integer" or isinstance(rules.types[str(measure.column)], tuple)
    )


def _measures(rows: Sequence[Row], rules: Rules) -> Scope:
    return {measure.name: _measure(measure, rows) for measure in rules.measures}


def _measure(measure: Measure, rows: Sequence[Row]) -> Any:
    """Nulls are skipped; over nothing a count is 0 and everything else null."""
    chosen = [row for row in rows if measure.where is None or measure.where(row.values) is True]
    if measure.column is None:
        return len(chosen)
    chosen = [row for row in chosen if row.values[measure.column] is not None]
    values = [row.values[measure.column] for row in chosen]
    if measure.kind == "count":
        return len(values)
    if measure.kind in ("first", "last"):
        timed = sorted((row for row in chosen if row.time is not None), key=_booking_order)
        if not timed:
            return None
        row = timed[0 if measure.kind == "first" else -1]
        assert row.time is not None
        return Picked(row.time, row.values[measure.column])
    if not values:
        return None
    if measure.kind == "sum":
        return sum(values)
    return min(values) if measure.kind == "min" else max(values)


def _booking_order(row: Row) -> tuple[Any, ...]:
    """(time, window, order of landing, line); first and last are the ends of one order."""
    return row.time, row.event.window, row.event.order, row.event.line


# ---- control totals --------------------------------------------------------------------------------------------------


def _totals(
    rows: Sequence[Row], verdicts: Sequence[Verdict], conflicting: set[tuple[datetime, str, int]], rules: Rules
) -> dict[datetime, WindowTotals]:
    windows: dict[datetime, WindowTotals] = {}
    judged = sorted(zip(rows, verdicts, strict=True), key=lambda pair: (pair[0].event.window, pair[0].place))
    for row, verdict in judged:
        total = windows.setdefault(row.event.window, WindowTotals())
        total.rows += 1
        total.counted += verdict == "counted"
        total.duplicates += verdict == "duplicate"
        total.suppressed += verdict == "suppressed"
        if row.why is None:
            total.keys.add(row.key)
        else:
            total.rejected.append((*row.place, row.why))
        if (row.event.window, *row.place) in conflicting:
            total.conflicting.append(row.place)
        for control in rules.control:
            shares = total.money.setdefault(control.name, {name: {} for name in ("in", *VERDICTS)})
            split = row.values[control.by] if control.by is not None else ""
            for name in ("in", verdict):
                shares[name][split] = shares[name].get(split, 0) + _share(control, row)
    return windows


def _share(control: Control, row: Row) -> Decimal | int:
    """What one row adds to a control total; nothing where the value is null or, in a rejected row, unreadable."""
    if control.column is None:
        return 1
    value = row.values[control.column]
    if control.kind == "count":
        return 0 if value is None else 1
    return Decimal(0) if value is None else value
