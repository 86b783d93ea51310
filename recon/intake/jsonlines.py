"""JSON lines as Arrow batches of lines; which of them DuckDB may parse and which only Python parses exactly.

Belongs here: splitting into lines, and the lines that DuckDB would read wrongly: it takes JSON numbers through double,
and lets trailing commas, NaN and Infinity pass. Does not belong here: types and checks of the values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from recon.errors import WrongInput
from recon.intake.formats import BROKEN, BROKEN_UTF8, RECORD_BYTES_MAX, format_of, text_blocks
from recon.intake.model import SourceFile

NOT_JSON = "not a JSON object"

# Numbers of up to 15 digits come through double and back unchanged, so only longer ones, exponents and tiny ones need
# Python; and so does what DuckDB lets pass though it is not JSON. Matches inside strings do no harm but cost.
_VALUE = r"-?(?:[0-9.]{16,}|[0-9.]+[eE]|0\.000|[nNiI][^u])"
_NEEDS_PYTHON = rf"[:,\[][ \t\r]*{_VALUE}|,[ \t\r]*[}}\]]"
# The same where lines are compact. The two literals that it begins with are found several times as fast.
_NEEDS_PYTHON_COMPACT = f'":{_VALUE}'

_BLOCK_BYTES = 1 << 20
"""Blocks that stay in the processor's cache while they are cut and searched."""


def line_batches(file: SourceFile, names: Sequence[str]) -> Iterator[Any]:
    """Batches of line BIGINT, span INTEGER, problem VARCHAR, text VARCHAR (a JSON object with at least ``names``, or
    null).

    Blank lines are left out. Raises WrongInput for a line longer than 16 MiB.
    """
    line = 1
    try:
        for block in _line_blocks(file):
            batch, line = _batch(block, line, names)
            if batch.num_rows:
                yield batch
    except _TooLong:
        size = RECORD_BYTES_MAX >> 20
        raise WrongInput(f"{file.name}: line {line} is longer than {size} MiB; expected one JSON object a line") from None


class _TooLong(Exception):
    """A line does not end within ``RECORD_BYTES_MAX``."""


def _line_blocks(file: SourceFile) -> Iterator[bytes]:
    """Blocks of whole lines, each ending with a line feed."""
    rest = b""
    for block in text_blocks(file.name, file.path, format_of(file.name).codec, _BLOCK_BYTES):
        block = rest + block
        cut = block.rfind(b"\n") + 1
        rest = block[cut:]
        if cut:
            yield block[:cut]
        if len(rest) > RECORD_BYTES_MAX:
            raise _TooLong
    if rest:
        yield rest + b"\n"


def _batch(block: bytes, first_line: int, names: Sequence[str]) -> tuple[Any, int]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    content = np.frombuffer(block, dtype=np.uint8)
    feeds = np.flatnonzero(content == 10)
    count = len(feeds)
    offsets = np.empty(count + 1, np.int32)
    offsets[0] = 0
    offsets[1:] = feeds + 1
    # The lines are the block itself, line feeds included (white space to JSON): nothing is copied.
    text = pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(block)])
    line = np.arange(first_line, first_line + count, dtype=np.int64)

    replaced: dict[int, str | None] = {}
    problems: dict[int, str] = {}
    blank: list[int] = []
    for row in np.flatnonzero(content[offsets[:-1]] != ord("{")).tolist():
        start = text[row].as_py().strip(" \t\r\n")
        if not start:
            blank.append(row)
        elif start[0] != "{":
            problems[row] = NOT_JSON
    if b"\0" in block and BROKEN.encode() in block:  # the first search is ten times as fast as the second
        for row in np.flatnonzero(pc.match_substring(text, BROKEN).to_numpy(zero_copy_only=False)).tolist():
            problems[row] = BROKEN_UTF8
    for row in _needing_python(text, block, content, feeds):
        if row not in problems:
            exact = exact_members(text[row].as_py(), names)
            replaced[row] = exact
            if exact is None:
                problems[row] = NOT_JSON
    replaced.update(dict.fromkeys(problems))
    if replaced:
        mask = np.zeros(count, bool)
        rows = sorted(replaced)
        mask[rows] = True
        text = pc.replace_with_mask(text, pa.array(mask), pa.array([replaced[row] for row in rows], pa.string()))
    problem = pa.nulls(count, pa.string())
    if problems:
        mask = np.zeros(count, bool)
        rows = sorted(problems)
        mask[rows] = True
        problem = pc.replace_with_mask(problem, pa.array(mask), pa.array([problems[row] for row in rows], pa.string()))
    span = np.ones(count, np.int32)
    batch = pa.record_batch([pa.array(line), pa.array(span), problem, text], names=["line", "span", "problem", "text"])
    if blank:
        keep = np.ones(count, bool)
        keep[blank] = False
        batch = batch.filter(pa.array(keep))
    return batch, first_line + count


