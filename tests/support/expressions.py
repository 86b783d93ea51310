"""Expressions of the vocabulary: what each means, random expressions and rows, and their values by DuckDB and by the reference."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
from hypothesis import strategies as st

from recon.vocabulary import Type, emit_duckdb, evaluate, parse_expression, parse_type

COLUMNS: dict[str, Type] = {
    "amount": parse_type("decimal(18,2)", ""),
    "total": parse_type("decimal(38,2)", ""),
    "rate": parse_type("decimal(12,6)", ""),
    "fine": parse_type("decimal(38,18)", ""),
    "share": parse_type("decimal(4,4)", ""),
    "n": parse_type("integer", ""),
    "kind": parse_type("text", ""),
    "select": parse_type("text", ""),
    "ok": parse_type("boolean", ""),
    "due": parse_type("date", ""),
    "at": parse_type("timestamp", ""),
}

DATABASE = duckdb.connect(config={"threads": 1})

# Nothing may depend on the session.
DATABASE.execute("SET TimeZone = 'America/New_York'")


def as_sql(value: object, kind: Type) -> str:
    if value is None:
        return f"CAST(NULL AS {kind.duckdb})"
    text = value.isoformat() if isinstance(value, date) else format(value, "f") if isinstance(value, Decimal) else str(value)
    return f"CAST('{text.replace(chr(39), chr(39) * 2)}' AS {kind.duckdb})"


def in_duckdb(text: str, rows: list[dict[str, Any]]) -> tuple[str, list[object]]:
    """DuckDB's type and its values of the expression over the rows, as Python values."""
    expression = parse_expression(text, COLUMNS, "test")
    names = {name: f'"{name}"' for name in COLUMNS}
    values = ", ".join(
        f"({place}, {', '.join(as_sql(row[name], kind) for name, kind in COLUMNS.items())})" for place, row in enumerate(rows)
    )
    table = f"(VALUES {values}) AS t(place, {', '.join(names.values())})"
    sql = emit_duckdb(expression, names)
    shown = f"epoch_us({sql})" if expression.type.kind == "timestamp" else sql
    found = DATABASE.execute(f"SELECT typeof({sql}), {shown} FROM {table} ORDER BY place").fetchall()
    return found[0][0].replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"), [value for _, value in found]


def in_reference(text: str, rows: list[dict[str, Any]]) -> list[object]:
    expression = parse_expression(text, COLUMNS, "test")
    values = [evaluate(expression, row) for row in rows]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return [
        (d.days * 86_400 + d.seconds) * 1_000_000 + d.microseconds
        if isinstance(value, datetime) and (d := value - epoch) is not None
        else value
        for value in values
    ]


ROW: dict[str, Any] = dict.fromkeys(COLUMNS)
ROW |= {"amount": Decimal("-2.50"), "total": Decimal("7.00"), "rate": Decimal("0.500000"), "fine": Decimal("1e-18")}
ROW |= {"n": 3, "kind": "Café", "select": " x ", "ok": True, "due": date(2026, 2, 28), "share": Decimal("-0.0500")}
ROW["at"] = datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)

