"""What is shown of the logs of a failed step: the same from JSON as from text."""

from __future__ import annotations

import logging

from hypothesis import given
from hypothesis import strategies as st

from recon.storage.redact import shareable_lines
from recon.telemetry.logs import JsonLines


@given(text=st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=80).map(str.strip).filter(bool))
def test_an_error_of_recon_is_shown_alike(text: str) -> None:
    record = logging.LogRecord("recon.cli", logging.ERROR, __file__, 1, "%s", (text,), None)
    assert shareable_lines([JsonLines().format(record)], 5) == shareable_lines([f"recon: {text}"], 5)


def test_other_json_is_not_shown() -> None:
    begun = logging.LogRecord("recon.stages", logging.INFO, __file__, 1, "merge begun", (), None)
    foreign = logging.LogRecord("other", logging.ERROR, __file__, 1, "order A112", (), None)
    lines = [JsonLines().format(begun), JsonLines().format(foreign), '{"level": "ERROR"', "[]", "{}", '{"logger": "recon.x", "level": 1}']
    assert shareable_lines(lines, 9) == []
