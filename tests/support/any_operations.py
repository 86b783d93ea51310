"""Random operations over two small tables, ``left`` and ``right``, for the laws of operations."""

from __future__ import annotations

import csv
import json
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from plain_functions import VALUE, Wrong

from recon.transformations.formulas.tree import ERRORS
from recon.transformations.run import carry_out, read_request

Rows = list[dict[str, str]]
Operation = dict[str, dict[str, Any]]
LEFT, RIGHT = {"k": "text", "g": "text", "a": "decimal(9,2)"}, {"k": "text", "a": "decimal(9,2)", "p": "decimal(6,3)"}
NAMES = {"left_names": list(LEFT), "right_names": list(RIGHT)}
KEY_TEXTS = ("", "A", "a", "B", "bb", "b*", "?", "7", "07.0", "é", "b~*")
NUMBER_TEXTS = ("", "x", "1.00", "-2.50", "3.25", "0.00", "7.75")
KEYS, NUMBERS = st.sampled_from(KEY_TEXTS), st.sampled_from(NUMBER_TEXTS)
BY = st.lists(st.sampled_from(["k", "g"]), min_size=1, max_size=2, unique=True)
GROUPS = BY | st.just([])
CRITERION = {
    "k": ["a", "=B", "<>bb", "b*", "=~?", "<>?", "", "=", "<>", ">a", "<=B", "7", "<>7", "#VALUE!"],
    "a": ["1", "=3.25", "<>1.0", ">=0.001", "<1.005", "", "=", "<>", "#VALUE!", "<>#VALUE!"],
}
OF_ROW = {
    "k": [{"column": "g"}, {"column": "a"}, *({"column": "g", "is": sign} for sign in ("<>", "<", ">="))],
    "a": [{"column": "a"}, {"column": "g"}, *({"column": "a", "is": sign} for sign in ("<>", "<", ">="))],
}


def rows(kinds: dict[str, str]) -> st.SearchStrategy[Rows]:
    texts = {name: KEYS if kind == "text" else NUMBERS for name, kind in kinds.items()}
    row = st.fixed_dictionaries(texts)
    return st.lists(row, min_size=5, max_size=9) | st.lists(row, max_size=8)


def typed(written: Rows, kinds: dict[str, str]) -> list[dict[str, Any]]:
    """The rows as the oracle has them; ``x`` is no number."""

    def value(text: str, kind: str) -> Any:
        if text == "" or kind == "text":
            return text or None
        return Wrong(VALUE) if text == "x" else Decimal(text)

    return [{name: value(row[name], kind) for name, kind in kinds.items()} for row in written]


def criteria(of_rows: bool) -> st.SearchStrategy[dict[str, Any]]:
    one = {name: st.sampled_from(CRITERION[name]) | st.sampled_from(OF_ROW[name] if of_rows else CRITERION[name]) for name in CRITERION}
    return st.one_of(*(st.fixed_dictionaries({name: one[name]}) for name in one), st.fixed_dictionaries(one))


def _lookup(key: list[str], find: str, many: str, missing: dict[str, Any]) -> Operation:
    return {"xlookup": {"in": "right", "key": key, "find": find, "many": many, "take": {"x": "p", "y": "a"}, **missing}}


