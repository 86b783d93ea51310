"""Random operations over random tables come to what plain Python says: values, errors, and the order of rows."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import plain_operations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_formulas import VALUE, Wrong

from recon.transformations.formulas.tree import ERRORS
from recon.transformations.run import carry_out, read_request

EXAMPLES = int(os.environ.get("RECON_LAW_EXAMPLES", "25"))
LEFT, RIGHT = {"k": "text", "g": "text", "a": "decimal(9,2)"}, {"k": "text", "a": "decimal(9,2)", "p": "decimal(6,3)"}
KEYS = st.sampled_from(["", "A", "a", "B", "bb", "é", "b*", "?", "a~*"])
NUMBERS = st.sampled_from(["", "x", "1.00", "-2.50", "3.25", "0.00", "7.75"])


def rows(kinds: dict[str, str]) -> st.SearchStrategy[list[dict[str, str]]]:
    texts = {name: KEYS if kind == "text" else NUMBERS for name, kind in kinds.items()}
    return st.lists(st.fixed_dictionaries(texts), max_size=8)


def typed(written: list[dict[str, str]], kinds: dict[str, str]) -> list[dict[str, Any]]:
    def value(text: str, kind: str) -> Any:
        if text == "" or kind == "text":
            return text or None
        return Wrong(VALUE) if text == "x" else Decimal(text)

    return [{name: value(row[name], kind) for name, kind in kinds.items()} for row in written]


NAMES = {"left_names": list(LEFT), "right_names": list(RIGHT)}
BY = st.lists(st.sampled_from(["k", "g"]), min_size=1, max_size=2, unique=True)
GROUPS = BY | st.just([])
OPERATION = st.one_of(
    st.booleans().map(lambda near: {"vlookup": {"in": "right", "key": "k", "take": ["p"], "approximate": near}}),
    st.tuples(
        st.sampled_from([["k"], ["a"], ["k", "a"], ["a", "k"]]),
        st.sampled_from(["exact", "smaller", "larger", "wildcard"]),
        st.sampled_from(["first", "last"]),
        st.sampled_from([{}, {"if_missing": "-1.5"}]),
    )
    .filter(lambda one: one[1] != "wildcard" or one[0][-1] == "k")
    .map(lambda one: {"xlookup": {"in": "right", "key": one[0], "find": one[1], "many": one[2], "take": {"x": "p", "y": "a"}, **one[3]}}),
    st.sampled_from(["inner", "left", "full", "anti"]).map(lambda how: {"join": {"with": "right", "on": ["k"], "how": how}}),
    st.just({"append": {"rows_of": "right"}}),
    st.tuples(BY, st.sampled_from(["sum", "count", "average", "min", "max"])).map(
        lambda one: {"group": {"by": one[0], "values": {"v": {one[1]: "a"}}}}
    ),
    BY.map(lambda on: {"remove_duplicates": {"on": on}}),
    st.tuples(st.sampled_from(["k", "g", "a"]), st.booleans(), st.sampled_from(["k", "a"])).map(
        lambda one: {"sort": {"by": [{"column": one[0], "descending": one[1]}, {"column": one[2]}]}}
    ),
    st.just({"fill_down": {"columns": ["k", "a"]}}),
    st.just({"unpivot": {"columns": ["k", "g"], "names": "name", "values": "value"}}),
    GROUPS.map(lambda by: {"running_total": {"of": "a", "to": "t", "by": by}}),
    st.tuples(GROUPS, st.booleans()).map(lambda one: {"rank": {"of": "a", "to": "t", "by": one[0], "ascending": one[1]}}),
    st.tuples(GROUPS, st.integers(-2, 2)).map(lambda one: {"lag": {"of": "a", "to": "t", "by": one[0], "rows": one[1]}}),
    GROUPS.map(lambda by: {"number_rows": {"to": "t", "by": by}}),
)


def carried_out(operation: dict[str, Any], tables: dict[str, list[dict[str, str]]]) -> list[dict[str, str]]:
    """The rows of the output, as written."""
    with tempfile.TemporaryDirectory() as name:
        folder, ((kind, body),) = Path(name), operation.items()
        inputs = {}
        for table, kinds in (("left", LEFT), ("right", RIGHT)):
            with (folder / f"{table}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, ["row", *kinds])
                writer.writeheader()
                writer.writerows([{"row": number, **row} for number, row in enumerate(tables[table])])
            inputs[table] = {"path": f"{table}.csv", "types": {c: kind for c, kind in kinds.items() if kind != "text"}}
        first = [{"drop": {"table": table, "columns": "row"}} for table in inputs]  # a line of blanks alone is no row
        request = {"inputs": inputs, "operations": [*first, {kind: {"table": "left", **body}}], "memory_limit": "1GB"}
        (folder / "request.json").write_text(json.dumps({**request, "outputs": [{"table": "left", "path": "out.csv"}]}))
        carry_out(read_request(folder / "request.json"))
        with (folder / "out.csv").open(newline="") as file:
            return list(csv.DictReader(file))


def same(found: str, expected: Any) -> bool:
    if expected is None:
        return found == ""
    if expected == "-1.5":
        return Decimal(found) == Decimal(expected)
    if isinstance(expected, Wrong):
        return ERRORS.get(found) == expected.code
    return Decimal(found) == expected if isinstance(expected, Decimal) else found == expected


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(OPERATION, rows(LEFT), rows(RIGHT))
def test_an_operation_comes_to_what_plain_python_says(
    operation: dict[str, Any], left: list[dict[str, str]], right: list[dict[str, str]]
) -> None:
    ((kind, body),) = operation.items()
    plain = {"left": typed(left, LEFT), "right": typed(right, RIGHT)}
    expected = plain_operations.OPERATIONS[kind](plain, {"table": "left", **NAMES, **body})
    found = carried_out(operation, {"left": left, "right": right})
    assert len(found) == len(expected), (found, expected)
    for written, row in zip(found, expected, strict=True):
        assert list(written) == list(row)
        assert all(same(written[name], value) for name, value in row.items()), (written, row)
