"""Reads JSON lines as Arrow batches, and decides which lines DuckDB parses exactly and which need Python."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from recon.config.settings import Limits
from recon.errors import WrongInput
from recon.intake.files.formats import BOM_INSIDE, BROKEN, BROKEN_UTF8, matches, text_blocks
from recon.intake.files.jsonexact import NOT_JSON, exact_members, is_nested_deeper, member_names
from recon.intake.files.spec import SourceFile
from recon.vocabulary.duckdb import literal

# Numbers of up to 15 digits are exact as doubles, so only longer ones, exponents and very small ones need Python; so do texts that DuckDB
# accepts although they are not JSON. Matches inside strings only cost time.
_VALUE = r"-?(?:[0-9.]{16,}|[0-9.]+[eE]|0\.000|[nNiI][^u])"
_NEEDS_PYTHON = rf"[:,\[][ \t\r]*{_VALUE}|,[ \t\r]*[}}\]]"
# The same for compact lines. A pattern that begins with two literals is several times as fast.
_NEEDS_PYTHON_COMPACT = f'":{_VALUE}'

_BLOCK_BYTES = 1 << 20
"""Small enough for a block to stay in the processor's cache."""


def line_batches(file: SourceFile, names: Sequence[str], limits: Limits) -> Iterator[Any]:
    """Batches of line BIGINT, span INTEGER, problem VARCHAR, text VARCHAR (a JSON object with at least ``names``, or null).

    Blank lines are left out. Raises WrongInput for a line longer than ``limits.line``.
    """
    line, reader = 1, ObjectLines(names, limits)
    try:
        for block in _line_blocks(file, limits):
            batch = reader.batch(block, line)
            line += block.count(b"\n")
            if batch.num_rows:
                yield batch
    except _TooLong as error:
        raise WrongInput(
            f"{file.name}: line {line + error.lines} is longer than {limits.line:,} bytes; expected one JSON object a line"
        ) from None


def members_sql(relation: str, names: Sequence[str]) -> str:
    """SQL that turns the batches of ``line_batches`` into text columns t0, t1, …; a text that DuckDB can't parse becomes a problem, not an
    error."""
    structure = literal(json.dumps(dict.fromkeys(names, "VARCHAR"), ensure_ascii=False))
    texts = "".join(f", struct_extract(j, {literal(name)}) AS t{position}" for position, name in enumerate(names))
    return (
        f"(SELECT line, span, coalesce(problem, CASE WHEN j IS NULL THEN {literal(NOT_JSON)} END) AS problem{texts} "
        f"FROM (SELECT line, span, problem, try(from_json(text, {structure})) AS j FROM {relation}))"
    )


class _TooLong(Exception):
    """A line is longer than the limit. ``lines``: the number of lines before it in the current block."""

    def __init__(self, lines: int = 0) -> None:
        super().__init__()
        self.lines = lines


def _line_blocks(file: SourceFile, limits: Limits) -> Iterator[bytes]:
    """Blocks of complete lines, each ending with a line feed."""
    rest, longest = b"", limits.line
    for block in text_blocks(file.name, file.path, file.format.codec, _BLOCK_BYTES, limits):
        if len(rest) + max(block.find(b"\n"), 0) > longest:
            raise _TooLong
        block = rest + block
        cut = block.rfind(b"\n") + 1
        rest = block[cut:]
        if cut:
            yield block[:cut]
    if len(rest) > longest:
        raise _TooLong
    if rest:
        yield rest + b"\n"


def absent_members(file: SourceFile, names: Sequence[str], limits: Limits) -> tuple[list[str], list[str]]:
    """The ``names`` that no object has, and the members of the first objects. Nothing is absent from a file without objects. Reads only up
    to the line with the last of ``names``."""
    try:
        return absent_from(_line_blocks(file, limits), names)
    except _TooLong:
        return [], []  # the reader reports the line


