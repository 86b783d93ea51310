"""Reads a line of JSON exactly, in Python: numbers as written, repeated members, and constants that are not JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

NOT_JSON = "not a JSON object"
_ESCAPE = re.compile(r"\\(?:u(00[0-9a-f]{2})|.)")
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')


class _Number(str):
    """A JSON number as written, without trailing zeros of the fraction, as DuckDB returns numbers of up to 15 digits."""


class _Members(list[tuple[str, Any]]):
    """The members of a JSON object in order, repeated names included."""


class _Constant(str):
    """NaN, Infinity or -Infinity, which Python reads although they are not JSON."""


class _NotJSON(Exception):
    """A member that is used has a ``_Constant`` as its value."""


def _number(digits: str) -> _Number:
    if "." in digits and "e" not in digits.lower():
        digits = digits.rstrip("0")
        digits += "0" if digits.endswith(".") else ""
    return _Number("0" if digits == "-0" else digits)


_DECODER = json.JSONDecoder(parse_float=_number, parse_int=_number, parse_constant=_Constant, object_pairs_hook=_Members)


def exact_members(line: str, names: Sequence[str]) -> tuple[str | None, str | None]:
    """The members ``names`` of a JSON object as a JSON object whose numbers are strings; or None, and why the line is rejected.

    Objects and arrays become their compact text, as in DuckDB. Other members may be repeated, and may be NaN.
    """
    texts: dict[str, str | None] = {}
    try:
        members = _DECODER.decode(line.strip(" \t\r\n"))
        if not isinstance(members, _Members):
            return None, NOT_JSON
        for name, value in members:
            if name not in names:
                continue
            if name in texts:
                return None, f"member {name!r} twice"
            try:
                texts[name] = _text(value)
            except _NotJSON as error:
                return None, f"{name}: {error} is not JSON; write null where there is no value"
        encoded = json.dumps(texts, ensure_ascii=False)
        encoded.encode("utf-8")  # refuses half of a surrogate pair
    except (ValueError, RecursionError):
        return None, NOT_JSON
    return encoded, None


def member_names(line: str) -> list[str]:
    """The names of a JSON object's members; none if the line is no JSON object."""
    try:
        members = _DECODER.decode(line.strip(" \t\r\n"))
    except (ValueError, RecursionError):
        return []
    return [name for name, _ in members] if isinstance(members, _Members) else []


def is_nested_deeper(line: str, limit: int) -> bool:
    """Whether brackets outside texts are nested deeper than ``limit``."""
    import numpy as np

    content = np.frombuffer(_TEXT.sub(b"", line.encode("utf-8", "surrogatepass")), np.uint8)
    opens, closes = (content == ord("[")) | (content == ord("{")), (content == ord("]")) | (content == ord("}"))
    return bool((np.cumsum(opens.astype(np.int32) - closes).max(initial=0)) > limit)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value if type(value) is str else _compact(value)


def _compact(value: Any) -> str:
    if isinstance(value, _Constant):
        raise _NotJSON(value)
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, _Members):
        return "{" + ",".join(f"{_compact(name)}:{_compact(member)}" for name, member in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_compact, value)) + "]"
    # DuckDB, which reads most lines, writes the digits of a control character in upper case.
    return _ESCAPE.sub(lambda found: f"\\u{found[1].upper()}" if found[1] else found[0], json.dumps(value, ensure_ascii=False))
