"""Hypothesis strategies: any form of records, and any record of a form."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from hypothesis import strategies as st

from recon.model.form import Form, Slot

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
KEYS = st.one_of(TEXTS, st.text(st.characters(exclude_categories=["Cs"]), min_size=0, max_size=20).map(lambda text: (text * 50)[:1000]))
WINDOWS = st.datetimes(datetime(1900, 1, 1), datetime(2999, 12, 31)).map(lambda at: at.strftime("%Y-%m-%dT%H:%MZ"))  # noqa: DTZ001
INSTANTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(lambda at: at.isoformat(timespec="microseconds") + "Z")  # noqa: DTZ001
DECIMALS = st.tuples(st.sampled_from([1, 2, 9, 18, 19, 20, 37, 38]), st.integers(0, 38)).map(lambda at: f"decimal({at[0]},{min(at)})")
TYPES = st.one_of(DECIMALS, st.sampled_from(["integer", "text", "boolean", "date", "timestamp"]))
COUNTS = st.integers(0, (1 << 32) - 1)
LONG = st.integers(0, (1 << 64) - 1)
WORD = st.one_of(st.integers(-1000, 1000), st.integers(-(1 << 63), (1 << 63) - 1))


@st.composite
def forms(draw: st.DrawFn) -> Form:
    count = draw(st.one_of(st.integers(1, 5), st.sampled_from([31, 32, 33, 64, 65, 70])))
    label = draw(TEXTS)
    return Form(
        key=tuple(draw(st.lists(TEXTS, min_size=1, max_size=3))),
        grid=(draw(INSTANTS), draw(st.sampled_from([60, 900, 3600, 86400])), draw(st.sampled_from(["", "America/New_York"]))),
        measures=tuple(draw(measures(f"{label}{number}")) for number in range(count)),
        derived=tuple(Slot(f"{label}x{number}", draw(TYPES)) for number in range(draw(st.integers(0, 4)))),
        statuses=draw(st.one_of(st.none(), st.lists(TEXTS, max_size=4, unique=True).map(tuple))),
        currency=draw(st.booleans()),
        rules=draw(TEXTS),
    )


@st.composite
def measures(draw: st.DrawFn, name: str) -> Slot:
    kind = draw(st.sampled_from(["sum", "count", "min", "max", "first", "last"]))
    numbers = {"count": st.just("integer"), "sum": st.one_of(DECIMALS, st.just("integer"))}
    return Slot(name, draw(numbers.get(kind, TYPES)), kind)


@st.composite
def records(draw: st.DrawFn, form: Form) -> dict[str, Any]:
    """A record as ``recon.model.record.full`` gives it."""
    windows = sorted(draw(st.sets(WINDOWS, max_size=4)))
    folded = draw(st.booleans()) and draw(st.booleans())
    full = bool(windows) or folded
    status = st.none() if not full else TEXTS if form.statuses is None else st.sampled_from([None, *form.statuses])
    record: dict[str, Any] = {
        "key": draw(KEYS),
        "status": draw(st.one_of(st.none(), status)),
        "measures": {item.name: one for item in form.measures if full and (one := draw(values(item))) is not None},
        "derived": {item.name: one for item in form.derived if full and (one := draw(values(item))) is not None},
        "contributions": [draw(contributions(form, name)) for name in windows],
        "withdrawn": sorted(draw(st.sets(WINDOWS, max_size=3))),
    }
    if folded:
        first, last = sorted((draw(WINDOWS), draw(WINDOWS)))
        runs = draw(st.lists(LONG, max_size=5))
        spans = {"first": first, "last": last, "windows": draw(COUNTS), "runs": runs, "n": draw(LONG), "d": draw(LONG)}
        record["carried"] = {**spans, **draw(measured(form))}
    return record


@st.composite
def contributions(draw: st.DrawFn, form: Form, name: str) -> dict[str, Any]:
    ids = draw(st.one_of(st.none(), st.lists(LONG, max_size=4).map(sorted)))
    d = draw(st.one_of(st.just(0), LONG))
    own = draw(measured(form))
    return {"w": name, "n": draw(COUNTS), "d": d, **({"u": own["u"]} if form.currency else {}), "ids": ids, "m": own["m"]}


@st.composite
def measured(draw: st.DrawFn, form: Form) -> dict[str, Any]:
    """The measures of a contribution or block, and the set of currencies if the form has one."""
    found: dict[str, Any] = {"u": sorted(draw(st.sets(TEXTS, max_size=3)))} if form.currency else {}
    m = {item.name: one for item in form.measures if (one := draw(values(item))) is not None}
    timed = {item.name for item in form.measures if item.is_timed}
    return {**found, "m": {name: {"t": draw(INSTANTS), "v": one} if name in timed else one for name, one in m.items()}}


def values(item: Slot) -> st.SearchStrategy[Any]:
    """A value of a slot, or None."""
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "integer": WORD,
        "text": TEXTS,
        "boolean": st.booleans(),
        "date": st.dates().map(date.isoformat),
        "timestamp": INSTANTS,
    }
    if item.scale is None:
        return st.one_of(st.none(), kinds[item.type])
    scale, most = item.scale, 10 ** int(item.type.removeprefix("decimal(").partition(",")[0]) - 1
    near = st.integers(max(-most, -1000), min(most, 1000))
    return st.one_of(st.none(), near, st.integers(-most, most)).map(lambda one: None if one is None else decimal_text(one, scale))


def decimal_text(number: int, scale: int) -> str:
    digits = f"{abs(number):0{scale + 1}}"
    return "-" * (number < 0) + (digits if not scale else f"{digits[:-scale]}.{digits[-scale:]}")
