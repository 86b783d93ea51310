"""One vocabulary, two engines: DuckDB and Spark give the reference's value and type for every rule, edge and random expression."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from engines import in_spark
from expressions import COLUMNS, FORM_CASES, FORMS, LEAVES, MEANINGS, ROW, ROWS, expressions, in_duckdb, in_reference
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from recon.errors import WrongUsage
from recon.vocabulary import Expression, parse_expression

EXAMPLES = int(os.environ.get("RECON_SPARK_EXAMPLES", "2"))
NINES = "9" * 38
EMPTY: dict[str, Any] = dict.fromkeys(COLUMNS)
ODD: dict[str, Any] = {
    **EMPTY,
    "amount": Decimal("0.01"),
    "total": Decimal(f"-{'9' * 36}.99"),
    "rate": Decimal("-0.500000"),
    "fine": Decimal(f"{'9' * 20}.{'9' * 18}"),
    "share": Decimal("0.9999"),
    "n": -(2**63),
    "kind": "",
    "select": "👍🏽é\n\\%_'",
    "ok": False,
    "due": date(2024, 2, 29),
    "at": datetime(1, 1, 1, tzinfo=UTC),
}
EDGES: list[tuple[str, list[object]]] = [
    # Each value is that of the row of nulls, then of the odd row.
    ("amount + total", [None, Decimal(f"-{'9' * 36}.98")]),
    ("amount / amount", [None, Decimal("1.0000000000")]),
    ("amount / (amount - amount)", [None, None]),
    ("n / 0", [None, None]),
    ("n % 0", [None, None]),
    ("n % -1", [None, 0]),
    ("-n", [None, None]),
    ("abs(n)", [None, None]),
    ("n - 1", [None, None]),
    ("n * -1", [None, None]),
    ("sign(n)", [None, -1]),
    (f"{NINES} + share", [None, None]),
    (f"{NINES} / 1", [None, None]),
    (f"{NINES} - {NINES}", [0, 0]),
    (f"-{NINES} / {NINES}", [None, None]),
    ("1000000000000000000000000000 / 3", [Decimal("333333333333333333333333333.3333333333")] * 2),
    ("9999999999999999999999999999 / 9999999999999999999999999998", [Decimal("1.0000000000")] * 2),
    ("9999999999999999999999999999 / 10000000000000000000", [Decimal("1000000000.0000000000")] * 2),
    ("12345678901234567890123456.78 / 0.01", [Decimal("1234567890123456789012345678.0000000000")] * 2),
    ("1234567890123456789012345.67 / 0.07", [Decimal("17636684144620811271604938.1428571429")] * 2),
    ("0.00000000005 / 1", [Decimal("0.0000000001")] * 2),
    ("0.00000000004999999999999999999 / 1", [Decimal(0)] * 2),
    ("-0.00000000005 / 1", [Decimal("-0.0000000001")] * 2),
    ("0.5 / -1000000000000", [Decimal(0)] * 2),
    ("fine * fine", [None, None]),
    ("fine + fine", [None, None]),
    # Engines' own ways round these lose digits, or fail.
    ("-total", [None, Decimal(f"{'9' * 36}.99")]),
    ("abs(total)", [None, Decimal(f"{'9' * 36}.99")]),
    ("1 / total", [None, Decimal(0)]),
    ("total / total", [None, None]),
    ("fine / 1", [None, None]),
    ("cast(n as decimal(19,0)) * cast(n as decimal(19,0))", [None, Decimal(2**126)]),
    ("rate * rate * 4000000000000", [None, Decimal("1000000000000")]),
    ("cast(-999999.999999 as decimal(12,6)) * cast(-999999.999999 as decimal(12,6))", [Decimal("999999999998.000000000001")] * 2),
    ("round(share, 3)", [None, Decimal("1.000")]),
    ("round(rate)", [None, Decimal(-1)]),
    ("round(0.5)", [Decimal(1)] * 2),
    ("round(-0.5)", [Decimal(-1)] * 2),
    ("round(1.005, 2)", [Decimal("1.01")] * 2),
    ("round(-1.005, 2)", [Decimal("-1.01")] * 2),
    ("round(total, 1)", [None, Decimal(f"-1{'0' * 36}.0")]),
    ("floor(fine)", [None, Decimal("9" * 20)]),
    ("ceil(rate)", [None, Decimal(0)]),
    # Numbers as text, and text that looks like one.
    ("cast('NaN' || '' as decimal(18,2))", [None, None]),
    ("cast('Infinity' || '' as decimal(18,2))", [None, None]),
    ("cast(kind as decimal(18,2))", [None, None]),
    ("cast(kind as integer)", [None, None]),
    ("cast(kind as boolean)", [None, None]),
    ("cast(kind as date)", [None, None]),
    ("cast(kind as timestamp) is null", [True, True]),
    ("cast(concat('1', '\n') as integer)", [None, None]),
    ("cast('-0.00' || '' as decimal(3,2))", [Decimal("0.00")] * 2),
    ("cast(cast('-0.00' || '' as decimal(3,2)) as text)", ["0.00"] * 2),
    (f"cast('{'0' * 50}7' || '' as integer)", [7, 7]),
    ("cast(fine as text)", [None, f"{'9' * 20}.{'9' * 18}"]),
    ("cast(cast(1 as decimal(38,30)) / 10000000000000 as text)", ["0.0000000000"] * 2),
    ("cast(cast('0.000000000000000001' as decimal(38,18)) + 0 as text)", ["0.000000000000000001"] * 2),
    ("cast(n as text)", [None, "-9223372036854775808"]),
    ("cast(n as decimal(18,0))", [None, None]),
    ("cast(total as integer)", [None, None]),
    # Empty strings and Unicode.
    ("kind = ''", [None, True]),
    ("length(kind)", [None, 0]),
    ("kind || 'x'", [None, "x"]),
    ('length("select")', [None, 8]),
    ('substr("select", 1, 2)', [None, "👍🏽"]),
    ('substr("select", 3, 1)', [None, "é"]),
    ('substr("select", 100)', [None, ""]),
    ('upper("select")', [None, "👍🏽é\n\\%_'"]),
    ("\"select\" like '%\\%'", [None, True]),
    ("\"select\" like '__é_%'", [None, True]),
    ("\"select\" like '__\\%'", [None, False]),
    ("'ß' < 'ÿ'", [True, True]),
    ("'\U0001f44d' > '\uffee'", [True, True]),
    ("trim('\u00a0 a \u00a0')", ["\u00a0 a \u00a0"] * 2),
    ("lower('İIſK')", ["İiſk"] * 2),
    # Days, month ends, leap days, weekdays, the first and the last there are.
    ("add_days(due, 1)", [None, date(2024, 3, 1)]),
    ("add_days(due, 366)", [None, date(2025, 3, 1)]),
    ("add_days(date '2023-02-28', 1)", [date(2023, 3, 1)] * 2),
    ("add_days(date '1900-02-28', 1)", [date(1900, 3, 1)] * 2),
    ("add_days(date '2000-02-28', 1)", [date(2000, 2, 29)] * 2),
    ("add_days(date '1582-10-04', 1)", [date(1582, 10, 5)] * 2),
    ("add_days(due, n)", [None, None]),
    ("add_days(date '0001-01-01', 3652058)", [date(9999, 12, 31)] * 2),
    ("date_diff('day', date '0001-01-01', date '9999-12-31')", [3652058] * 2),
    ("date_diff('day', at, due)", [None, 738944]),
    ("date_trunc('month', due)", [None, date(2024, 2, 1)]),
    ("date_trunc('month', at)", [None, date(1, 1, 1)]),
    ("year(at)", [None, 1]),
    ("weekday(due)", [None, 4]),
    ("weekday(at)", [None, 1]),
    *((f"weekday(date '2026-11-{day:02}')", [place] * 2) for place, day in enumerate(range(2, 9), 1)),
    ("cast(at as text)", [None, "0001-01-01T00:00:00.000000Z"]),
    ("cast(timestamp '1969-12-31T23:59:59.999999Z' as text)", ["1969-12-31T23:59:59.999999Z"] * 2),
    ("cast(timestamp '1969-12-31T23:59:59.999999Z' as date)", [date(1969, 12, 31)] * 2),
    ("cast(trim('2026-03-08T02:30:00-05:00') as timestamp) = timestamp '2026-03-08T07:30Z'", [True, True]),
    ("cast(trim('2026-03-08 02:30:00.5Z') as timestamp) = timestamp '2026-03-08T02:30:00.500000Z'", [True, True]),
    ("cast(trim('9999-12-31T23:59:59-14:59') as timestamp) is null", [True, True]),
    ("cast(trim('2026-11-31') as date)", [None, None]),
    ("cast(trim('2024-02-29') as date)", [date(2024, 2, 29)] * 2),
    ("cast(trim('2100-02-29') as date)", [None, None]),
    # Null among values.
    ("least(amount, n, null)", [None, Decimal("-9223372036854775808.00")]),
    ("greatest(due, cast(at as date), null)", [None, date(2024, 2, 29)]),
    ("coalesce(kind, 'none')", ["none", ""]),
    ("kind in ('a', null)", [None, None]),
    ("kind not in ('', null)", [None, False]),
    ("ok = (n is null)", [None, True]),
    ("case when ok then 1 when not ok then 2 else 3 end", [3, 2]),
]


def checked(text: str) -> Expression:
    return parse_expression(text, COLUMNS, "test")


def test_spark_gives_the_meaning_and_the_type_of_every_rule() -> None:
    found = in_spark([checked(text) for text, _ in MEANINGS], COLUMNS, [ROW])
    assert {text: values for (text, _), values in zip(MEANINGS, found, strict=True)} == {text: [meaning] for text, meaning in MEANINGS}


def test_both_engines_give_the_value_of_every_edge() -> None:
    expected = dict(EDGES)
    assert {text: in_reference(text, [EMPTY, ODD]) for text in expected} == expected
    assert {text: in_duckdb(text, [EMPTY, ODD])[1] for text in expected} == expected
    found = in_spark([checked(text) for text in expected], COLUMNS, [EMPTY, ODD])
    assert dict(zip(expected, found, strict=True)) == expected


def accepted(texts: list[str]) -> list[str]:
    kept = []
    for text in dict.fromkeys(texts):
        try:
            checked(text)
        except WrongUsage:
            continue
        kept.append(text)
    return kept


@settings(max_examples=EXAMPLES, deadline=None, phases=(Phase.explicit, Phase.generate), suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(sorted(FORMS)).flatmap(lambda kind: expressions(kind, 3)), min_size=25, max_size=25), ROWS)
def test_both_engines_give_the_reference_value_for_any_expressions_on_any_rows(texts: list[str], rows: list[dict[str, Any]]) -> None:
    asked = accepted(texts)
    expected = {text: in_reference(text, rows) for text in asked}
    assert {text: in_duckdb(text, rows)[1] for text in asked} == expected
    assert dict(zip(asked, in_spark([checked(text) for text in asked], COLUMNS, rows), strict=True)) == expected


@settings(max_examples=EXAMPLES, deadline=None, phases=(Phase.explicit, Phase.generate), suppress_health_check=list(HealthCheck))
@given(st.data())
def test_every_form_agrees_on_both_engines_over_edge_rows(data: st.DataObject) -> None:
    rows, texts = data.draw(ROWS), []
    for form, _ in FORM_CASES:
        text = form.replace("{n}", "n")
        for inner in ("number", "text", "boolean", "date", "timestamp"):
            while "{" + inner + "}" in text:
                text = text.replace("{" + inner + "}", data.draw(st.sampled_from(LEAVES[inner])), 1)
        texts.append(text)
    asked = accepted(texts)
    expected = {text: in_reference(text, rows) for text in asked}
    assert {text: in_duckdb(text, rows)[1] for text in asked} == expected
    assert dict(zip(asked, in_spark([checked(text) for text in asked], COLUMNS, rows), strict=True)) == expected


def test_an_expression_of_spark_stays_one_line_of_linear_length_however_deep_it_nests() -> None:
    from recon.vocabulary import emit_spark

    def size(depth: int) -> int:
        return len(emit_spark(checked("amount" + " / 2" * depth), {name: name for name in COLUMNS}))

    assert size(10) - size(9) == size(9) - size(8)


@pytest.mark.parametrize("name", ["spark.sql.ansi.enabled", "spark.sql.decimalOperations.allowPrecisionLoss", "spark.sql.session.timeZone"])
def test_the_session_has_the_settings_that_meaning_rests_on(name: str) -> None:
    from engines import spark

    from recon.vocabulary.spark import SETTINGS

    assert spark().conf.get(name) == SETTINGS[name]