MEANINGS: list[tuple[str, object]] = [
    ("1 + 2 * 3", 7),
    ("amount + n", Decimal("0.50")),
    ("-amount", Decimal("2.50")),
    # Division: ten digits after the point, half away from zero, null on zero, exact where double is not.
    ("1 / 3", Decimal("0.3333333333")),
    ("-2 / 3", Decimal("-0.6666666667")),
    ("2 / -3", Decimal("-0.6666666667")),
    ("1 / 20000000000", Decimal("0.0000000001")),
    ("-1 / 20000000000", Decimal("-0.0000000001")),
    ("1 / 20000000001", Decimal("0.0000000000")),
    ("amount / 0", None),
    ("12345678901234567890.12 / 1", Decimal("12345678901234567890.12")),
    ("fine / 3", Decimal("0.0000000000")),
    ("9007199254740993 / 1", Decimal("9007199254740993")),
    # The rest has the dividend's sign.
    ("-7 % 3", -1),
    ("7 % -3", 1),
    ("amount % 2", Decimal("-0.50")),
    ("n % 0", None),
    ("5.5 % 0", None),
    # What does not fit is null.
    ("9223372036854775807 + n", None),
    ("9223372036854775807 * n", None),
    ("abs(-9223372036854775807 - 1)", None),
    ("-(-9223372036854775807 - 1)", None),
    ("(-9223372036854775807 - 1) % -1", 0),
    ("99999999999999999999999999999999999999 + 1", None),
    ("99999999999999999999999999999999999999 * total", None),
    ("99999999999999999999999999999999999999 = total", None),
    # Rounding.
    ("round(2.5)", Decimal(3)),
    ("round(-2.5)", Decimal(-3)),
    ("round(-2.45, 1)", Decimal("-2.5")),
    ("round(99.95, 1)", Decimal("100.0")),
    ("round(n, 2)", 3),
    ("floor(-2.5)", Decimal(-3)),
    ("ceil(-2.5)", Decimal(-2)),
    ("ceil(99.5)", Decimal(100)),
    ("sign(share)", -1),
    ("sign(0.00)", 0),
    # Three-valued logic.
    ("null and false", False),
    ("cast(null as boolean) and true", None),
    ("cast(null as boolean) or true", True),
    ("not cast(null as boolean)", None),
    ("n in (1, 3)", True),
    ("n in (1, null)", None),
    ("n not in (1, null)", None),
    ("n in (3, null)", True),
    ("n not between 1 and 2", True),
    ("n between null and 2", False),
    ("n between null and 3", None),
    ("case when cast(null as boolean) then 1 else 2 end", 2),
    ("case when false then 1 end", None),
    ("n is not null", True),
    # Choice.
    ("coalesce(null, amount, 0)", Decimal("-2.50")),
    ("nullif(n, 3)", None),
    ("nullif(n, null)", 3),
    ("least(null, 2, 1.5)", Decimal("1.5")),
    ("greatest(cast(null as integer), null)", None),
    # Text.
    ("upper(kind)", "CAFé"),
    ("lower('ÄBC')", "Äbc"),
    ("trim('\t a  ')", "\t a"),
    ("length(kind)", 4),
    ("length('👍🏽')", 2),
    ("substr(kind, 2, 2)", "af"),
    ("substr(kind, 9)", ""),
    ("kind || '-' || \"select\"", "Café- x "),
    ("concat(kind, cast(null as text))", None),
    ("kind like 'C_f_'", True),
    ("kind like 'c%'", False),
    ("'a.c' like 'abc'", False),
    ("'a\\' like 'a\\'", True),
    ("'a\\%' like 'a\\%'", True),
    ("'Z' < 'a'", True),
    ("'it''s'", "it's"),
    # Casts.
    ("cast('1.50' as decimal(5,2))", Decimal("1.50")),
    ("cast('1.500' as decimal(5,2))", Decimal("1.50")),
    ("cast(trim('1.505') as decimal(5,2))", None),
    ("cast(trim('1e3') as decimal(5,2))", None),
    ("cast(' 1' || '' as decimal(5,2))", None),
    ("cast(trim('1,000') as integer)", None),
    ("cast(trim('NaN') as decimal(5,2))", None),
    ("cast(trim('٣') as integer)", None),
    ("cast(trim('+7.0') as integer)", 7),
    ("cast(trim('9223372036854775808') as integer)", None),
    ("cast(rate as integer)", None),
    ("cast(2.00 as integer)", 2),
    ("cast(1.005 + 0 as decimal(5,2))", None),
    ("cast(500 + 500 as decimal(4,2))", None),
    ("cast(amount as text)", "-2.50"),
    ("cast(share as text)", "-0.0500"),
    ("cast(ok as text)", "true"),
    ("cast('TRUE' as boolean)", True),
    ("cast(trim('yes') as boolean)", None),
    ("cast(trim('2026-02-30') as date)", None),
    ("cast(trim('0000-01-01') as date)", None),
    ("cast(trim('2026-1-1') as date)", None),
    ("cast(at as text)", "2026-12-31T23:59:59.999999Z"),
    ("cast(due as text)", "2026-02-28"),
    ("cast(at as date)", date(2026, 12, 31)),
    ("cast(trim('2026-01-01T00:00') as timestamp) is null", True),
    ("cast(trim('2026-01-01T00:00+05:30') as timestamp) = timestamp '2025-12-31 18:30Z'", True),
    ("cast(trim('0001-01-01T00:00+05:30') as timestamp) is null", True),
    ("cast(due as timestamp) = timestamp '2026-02-28T00:00:00Z'", True),
    # Dates.
    ("weekday(date '2026-11-01')", 7),
    ("weekday(date '2026-11-02')", 1),
    ("year(at) * 10000 + month(at) * 100 + day(at)", 20261231),
    ("date_diff('day', due, date '2026-03-01')", 1),
    ("date_diff('day', date '2024-03-01', date '2024-02-28')", -2),
    ("date_diff('day', at, timestamp '2027-01-01T00:00Z')", 1),
    ("add_days(date '2024-02-28', 2)", date(2024, 3, 1)),
    ("add_days(due, -59)", date(2025, 12, 31)),
    ("add_days(date '9999-12-31', 1)", None),
    ("add_days(date '0001-01-01', -1)", None),
    ("add_days(due, 9223372036854775807)", None),
    ("date_trunc('month', at)", date(2026, 12, 1)),
]