def absent_from(source: Iterator[bytes], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The same for blocks of whole lines."""
    absent, there = list(names), dict[str, None]()
    patterns = {name: re.compile(json.dumps(name, ensure_ascii=False).encode() + rb"[ \t\r]*:") for name in names}
    for block in source:
        if not there:
            there = first_members(block)
        for name in [name for name in absent if _has_member(block, name, patterns[name])]:
            absent.remove(name)
        if not absent:
            break
    return (absent, list(there)) if there else ([], [])


def first_members(block: bytes, lines: int = 100) -> dict[str, None]:
    there: dict[str, None] = {}
    for line in block.decode("utf-8").split("\n"):
        there |= dict.fromkeys(member_names(line))
        lines -= bool(line.strip())
        if there and lines < 0:
            break
    return there


def _has_member(block: bytes, name: str, pattern: re.Pattern[bytes]) -> bool:
    """Whether an object in ``block`` has the member. Lines with a match are parsed, as it may be in a text or in another member."""
    searched = [pattern] if b"\\" not in block else [pattern, _ESCAPED_NAME]
    for regex in searched:
        position = 0
        while found := regex.search(block, position):
            start = block.rfind(b"\n", 0, found.start()) + 1
            end = block.find(b"\n", found.start()) + 1
            if name in member_names(block[start:end].decode("utf-8")):
                return True
            position = end
    return False


_ESCAPED_NAME = re.compile(rb'"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)++"[ \t\r]*:')


class ObjectLines:
    """Turns blocks of lines, one object each, into batches; see ``line_batches``."""

    def __init__(self, names: Sequence[str], limits: Limits) -> None:
        self._names, self._nesting, self._longest = names, limits.nesting, limits.line
        twice = [
            f"{name}[ \\t\\r]*:[^\\n]*{name}[ \\t\\r]*:" for name in (re.escape(json.dumps(name, ensure_ascii=False)) for name in names)
        ]
        # A few names share a pattern; for more, its automaton would grow too large.
        self._twice = ["|".join(twice[start : start + _NAMES_A_PATTERN]) for start in range(0, len(twice), _NAMES_A_PATTERN)]

    def batch(self, block: bytes, first_line: int) -> Any:
        import numpy as np
        import pyarrow as pa

        content = np.frombuffer(block, dtype=np.uint8)
        feeds = np.flatnonzero(content == 10)
        count = len(feeds)
        offsets = np.empty(count + 1, np.int32)
        offsets[0] = 0
        offsets[1:] = feeds + 1
        if len(block) > self._longest and (lengths := np.diff(offsets)).max() > self._longest + 1:
            raise _TooLong(int(np.argmax(lengths > self._longest + 1)))
        # The lines refer to the block, with their line feeds (white space in JSON), so nothing is copied.
        text = pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(block)])
        line = np.arange(first_line, first_line + count, dtype=np.int64)
        keep, problems = self._odd_lines(text, block, content, feeds, offsets)
        replaced: dict[int, str | None] = {}
        for row in sorted({*_needing_python(text, block, content, feeds), *self._perhaps_twice(text, block, content, count)}):
            if keep[row] and row not in problems:
                replaced[row], problem = exact_members(text[row].as_py(), self._names)
                if problem is not None:
                    problems[row] = problem
        replaced.update(dict.fromkeys(problems))
        problem = _put(pa.nulls(count, pa.string()), problems)
        columns = [pa.array(line), pa.array(np.ones(count, np.int32)), problem, _put(text, replaced)]
        batch = pa.record_batch(columns, names=["line", "span", "problem", "text"])
        return batch if keep.all() else batch.filter(pa.array(keep))

    def _odd_lines(self, text: Any, block: bytes, content: Any, feeds: Any, offsets: Any) -> tuple[Any, dict[int, str]]:
        """Which lines are not blank, and the problems that show without parsing."""
        import numpy as np
        import pyarrow.compute as pc

        keep, problems = np.ones(len(feeds), bool), dict[int, str]()
        starts = content[offsets[:-1]]
        keep[starts == 10] = False
        for row in np.flatnonzero((starts != ord("{")) & keep).tolist():
            start = text[row].as_py().strip(" \t\r\n")
            if not start:
                keep[row] = False
            elif start[0] != "{":
                problems[row] = BOM_INSIDE if start[0] == "\ufeff" else NOT_JSON
        if b"\0" in block and BROKEN.encode() in block:  # the search for one byte is ten times as fast
            for row in np.flatnonzero(pc.match_substring(text, BROKEN).to_numpy(zero_copy_only=False)).tolist():
                problems[row] = BROKEN_UTF8
        # Each object has one bracket; usually too few others remain for any line to be nested too deep.
        if block.count(b"[") + block.count(b"{") - np.count_nonzero(starts == ord("{")) >= self._nesting:
            brackets = np.flatnonzero((content == ord("[")) | (content == ord("{")))
            many = np.diff(np.searchsorted(brackets, offsets)) > self._nesting
            for row in np.flatnonzero(many).tolist():
                if row not in problems and is_nested_deeper(text[row].as_py(), self._nesting):
                    problems[row] = f"nested deeper than {self._nesting} brackets (limits.nesting)"
        return keep, problems

    def _perhaps_twice(self, text: Any, block: bytes, content: Any, lines: int) -> list[int]:
        """The rows that may have a member twice."""
        if _all_alike(block, content, lines):
            return []
        patterns = [*self._twice, _ESCAPED_NAME_RE2] if b"\\" in block else self._twice
        return [row for pattern in patterns for row in _matching(pattern, text, block)]


def _all_alike(block: bytes, content: Any, lines: int) -> bool:
    """Whether every line has the same members in the same order, with different names. Compares the ends of the names, which takes a third
    of the patterns' time. False where that cannot decide, as with escapes or blanks before a colon."""
    import numpy as np

    ends = np.flatnonzero(content[1:] == ord(":"))  # the bytes before colons, which end names or texts
    before = content[ends]
    if b"\\" in block or ((before == ord(" ")) | (before == ord("\t")) | (before == ord("\r"))).any():
        return False
    ends = ends[before == ord('"')]
    members, left_over = divmod(len(ends), lines)
    if left_over or not members or ends[0] < _NAME_END:
        return False
    feeds = np.flatnonzero(content == 10)
    if not (np.diff(np.searchsorted(ends, feeds), prepend=0) == members).all():
        return False
    window = np.lib.stride_tricks.as_strided(content, (len(content) - _NAME_END + 1, _NAME_END), content.strides * 2)
    tails = window[ends - _NAME_END + 1].view(f"V{_NAME_END}").reshape(lines, members)
    texts = tails.view(np.uint64).reshape(lines, members, _NAME_END // 8)
    first = {tail.tobytes() for tail in tails[0]}
    # The last bytes of a short name include the text before it, so the full names are compared here.
    names = {block[block.rfind(b'"', 0, end) : end + 1] for end in ends[:members].tolist()}
    return len(first) == len(names) == members and bool((texts == texts[0]).all())


_NAME_END = 8
"""The number of bytes of a name that are compared, with its closing quote."""
_NAMES_A_PATTERN = 4
_ESCAPED_NAME_RE2 = r'"[^"\\\n]*(?:\\[^\n][^"\\\n]*)+"[ \t\r]*:'


def _put(column: Any, values: dict[int, str | None] | dict[int, str]) -> Any:
    """A column of texts with some rows replaced."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if not values:
        return column
    mask = np.zeros(len(column), bool)
    rows = sorted(values)
    mask[rows] = True
    return pc.replace_with_mask(column, pa.array(mask), pa.array([values[row] for row in rows], pa.string()))


def _needing_python(text: Any, block: bytes, content: Any, feeds: Any) -> list[int]:
    """The rows that DuckDB would not read exactly."""
    return _matching(_NEEDS_PYTHON_COMPACT if _is_compact(block, content, feeds) else _NEEDS_PYTHON, text, block)


def _matching(pattern: str, text: Any, block: bytes) -> list[int]:
    """The rows that match. The block is searched as one text first, as usually nothing matches."""
    import numpy as np
    import pyarrow.compute as pc

    if not matches(pattern, block):
        return []
    found = pc.match_substring_regex(text, pattern).to_numpy(zero_copy_only=False)
    return [int(row) for row in np.flatnonzero(found)]


def _is_compact(block: bytes, content: Any, feeds: Any) -> bool:
    """Whether no line has white space, a list, a nested object or a comma at its end. Then a value that DuckDB would not read exactly can
    only follow the colon of a member: other matches of _NEEDS_PYTHON are inside a text, or refused by DuckDB too."""
    import numpy as np

    if any(byte in block for byte in (b" ", b"\t", b"\r", b"[")) or feeds[0] < 2:
        return False
    closed = np.count_nonzero(content == ord("}")) == len(feeds)
    return closed and bool((content[feeds - 1] == ord("}")).all() and (content[feeds - 2] != ord(",")).all())
