"""Cleaning steps for key columns (trim, NFC, format characters), in Python and as DuckDB SQL.

The characters are listed here rather than taken from a library, so that every version of Python and DuckDB uses the same ones.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

STEPS = ("strip_format", "nfc", "trim")
"""In the order in which they are applied, however they are written: a blank may precede a zero-width space."""
_BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
"""Unicode's white space."""
_FORMATS = (
    *((0xAD, 0xAD), (0x61C, 0x61C), (0x180E, 0x180E), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x2064), (0x2066, 0x206F)),
    *((0xFEFF, 0xFEFF), (0xFFF9, 0xFFFB), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0001, 0xE0001), (0xE0020, 0xE007F)),
)
"""First and last code points of invisible format characters: zero width, direction marks, soft hyphen, byte order mark, tags."""
_FORMAT = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in _FORMATS) + "]")

_UNCHANGED = "[!-~]([ -~]*[!-~])?"
"""Texts that no step changes, as DuckDB sees them."""


def cleaned(text: str, steps: Collection[str]) -> str:
    """``text`` after the cleaning steps."""
    if "strip_format" in steps:
        text = _FORMAT.sub("", text)
    if "nfc" in steps:
        text = unicodedata.normalize("NFC", text)
    return text.strip(_BLANKS) if "trim" in steps else text


def cleaned_sql(text: str, steps: Collection[str]) -> str:
    """The same cleaning as a DuckDB expression. ``text``: the SQL of a text column.

    No step changes printable ASCII without blanks at its ends, and most texts are of that kind: to see so takes a tenth of the time of
    ``trim``, which compares each character with each blank."""
    changed = text
    if "strip_format" in steps:
        ranges = "".join(f"\\x{{{first:X}}}-\\x{{{last:X}}}" for first, last in _FORMATS)
        changed = f"regexp_replace({changed}, '[{ranges}]', '', 'g')"
    if "nfc" in steps:
        changed = f"nfc_normalize({changed})"
    if "trim" in steps:
        changed = f"trim({changed}, '{_BLANKS}')"
    return f"CASE WHEN regexp_full_match({text}, '{_UNCHANGED}') THEN {text} ELSE {changed} END" if steps else text