FINDING = st.one_of(
    st.booleans().map(lambda near: {"vlookup": {"in": "right", "key": "k", "take": ["p"], "approximate": near}}),
    st.builds(
        _lookup,
        st.sampled_from([["k"], ["a"], ["k", "a"], ["a", "k"]]),
        st.sampled_from(["exact", "smaller", "larger"]),
        st.sampled_from(["first", "last"]),
        st.sampled_from([{}, {"if_missing": "-1.5"}]),
    ),
    st.builds(_lookup, st.sampled_from([["k"], ["a", "k"]]), st.just("wildcard"), st.sampled_from(["first", "last"]), st.just({})),
)
FITTING = st.one_of(
    criteria(False).map(lambda given: {"filter": {"criteria": given}}),
    criteria(True).map(lambda given: {"countifs": {"in": "right", "to": "t", "criteria": given}}),
    st.builds(
        lambda kind, given: {kind: {"in": "right", "to": "t", "criteria": given, "of": "p"}},
        st.sampled_from(["sumifs", "averageifs", "minifs", "maxifs"]),
        criteria(True),
    ),
)
TOGETHER = st.one_of(
    st.sampled_from(["inner", "left", "right", "full", "anti"]).map(lambda how: {"join": {"with": "right", "on": ["k"], "how": how}}),
    st.sampled_from([["right"], ["right", "left"]]).map(lambda others: {"append": {"rows_of": others}}),
)
GROUPING = st.one_of(
    st.builds(
        lambda by, kind: {"group": {"by": by, "values": {"v": {kind: "a"}}}},
        BY,
        st.sampled_from(["sum", "count", "average", "min", "max", "median", "count_distinct", "first", "last"]),
    ),
    st.builds(lambda by, kind: {"group": {"by": by, "values": {"v": {kind: "k"}}}}, BY, st.sampled_from(["count_distinct", "first"])),
    st.builds(
        lambda rows, columns, kinds, totals: {
            "pivot": {"rows": rows, "columns": columns, "values": {f"v{at}": {k: "a"} for at, k in enumerate(kinds)}, "totals": totals}
        },
        BY,
        st.sampled_from(["k", "g"]),
        st.lists(st.sampled_from(["sum", "count", "average", "max", "count_distinct"]), min_size=1, max_size=2),
        st.booleans(),
    ),
    st.just({"unpivot": {"columns": ["k", "g"], "names": "name", "values": "value"}}),
)
COLUMNS = st.one_of(
    st.permutations(["k", "g", "a"]).map(lambda columns: {"select": {"columns": columns[:2]}}),
    st.sampled_from(["k", "g", "a"]).map(lambda column: {"drop": {"columns": [column]}}),
    st.sampled_from([{"k": "g", "g": "k"}, {"a": "A b"}]).map(lambda columns: {"rename": {"columns": columns}}),
)
ROWS = st.one_of(
    BY.map(lambda on: {"remove_duplicates": {"on": on}}),
    st.builds(
        lambda one, descending, two: {"sort": {"by": [{"column": one, "descending": descending}, {"column": two}]}},
        st.sampled_from(["k", "g", "a"]),
        st.booleans(),
        st.sampled_from(["k", "a"]),
    ),
)
OTHER_ROWS = st.one_of(
    st.just({"fill_down": {"columns": ["k", "a"]}}),
    GROUPS.map(lambda by: {"running_total": {"of": "a", "to": "t", "by": by}}),
    st.builds(lambda by, least: {"rank": {"of": "a", "to": "t", "by": by, "ascending": least}}, GROUPS, st.booleans()),
    st.builds(lambda by, rows: {"lag": {"of": "a", "to": "t", "by": by, "rows": rows}}, GROUPS, st.integers(-2, 2)),
    st.builds(lambda by, rows: {"lead": {"of": "k", "to": "t", "by": by, "rows": rows}}, GROUPS, st.integers(0, 2)),
    GROUPS.map(lambda by: {"number_rows": {"to": "t", "by": by}}),
    GROUPS.map(lambda by: {"share": {"of": "a", "to": "t", "by": by}}),
)
PICKING = st.one_of(
    st.builds(lambda by, rows: {"limit": {"rows": rows, "by": by}}, GROUPS, st.integers(1, 3)),
    st.builds(
        lambda by, rows, of, least: {"top": {"rows": rows, "by": by, "of": of, "ascending": least}},
        *(GROUPS, st.integers(1, 3), st.sampled_from(["a", "g"]), st.booleans()),
    ),
    st.builds(lambda by, rows, seed: {"sample": {"rows": rows, "by": by, "seed": seed}}, GROUPS, st.integers(1, 3), st.integers(-9, 9)),
    st.builds(lambda share, seed: {"sample": {"share": share, "seed": seed}}, st.sampled_from(["0.3", "0.5", "1"]), st.integers(-9, 9)),
)
VALUES = st.one_of(
    st.builds(
        lambda k, a: {"cast": {"columns": {"k": k, "a": a}}},
        st.sampled_from(["integer", "decimal(9,1)", "text"]),
        st.sampled_from(["integer", "decimal(9,1)", "decimal(12,4)", "text"]),
    ),
    st.builds(
        lambda by, how: {"split": {"column": "k", "by": by, **how}},
        st.sampled_from(["b", "~", "7.", "bb"]),
        st.sampled_from([{"into": ["x"]}, {"into": ["x", "y"]}, {"into": ["x", "y", "z"]}, {"rows": True}]),
    ),
)
OPERATION: st.SearchStrategy[Operation] = st.one_of(
    FINDING, FITTING, FITTING, TOGETHER, GROUPING, ROWS, OTHER_ROWS, PICKING, VALUES, COLUMNS
)


def every_value() -> tuple[Rows, Rows]:
    """A left and a right table in which every key and every number occurs, beside several others."""
    keys, numbers = KEY_TEXTS, NUMBER_TEXTS
    left = [{"k": keys[at % 11], "g": keys[(3 * at + 1) % 11], "a": numbers[2 * at % 7]} for at in range(22)]
    right = [{"k": keys[4 * at % 11], "a": numbers[at % 7], "p": numbers[(5 * at + 3) % 7]} for at in range(22)]
    return left, right


