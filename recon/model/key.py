"""Makes the text of a key from the values of its columns."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

_ESCAPES = re.compile(r"\\\\|\\u00[0-9a-f]{2}")


def key_text(values: Sequence[str]) -> str:
    """The text of a key: a single value as it is, several values as a compact JSON array of strings.

    The array escapes only quotes, backslashes and control characters, the last as ``\\b \\f \\n \\r \\t`` or ``\\u00XX`` with upper-case
    digits, which is how DuckDB and Spark write JSON.
    """
    if len(values) == 1:
        return values[0]
    text = json.dumps(list(values), ensure_ascii=False, separators=(",", ":"))
    return _ESCAPES.sub(lambda m: m[0] if m[0] == "\\\\" else "\\u" + m[0][2:].upper(), text)
