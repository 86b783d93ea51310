"""The format section of a source: what is written, and what a mistake says."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from recon.intake.converters import Control, Layout

LAYOUT: TypeAdapter[Any] = TypeAdapter(Layout)


def test_a_kind_may_be_written_alone() -> None:
    assert LAYOUT.validate_python("nacha") == LAYOUT.validate_python({"kind": "nacha"})


def test_fields_of_fixed_width_are_ranges_of_characters() -> None:
    layout = LAYOUT.validate_python({"kind": "fixed", "fields": {"account": "1-10", "sign": 11}})
    assert layout.fields == {"account": (1, 10), "sign": (11, 11)}


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ({"kind": "delimited"}, "header\n  Field required"),
        ({"kind": "delimited", "header": True, "delimiter": "\n"}, "can't be a delimiter"),
        ({"kind": "delimited", "header": True, "delimiter": "ab"}, "at most 1 character"),
        ({"kind": "delimited", "header": True, "encoding": "hex"}, "'hex' is no encoding"),
        ({"kind": "fixed", "fields": {"a": "3-1"}}, "3-1 is no range of characters"),
        ({"kind": "fixed", "fields": {"a": "0-1"}}, "0-1 is no range of characters"),
        ({"kind": "fixed", "fields": {"a": "2-9"}, "length": 8}, "ends at character 9, length is 8"),
        ("tab", "does not match any of the expected tags"),
    ],
)
def test_a_mistake_names_the_field_and_the_next_step(written: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        LAYOUT.validate_python(written)


def test_a_control_ties_only_if_both_figures_are_equal() -> None:
    assert Control("line 4", "credits", "1.00", "1.00").ties
    assert not Control("line 4", "credits", "1.00", "1.01").ties
