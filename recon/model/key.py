"""The text of a key, made from its columns' values."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

_ESCAPES = re.compile(r"\\\\|\\u00[0-9a-f]{2}")


def key_text(values: Sequence[str]) -> str:
    """The text that stands for a key: a single value as it is, several as a compact JSON array of strings.

    In the array only quotes, backslashes and control characters are escaped, these as ``\\b \\f \\n \\r \\t`` or
    ``\\u00XX`` with upper-case digits: what DuckDB and Spark write by themselves.
    """
    if len(values) == 1:
        return values[0]
    text = json.dumps(list(values), ensure_ascii=False, separators=(",", ":"))
    return _ESCAPES.sub(lambda m: m[0] if m[0] == "\\\\" else "\\u" + m[0][2:].upper(), text)
