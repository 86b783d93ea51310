"""What the converters of text formats share: the file as blocks and lines, the text of a row, and a look at the first bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recon.config.settings import Limits
from recon.errors import WrongInput
from recon.intake.converters.port import Control, Received
from recon.intake.files.formats import BLOCK_BYTES, blocks, head_text, line_too_long, text_blocks
from recon.intake.files.inspect import check_magic, refuse_carriage_returns
from recon.intake.files.raw import text_rows


def not_empty(received: Received) -> bytes:
    """The first bytes. Raises WrongInput for an empty file, or one that can't be read."""
    start = next(blocks(received.shown, received.path, None, 8), b"")
    if not start:
        raise WrongInput(f"{received.shown}: the file is empty (0 bytes); send it again, or take it away if there is nothing to report")
    return start


class TextFile:
    """A received text file: the parts of ``Conversion`` that are alike for all formats whose rows are lines. Raises WrongInput for a file
    that is empty, of another format, or whose lines end with carriage returns only."""

    def __init__(self, received: Received, limits: Limits) -> None:
        self.received, self.limits, self.name = received, limits, received.shown
        self.controls: list[Control] = []
        check_magic(self.name, not_empty(received), None)
        self.head = head_text(self.name, received.path, None)
        refuse_carriage_returns(self.name, self.head)

    def raw(self, lines: Any, spans: Any) -> Iterator[Any]:
        return text_rows(blocks(self.name, self.received.path, None), lines, spans)

    def place(self, line: int) -> str:
        return f"line {line}"

    def text(self) -> Iterator[bytes]:
        """The file in blocks of UTF-8."""
        return text_blocks(self.name, self.received.path, None, limits=self.limits)

    def line_blocks(self, size: int = BLOCK_BYTES) -> Iterator[tuple[int, bytes]]:
        """Blocks of whole lines, each ended by a line feed, with the number of their first line. Raises WrongInput for a line longer than
        ``limits.line``."""
        line, rest, longest = 1, b"", self.limits.line
        for block in text_blocks(self.name, self.received.path, None, size, self.limits):
            feed = block.find(b"\n")
            if len(rest) + (feed if feed >= 0 else len(block)) > longest:
                raise line_too_long(self.name, line, longest)
            block = rest + block if rest else block
            cut = block.rfind(b"\n") + 1
            rest = block[cut:]
            if cut:
                yield line, block[:cut]
                line += block.count(b"\n")
        if rest:
            yield line, rest + b"\n"