def _needing_python(text: Any, block: bytes, content: Any, feeds: Any) -> list[int]:
    """The rows that need Python. The block is searched as one text first: mostly nothing in it matches."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    ends = pa.py_buffer(np.array([0, len(block)], np.int32))
    whole = pa.Array.from_buffers(pa.string(), 1, [None, ends, pa.py_buffer(block)])
    pattern = _NEEDS_PYTHON_COMPACT if _is_compact(block, content, feeds) else _NEEDS_PYTHON
    if not pc.match_substring_regex(whole, pattern)[0].as_py():
        return []
    matches = pc.match_substring_regex(text, pattern).to_numpy(zero_copy_only=False)
    return [int(row) for row in np.flatnonzero(matches)]


def _is_compact(block: bytes, content: Any, feeds: Any) -> bool:
    """Whether no line has white space, a list, a nested object or a comma at its end. What DuckDB would read wrongly can then stand
    right behind the colon of a member only: anything else that _NEEDS_PYTHON finds is inside a text, or no JSON to DuckDB either."""
    import numpy as np

    if any(byte in block for byte in (b" ", b"\t", b"\r", b"[")) or feeds[0] < 2:
        return False
    closed = np.count_nonzero(content == ord("}")) == len(feeds)
    return closed and bool((content[feeds - 1] == ord("}")).all() and (content[feeds - 2] != ord(",")).all())


class _Number(str):
    """A JSON number as it is written, but without the fraction's trailing zeros, as DuckDB gives those of up to 15
    digits.
    """


class _Members(list[tuple[str, Any]]):
    """A JSON object's members in their order, doubled names included."""


def _number(digits: str) -> _Number:
    if "." in digits and "e" not in digits.lower():
        digits = digits.rstrip("0")
        digits += "0" if digits.endswith(".") else ""
    return _Number("0" if digits == "-0" else digits)


def _no_constant(token: str) -> Any:
    raise ValueError(f"{token} is not JSON")


_DECODER = json.JSONDecoder(parse_float=_number, parse_int=_number, parse_constant=_no_constant, object_pairs_hook=_Members)


def exact_members(line: str, names: Sequence[str]) -> str | None:
    """The members ``names`` of a JSON object as a JSON object whose numbers are strings; None if the line is no JSON
    object.

    The first of several members of one name counts, objects and arrays become their compact text: as DuckDB has it.
    """
    try:
        members = _DECODER.decode(line.strip(" \t\r\n"))
        if not isinstance(members, _Members):
            return None
        first: dict[str, Any] = {}
        for name, value in members:
            first.setdefault(name, value)
        texts = {name: _text(first[name]) for name in names if name in first}
        encoded = json.dumps(texts, ensure_ascii=False)
        encoded.encode("utf-8")  # half of a surrogate pair is no text
    except (ValueError, RecursionError):
        return None
    return encoded


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return str(value) if isinstance(value, str) else _compact(value)


def _compact(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, _Members):
        return "{" + ",".join(f"{_compact(name)}:{_compact(member)}" for name, member in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_compact, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