def digits(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    top = 10**precision - 1
    edges = st.sampled_from([0, 1, -1, 5, -5, 50, -50, 250, -250, top, -top])
    return (edges | st.integers(-top, top) | st.integers(-1000, 1000)).map(lambda number: Decimal(f"{number}e-{scale}"))


DATES = st.sampled_from([date(1, 1, 1), date(9999, 12, 31), date(2024, 2, 29), date(2026, 1, 31)]) | st.dates()
TIMES = st.datetimes(timezones=st.just(UTC)) | st.sampled_from([datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)])
TEXTS = st.sampled_from(["", "a", "A", "é", " x", "1", "-1.50", "1.005", "true", "2026-02-29", "2026-01-01T00:00Z", "%", "''"])
TEXTS |= st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
INTEGERS = st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63)]) | st.integers(-(2**63), 2**63 - 1) | st.integers(-50, 50)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    **{name: digits(kind.precision, kind.scale) for name, kind in COLUMNS.items() if kind.kind == "decimal"},
    "n": INTEGERS,
    "kind": TEXTS,
    "select": TEXTS,
    "ok": st.booleans(),
    "due": DATES,
    "at": TIMES,
}

ROWS = st.lists(st.fixed_dictionaries({name: st.none() | value for name, value in VALUES.items()}), min_size=1, max_size=6)
LEAVES: dict[str, list[str]] = {
    "number": [
        "amount",
        "total",
        "rate",
        "fine",
        "share",
        "n",
        "0",
        "1",
        "-1",
        "0.5",
        "2.25",
        "1000000",
        "cast(null as integer)",
    ],
    "text": ["kind", '"select"', "'a'", "''", "'é%'"],
    "boolean": ["ok", "true", "false", "cast(null as boolean)"],
    "date": ["due", "date '2024-02-29'", "cast(at as date)"],
    "timestamp": ["at", "timestamp '2026-11-01T00:00-05:00'", "cast(due as timestamp)"],
}

FORMS: dict[str, list[str]] = {
    "number": [
        *("({number} + {number})", "({number} - {number})", "({number} * {number})", "({number} / {number})"),
        *(
            "({number} % {number})",
            "(- {number})",
            "abs({number})",
            "sign({number})",
            "round({number})",
            "round({number}, 1)",
        ),
        *("floor({number})", "ceil({number})", "least({number}, {number})", "greatest({number}, {number}, null)"),
        *(
            "coalesce({number}, {number})",
            "nullif({number}, {number})",
            "length({text})",
            "year({date})",
            "day({timestamp})",
        ),
        *(
            "weekday({timestamp})",
            "month({date})",
            "date_diff('day', {date}, {timestamp})",
            "cast({text} as decimal(6,2))",
        ),
        *("cast({number} as decimal(9,1))", "cast({number} as integer)", "cast({text} as integer)"),
        "case when {boolean} then {number} when {boolean} then {number} else {number} end",
    ],
    "text": [
        *(
            "upper({text})",
            "lower({text})",
            "trim({text})",
            "substr({text}, 2)",
            "substr({text}, 1, 2)",
            "({text} || {text})",
        ),
        *("cast({number} as text)", "cast({boolean} as text)", "cast({date} as text)", "cast({timestamp} as text)"),
        "coalesce({text}, {text})",
    ],
    "boolean": [
        *(
            "({number} = {number})",
            "({number} < {number})",
            "({text} <> {text})",
            "({text} <= {text})",
            "({date} > {date})",
        ),
        *(
            "({timestamp} >= {timestamp})",
            "({boolean} = {boolean})",
            "({boolean} and {boolean})",
            "({boolean} or {boolean})",
        ),
        *("(not {boolean})", "({number} is null)", "({text} is not null)", "({number} in ({number}, 1, null))"),
        *(
            "({text} not in ({text}, 'a'))",
            "({number} between {number} and {number})",
            "({text} like 'a%')",
            "({text} like '_')",
        ),
        *("({date} not between {date} and {date})", "cast({text} as boolean)"),
    ],
    "date": [
        *(
            "add_days({date}, {n})",
            "date_trunc('month', {timestamp})",
            "date_trunc('month', {date})",
            "least({date}, {date})",
        ),
        *("cast({text} as date)", "cast({timestamp} as date)"),
    ],
    "timestamp": ["cast({text} as timestamp)", "cast({date} as timestamp)", "greatest({timestamp}, {timestamp})"],
}


@st.composite
def expressions(draw: st.DrawFn, kind: str, depth: int) -> str:
    if kind == "n":
        return draw(st.sampled_from(["n", "1", "-31", "length(kind)"]))
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from(LEAVES[kind]))
    pieces = draw(st.sampled_from(FORMS[kind])).split("{")
    text = pieces[0]
    for piece in pieces[1:]:
        inner, _, rest = piece.partition("}")
        text += draw(expressions(inner, depth - 1)) + rest
    return text


FORM_CASES = [(form, kind) for kind, forms in FORMS.items() for form in forms]
