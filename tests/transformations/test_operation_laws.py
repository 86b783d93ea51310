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
from any_operations import LEFT, NAMES, OPERATION, RIGHT, Operation, Rows, rows, typed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_functions import Wrong

from recon.transformations.formulas.tree import ERRORS
from recon.transformations.run import carry_out, read_request

EXAMPLES = int(os.environ.get("RECON_LAW_EXAMPLES", "25"))


def carried_out(operations: list[Operation], tables: dict[str, Rows]) -> list[Rows]:
    """The rows that each operation makes of the table ``left``, as written."""
    with tempfile.TemporaryDirectory() as name:
        folder, inputs = Path(name), {}
        for table, kinds in (("left", LEFT), ("right", RIGHT)):
            with (folder / f"{table}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, ["row", *kinds])
                writer.writeheader()
                writer.writerows([{"row": number, **row} for number, row in enumerate(tables[table])])
            inputs[table] = {"path": f"{table}.csv", "types": {c: kind for c, kind in kinds.items() if kind != "text"}}
        steps: list[Operation] = [{"drop": {"table": table, "columns": "row"}} for table in inputs]  # a line of blanks alone is no row
        for number, operation in enumerate(operations):
            ((kind, body),) = operation.items()
            steps.append({kind: {"table": "left", "as": f"out{number}", **body}})
        outputs = [{"table": f"out{number}", "path": f"out{number}.csv"} for number in range(len(operations))]
        request = {"inputs": inputs, "operations": steps, "memory_limit": "1GB", "outputs": outputs}
        (folder / "request.json").write_text(json.dumps(request))
        carry_out(read_request(folder / "request.json"))
        return [list(csv.DictReader((folder / output["path"]).read_text().splitlines())) for output in outputs]


def same(found: str, expected: Any) -> bool:
    if expected is None:
        return found == ""
    if isinstance(expected, Wrong):
        return ERRORS.get(found) == expected.code
    return Decimal(found) == expected if isinstance(expected, Decimal) else found == expected


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(OPERATION, min_size=1, max_size=8), rows(LEFT), rows(RIGHT))
def test_operations_come_to_what_plain_python_says(operations: list[Operation], left: Rows, right: Rows) -> None:
    plain = {"left": typed(left, LEFT), "right": typed(right, RIGHT)}
    for operation, found in zip(operations, carried_out(operations, {"left": left, "right": right}), strict=True):
        ((kind, body),) = operation.items()
        expected = plain_operations.OPERATIONS[kind](plain, {"table": "left", **NAMES, **body})
        assert len(found) == len(expected), (operation, found, expected)
        for written, row in zip(found, expected, strict=True):
            assert list(written) == list(row), operation
            assert all(same(written[name], value) for name, value in row.items()), (operation, written, row)
