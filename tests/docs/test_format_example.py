"""docs/format.md: its example is decoded by the page's own code, and this code decodes any record of any form."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from any_record import forms, records
from folders import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_words import encoded

from recon.model.form import read_head
from recon.model.record import full

PAGE = (ROOT / "docs/format.md").read_text(encoding="utf-8").partition("## Example")[2]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
HEAD_LINES, RECORD_LINES = (text.splitlines() for kind, text in BLOCKS if kind == "hex")
(SHOWN,) = (json.loads(text) for kind, text in BLOCKS if kind == "json")
(CODE,) = (text for kind, text in BLOCKS if kind == "python")


def decoder() -> Callable[[bytes, bytes], dict[str, Any]]:
    names: dict[str, Any] = {}
    exec(CODE, names)
    return names["decode"]  # type: ignore[no-any-return]


def content(lines: list[str]) -> bytes:
    """The bytes of lines that each have words in hex and, after two blanks, their meaning."""
    words = [re.fullmatch(r"((?:[0-9a-f]{16} )*[0-9a-f]{16}) {2,}\S.*", line) for line in lines]
    assert all(words), lines
    return bytes.fromhex("".join(found[1] for found in words if found))


def test_the_example_is_what_the_code_beside_it_decodes() -> None:
    head, record = content(HEAD_LINES), content(RECORD_LINES)
    form = read_head(head)
    assert form.head() == head
    assert decoder()(head, record) == full(form, record) == SHOWN
    assert encoded(form, SHOWN) == record


def test_the_code_has_at_most_sixty_lines() -> None:
    assert len([line for line in CODE.splitlines() if line.strip()]) <= 60
    assert set(re.findall(r"import (\w+(?:, \w+)*)", CODE)) <= {"json, struct", "datetime, timedelta"}


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_the_code_decodes_any_record(data: st.DataObject) -> None:
    form = data.draw(forms())
    record = data.draw(records(form))
    assert decoder()(form.head(), encoded(form, record)) == record
