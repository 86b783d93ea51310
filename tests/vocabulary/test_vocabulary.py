"""The vocabulary: what an expression means, that DuckDB agrees with the reference, what is refused and how."""

from __future__ import annotations

from typing import Any

import pytest
from expressions import (
    COLUMNS,
    FORM_CASES,
    FORMS,
    LEAVES,
    MEANINGS,
    ROW,
    ROWS,
    expressions,
    in_duckdb,
    in_reference,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recon.errors import WrongUsage
from recon.vocabulary import emit_duckdb, parse_expression, parse_type


@pytest.mark.parametrize(("text", "meaning"), MEANINGS, ids=[text for text, _ in MEANINGS])
def test_an_expression_means_what_its_rule_says_in_the_reference_and_in_duckdb(text: str, meaning: object) -> None:
    kind, values = in_duckdb(text, [ROW])
    assert in_reference(text, [ROW]) == [meaning]
    assert values == [meaning]
    assert kind == parse_expression(text, COLUMNS, "test").type.duckdb


def test_a_division_stays_one_line_of_linear_length_however_deep_it_nests() -> None:
    names = {name: name for name in COLUMNS}

    def size(depth: int) -> int:
        return len(emit_duckdb(parse_expression("amount" + " / 2" * depth, COLUMNS, "f"), names))

    assert size(10) - size(9) == size(9) - size(8)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(FORMS)).flatmap(lambda kind: expressions(kind, 3)), ROWS)
def test_duckdb_gives_the_reference_value_and_type_for_any_expression_on_any_row(text: str, rows: list[dict[str, Any]]) -> None:
    try:
        expression = parse_expression(text, COLUMNS, "test")
    except WrongUsage as refused:
        assert "more than 38 digits" in str(refused) or "not a" in str(refused)  # noqa: PT017 - the only reasons here
        return
    kind, values = in_duckdb(text, rows)
    assert kind == expression.type.duckdb
    assert values == in_reference(text, rows)


@settings(max_examples=2, deadline=None)
@given(st.data())
def test_every_form_agrees_over_edge_rows(data: st.DataObject) -> None:
    rows = data.draw(ROWS)
    for form, _ in FORM_CASES:
        text = form
        for inner in ("number", "text", "boolean", "date", "timestamp"):
            while "{" + inner + "}" in text:
                text = text.replace("{" + inner + "}", data.draw(st.sampled_from(LEAVES[inner])), 1)
        text = text.replace("{n}", "n")
        _, values = in_duckdb(text, rows) if _accepted(text) else ("", [])
        if _accepted(text):
            assert values == in_reference(text, rows), text


def _accepted(text: str) -> bool:
    try:
        parse_expression(text, COLUMNS, "test")
    except WrongUsage:
        return False
    return True


REFUSALS = [
    ("", "the expression is empty"),
    ("amuont + 1", "'amuont' is not known here; did you mean amount? (at column 1"),
    ("1 + rownd(amount)", "rownd is not part of the vocabulary; did you mean round? (at column 5"),
    ("amount = ", "something is missing here"),
    ("kind > 1", "declare kind under events.types"),
    ("due > '2026-01-01'", "write date '2026-01-01'"),
    ("amount = null", "write 'is null'"),
    ("null", "null has no type of its own"),
    ("amount and ok", "and needs boolean, not decimal(18,2) (at column 1"),
    ("cast(amount as double)", "does not hold money exactly"),
    ("cast(amount as decimal)", "needs its digits"),
    ("timestamp '2026-01-01T00:00'", "needs a zone"),
    ("date '2026-02-30'", "is not a date"),
    ("amount in (select 1)", "subquery"),
    ("(select 1)", "not part of the vocabulary"),
    ("select 1", "not part of the vocabulary"),
    ("sum(amount)", "not part of the vocabulary"),
    ("lower(kind) over ()", "not part of the vocabulary"),
    ("nvl(amount, 0)", "not part of the vocabulary"),
    ("read_csv('x')", "not part of the vocabulary"),
    ("now()", "not part of the vocabulary"),
    ("amount // 2", "not part of the vocabulary"),
    ("amount ** 2", "not part of the vocabulary"),
    ("kind like 'a' escape 'b'", "not part of the vocabulary"),
    ('kind like "select"', "like needs a pattern in quotes"),
    ("x -> x", "not part of the vocabulary"),
    ("$x", "a parameter"),
    ("amount; kind", "';'"),
    ("t.amount", "names have no prefix"),
    ("1e5", "is not a number here"),
    ("amount --n", "begin a comment"),
    ("amount /* n */ + 1", "begin a comment"),
    ("fine * fine * fine", "more than 38 digits after the point"),
    ("'open", "not closed"),
    ("kind = '\0'", "no NUL character"),
    ("(" * 200 + "1" + ")" * 200, "nest at most 16"),
    ("not " * 500 + "ok", "nested too deep"),
    ("+".join(["1"] * 300), "more than 100 operations deep"),
    ("1 in (" + ",".join(["1"] * 3000) + ")", "at most 4000 characters"),
]


@pytest.mark.parametrize(("text", "said"), REFUSALS, ids=[text[:30] for text, _ in REFUSALS])
def test_what_is_not_in_the_vocabulary_is_refused_in_one_line_that_names_field_and_place(text: str, said: str) -> None:
    with pytest.raises(WrongUsage) as caught:
        parse_expression(text, COLUMNS, "derived.x")
    message = str(caught.value)
    assert message.startswith("derived.x: ")
    assert said in message
    assert "(at column " in message
    assert "\n" not in message


WORDS = [
    "amount",
    "n",
    "(",
    ")",
    "case",
    "when",
    "then",
    "end",
    "not",
    "in",
    "is",
    "null",
    "+",
    "-",
    ",",
    "'",
    '"',
    "::",
    "[",
]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40) | st.lists(st.sampled_from(WORDS)).map(" ".join))
@example("--")
@example("/* */ -- x")
def test_no_text_whatever_does_anything_but_parse_or_be_refused(text: str) -> None:
    try:
        expression = parse_expression(text, COLUMNS, "f")
    except WrongUsage as refused:
        assert "\n" not in str(refused)  # noqa: PT017
    else:
        assert expression.columns <= set(COLUMNS)


def test_columns_that_are_read_are_named_and_spacing_is_no_part_of_the_meaning() -> None:
    one = parse_expression("coalesce(amount,0)+n", COLUMNS, "f")
    two = parse_expression("( coalesce(amount, 0)\n  +  (n) )", COLUMNS, "f")
    assert one.columns == {"amount", "n"}
    assert one.tree == two.tree
    assert one.tree.canonical == two.tree.canonical
    assert one.tree.canonical != parse_expression("n + coalesce(amount, 0)", COLUMNS, "f").tree.canonical


TYPES = [("decimal(18,2)", "decimal(18,2)"), ("NUMERIC( 9 )", "decimal(9,0)"), ("int", "integer"), ("string", "text")]
TYPES += [("bool", "boolean"), ("date", "date"), ("timestamptz", "timestamp")]


@pytest.mark.parametrize(("text", "name"), TYPES)
def test_types_have_the_usual_names(text: str, name: str) -> None:
    assert str(parse_type(text, "f")) == name


@pytest.mark.parametrize("text", ["float", "double precision", "REAL", "decimal", "decimal(39,2)", "decimal(2,3)", "date(3)", "money", ""])
def test_a_type_that_is_inexact_or_unknown_is_refused_by_field(text: str) -> None:
    with pytest.raises(WrongUsage, match=r"^events\.types\.x: "):
        parse_type(text, "events.types.x")