def every_operation() -> list[Operation]:
    """Each operation in each of its forms, once: what chance may not come by."""
    found: list[Operation] = []
    for name, constants in CRITERION.items():
        found += [{"filter": {"criteria": {name: one}}} for one in constants]
        found += [{"countifs": {"in": "right", "to": "t", "criteria": {name: one}}} for one in (*constants, *OF_ROW[name])]
    for kind in ("sumifs", "averageifs", "minifs", "maxifs"):
        for one in ("b*", "=B", *OF_ROW["k"]):
            found.append({kind: {"in": "right", "to": "t", "of": "p", "criteria": {"k": one, "a": "<>#VALUE!"}}})
    for many in ("first", "last"):
        found += [_lookup(key, find, many, {}) for key in (["k"], ["a"], ["k", "a"]) for find in ("exact", "smaller", "larger")]
        found += [_lookup(key, "wildcard", many, {}) for key in (["k"], ["a", "k"])]
    for kind in ("sum", "count", "average", "min", "max", "median", "count_distinct", "first", "last"):
        found += [{"group": {"by": by, "values": {"v": {kind: "a"}}}} for by in (["k"], ["g"])]
        for rows_, totals in ((["k"], True), (["g", "k"], False)) if kind in ("average", "count", "first") else ():
            values = {"v": {kind: "a"}, "w": {"sum": "a"}}
            found.append({"pivot": {"rows": rows_, "columns": "g" if totals else "k", "values": values, "totals": totals}})
    for how in ("inner", "left", "right", "full", "anti"):
        found += [{"join": {"with": "right", "on": on, "how": how}} for on in (["k"], ["k", "a"])]
    for kind in ("integer", "decimal(9,1)", "text"):
        found.append({"cast": {"columns": {"k": kind, "a": kind}}})
    for how in ({"into": ["x", "y"]}, {"into": ["x", "y", "z"]}, {"rows": True}):
        found += [{"split": {"column": "k", "by": by, **how}} for by in ("b", "bb", "7.")]
    found += [
        {"share": {"of": "a", "to": "t", "by": ["k"]}},
        {"lag": {"of": "a", "to": "t", "rows": 2}},
        {"lead": {"of": "k", "to": "t", "rows": 1}},
    ]
    for least in (True, False):
        found += [{"top": {"rows": 2, "by": by, "of": of, "ascending": least}} for by in ([], ["k"]) for of in ("a", "g")]
        found += [{"rank": {"of": "a", "to": "t", "by": by, "ascending": least}} for by in ([], ["k"])]
    return found


def carried_out(operations: list[Operation], tables: dict[str, Rows], files: int = 1, **more: Any) -> list[Rows]:
    """The rows that each operation makes of the table ``left``, as written. ``files``: over which the rows of each table are spread;
    ``more``: of the request."""
    with tempfile.TemporaryDirectory() as name:
        folder, inputs = Path(name), {}
        for table, kinds in (("left", LEFT), ("right", RIGHT)):
            (folder / table).mkdir()
            numbered = [{"row": number, **row} for number, row in enumerate(tables[table])]
            for place in range(files):
                with (folder / table / f"{place}.csv").open("w", newline="") as file:
                    writer = csv.DictWriter(file, ["row", *kinds])
                    writer.writeheader()
                    writer.writerows(numbered[place * len(numbered) // files : (place + 1) * len(numbered) // files])
            inputs[table] = {"path": table, "types": {c: kind for c, kind in kinds.items() if kind != "text"}}
        steps: list[Operation] = [{"drop": {"table": table, "columns": "row"}} for table in inputs]  # a line of blanks alone is no row
        for number, operation in enumerate(operations):
            ((kind, body),) = operation.items()
            steps.append({kind: {"table": "left", "as": f"out{number}", **body}})
        outputs = [{"table": f"out{number}", "path": f"out{number}.csv"} for number in range(len(operations))]
        request = {"inputs": inputs, "operations": steps, "memory_limit": "1GB", "outputs": outputs, **more}
        (folder / "request.json").write_text(json.dumps(request))
        carry_out(read_request(folder / "request.json"))
        return [list(csv.DictReader((folder / output["path"]).read_text().splitlines())) for output in outputs]


def same(found: str, expected: Any) -> bool:
    if expected is None:
        return found == ""
    if isinstance(expected, Wrong):
        return ERRORS.get(found) == expected.code
    return Decimal(found) == expected if isinstance(expected, Decimal) else found == expected
