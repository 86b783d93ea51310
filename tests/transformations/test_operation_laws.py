"""Random operations over random tables come to what plain Python says: values, errors, and the order of rows."""

from __future__ import annotations

import os

import plain_operations
from any_operations import LEFT, NAMES, OPERATION, RIGHT, Operation, Rows, carried_out, every_operation, every_value, rows, same, typed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.transformations.request.model import KINDS

EXAMPLES = int(os.environ.get("RECON_LAW_EXAMPLES", "15"))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(OPERATION, min_size=1, max_size=16), rows(LEFT), rows(RIGHT))
def test_operations_come_to_what_plain_python_says(operations: list[Operation], left: Rows, right: Rows) -> None:
    compared(operations, left, right)


def test_each_operation_in_each_form_comes_to_what_plain_python_says() -> None:
    operations = every_operation()
    for first in range(0, len(operations), 50):
        compared(operations[first : first + 50], *every_value())


def compared(operations: list[Operation], left: Rows, right: Rows) -> None:
    plain = {"left": typed(left, LEFT), "right": typed(right, RIGHT)}
    for operation, found in zip(operations, carried_out(operations, {"left": left, "right": right}), strict=True):
        ((kind, body),) = operation.items()
        expected = plain_operations.OPERATIONS[kind](plain, {"table": "left", **NAMES, **body})
        assert len(found) == len(expected), (operation, found, expected)
        for written, row in zip(found, expected, strict=True):
            assert list(written) == list(row), operation
            assert all(same(written[name], value) for name, value in row.items()), (operation, written, row)


def test_plain_python_knows_every_operation() -> None:
    alike = {"sumif", "countif", "averageif"}  # the same as those with an s
    assert set(plain_operations.OPERATIONS) | alike | {"compute"} == set(KINDS)
