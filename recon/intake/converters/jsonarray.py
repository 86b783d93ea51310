"""Cuts a JSON array into its elements without parsing them, in the memory of a block and the longest element."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from recon.errors import WrongInput

_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def array_start(name: str, head: str, at: str | None) -> int:
    """The byte after the bracket that opens the array, in a file that begins with ``head``. ``at``: the members that lead to it, joined by
    dots. Raises WrongInput if there is no array there."""
    place = _space(head, 0)
    for member in at.split(".") if at else ():
        place = _value_of(name, head, place, member, at or "")
    if head[place : place + 1] != "[":
        begun = head[place : place + 20]
        where = f"at {at}" if at else "in the file"
        hint = "; declare kind: jsonl, or at: with the member that has the array" if begun.startswith("{") and not at else ""
        raise WrongInput(f"{name}: line {1 + head.count(chr(10), 0, place)}: expected a JSON array {where}, found {begun!r}{hint}")
    return len(head[: place + 1].encode("utf-8"))


def _space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _value_of(name: str, head: str, place: int, member: str, at: str) -> int:
    """Where the value of a member begins, in the object that begins at ``place``."""
    if head[place : place + 1] == "{":
        place = _space(head, place + 1)
        try:
            while head[place : place + 1] == '"':
                found, place = _DECODER.raw_decode(head, place)
                place = _space(head, _space(head, place) + 1)  # after the colon
                if found == member:
                    return place
                _, place = _DECODER.raw_decode(head, place)
                place = _space(head, _space(head, place) + 1)  # after the comma
        except (ValueError, RecursionError):
            pass
    raise WrongInput(f"{name}: there is no array at {at} within the first MiB: no member {member!r}")


def elements(name: str, source: Iterator[bytes], start: int, levels: int, longest: int) -> Iterator[tuple[bytes, int]]:
    """Blocks of the array's elements, each ended by a line feed, and the number of elements before. ``levels``: brackets that are open
    where the array begins, after ``start`` bytes. Line feeds between tokens become blanks; in texts, where JSON has none, they become
    control characters, which the reader refuses.

    Raises WrongInput for JSON that is not closed or goes on after its end, and for an element longer than ``longest`` bytes."""
    cutter = _Cutter(name, levels, longest)
    skip = start
    rest = b""
    for block in source:
        if skip >= len(block):
            skip -= len(block)
            continue
        block, skip = rest + block[skip:], 0
        # An escape that the block cuts is read with the next one.
        odd = len(block) - len(block.rstrip(b"\\"))
        rest = block[-1:] if odd % 2 else b""
        before = cutter.count
        found = cutter.cut(block[: len(block) - len(rest)])
        if found:
            yield found, before
    if not cutter.finished:
        raise WrongInput(
            f"{name}: the JSON ends after element {cutter.count} of its array, before it is closed; it is cut off, send it again"
        )


class _Cutter:
    """``count``: elements so far. ``closed``: whether the array has ended. ``finished``: whether the brackets around it have, too."""

    def __init__(self, name: str, levels: int, longest: int) -> None:
        self.count = 0
        self.closed = self.finished = False
        self._in_text = False
        self._depth = 1  # brackets that are open, from the array's on
        self._name, self._levels, self._longest = name, levels, longest
        self._begun = b""  # of the current element

    def cut(self, block: bytes) -> bytes:
        """The elements that end in the block."""
        import numpy as np

        plain = _ESCAPE.sub(b"__", block) if b"\\" in block else block
        content = np.frombuffer(plain, np.uint8)
        quotes = content == ord('"')
        inside = (np.cumsum(quotes, dtype=np.int32) + self._in_text) % 2 == 1
        outside = ~inside & ~quotes
        opens = outside & ((content == ord("[")) | (content == ord("{")))
        closes = outside & ((content == ord("]")) | (content == ord("}")))
        depth = self._depth + np.cumsum(opens.astype(np.int32) - closes)
        self._in_text = bool(inside[-1]) if len(inside) else self._in_text
        self._depth = int(depth[-1]) if len(depth) else self._depth
        self._refuse_more(block, np.flatnonzero((depth <= -self._levels) & closes))
        if self.closed:
            return b""
        end = np.flatnonzero((depth < 1) & closes)
        stop = int(end[0]) if len(end) else len(block)
        self.closed = bool(len(end))
        commas = np.flatnonzero(outside[:stop] & (content[:stop] == ord(",")) & (depth[:stop] == 1)).tolist()
        clean = self._without_feeds(block, inside)
        return self._parts(clean, commas, stop)

    def _refuse_more(self, block: bytes, ends: Any) -> None:
        """Raises WrongInput for text after the JSON's end."""
        after = block if self.finished else block[int(ends[0]) + 1 :] if len(ends) else b""
        self.finished = self.finished or bool(len(ends))
        if after.strip(b" \t\r\n"):
            raise WrongInput(
                f"{self._name}: text follows after the JSON's end; declare kind: jsonl for one object a line, or send one array"
            )

    def _without_feeds(self, block: bytes, inside: Any) -> bytes:
        import numpy as np

        if b"\n" not in block:
            return block
        content = np.frombuffer(block, np.uint8).copy()
        feeds = content == 10
        content[feeds & inside] = 1
        content[feeds & ~inside] = 32
        return content.tobytes()

    def _parts(self, block: bytes, commas: list[int], stop: int) -> bytes:
        found: list[bytes] = []
        start = 0
        for place in [*commas, *([stop] if self.closed else [])]:
            element = self._begun + block[start:place]
            self._begun, start = b"", place + 1
            if place != stop or self.count or element.strip():  # an empty array has no element
                self._refuse_long(element)
                found.append(element if element.strip() else b"," + element)
                self.count += 1
        if not self.closed:
            self._begun += block[start:]
            self._refuse_long(self._begun)
        return b"".join(element + b"\n" for element in found)

    def _refuse_long(self, element: bytes) -> None:
        if len(element) > self._longest:
            raise WrongInput(
                f"{self._name}: element {self.count + 1} is longer than {self._longest:,} bytes; raise limits.line in the configuration"
            )
