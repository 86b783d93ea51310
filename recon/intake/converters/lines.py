"""A block of lines as columns of characters, for formats whose fields have fixed positions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from recon.intake.files.formats import BOM, BOM_INSIDE, BROKEN, BROKEN_UTF8
from recon.intake.files.quoting import CARRIAGE_RETURN


class Lines:
    """``block``: whole lines, each ended by a line feed, of less than 2 GiB. ``first``: the number of the first line. A carriage return
    before a line feed is part of the line end."""

    def __init__(self, block: bytes, first: int) -> None:
        import numpy as np
        import pyarrow as pa

        self.block = block.replace(b"\r\n", b"\n") if b"\r" in block else block
        self._content = np.frombuffer(self.block, np.uint8)
        feeds = np.flatnonzero(self._content == 10)
        self.count = len(feeds)
        self._ends = feeds
        self._starts = np.concatenate([[0], feeds[:-1] + 1])
        self.numbers = np.arange(first, first + self.count, dtype=np.int64)
        offsets = np.concatenate([[0], feeds + 1]).astype(np.int32)
        # With their line feeds, so that nothing is copied.
        self.text = pa.Array.from_buffers(pa.string(), self.count, [None, pa.py_buffer(offsets), pa.py_buffer(self.block)])
        self.ascii = self.block.isascii()

    @cached_property
    def lengths(self) -> Any:
        """The characters of each line, without the line end."""
        import pyarrow.compute as pc

        count = pc.binary_length(self.text) if self.ascii else pc.utf8_length(self.text)
        return count.to_numpy(zero_copy_only=False) - 1

    @cached_property
    def blank(self) -> Any:
        """Which lines have blanks and tabs only."""
        import numpy as np
        import pyarrow.compute as pc

        first = self._content[self._starts]
        found = first == 10
        odd = np.flatnonzero((first == 32) | (first == 9))
        if len(odd):
            found[odd] = pc.equal(pc.ascii_trim(self.text.take(odd), " \t\n"), "").to_numpy(zero_copy_only=False)
        return found

    def problems(self) -> Any:
        """Why a line can't be read, whatever its format; None where it can."""
        import numpy as np
        import pyarrow.compute as pc

        found = np.full(self.count, None, object)
        for mark, reason in (("\r", CARRIAGE_RETURN), (BOM.decode(), BOM_INSIDE), (BROKEN, BROKEN_UTF8)):
            if mark.encode() in self.block:
                found[pc.match_substring(self.text, mark).to_numpy(zero_copy_only=False)] = reason
        return found

    def slices(self, first: int, last: int, rows: Any = None) -> Any:
        """Characters ``first`` to ``last``, counted from 1, of each line (or of ``rows``), without the blanks around them."""
        import pyarrow as pa
        import pyarrow.compute as pc

        text = self.text if rows is None else self.text.take(rows)
        if self.ascii:
            found = pc.binary_slice(text.cast(pa.binary()), first - 1, last).cast(pa.string())
        else:
            found = pc.utf8_slice_codeunits(text, first - 1, last)
        return pc.ascii_ltrim(pc.ascii_rtrim(found, " \n"), " ")

    def table(self, width: int) -> Any:
        """The first ``width`` characters of each line as bytes [line, position]; blanks after the line's end, "?" for what is not ASCII."""
        import numpy as np

        if self.count and len(self.block) == self.count * (width + 1) and self.ascii and (self._ends % (width + 1) == width).all():
            return self._content.reshape(self.count, width + 1)[:, :width]
        positions = np.minimum(self._starts[:, None] + np.arange(width), self._ends[:, None])
        found = self._content[positions]
        found[found == 10] = 32
        if not self.ascii:
            for row in np.flatnonzero((found >= 0x80).any(axis=1)).tolist():
                line = self.block[self._starts[row] : self._ends[row]].decode("utf-8")[:width]
                found[row] = np.frombuffer(line.ljust(width).encode("ascii", "replace"), np.uint8)
        return found


def digits(table: Any, first: int, last: int) -> tuple[Any, Any]:
    """The whole numbers at characters ``first`` to ``last`` (at most 18) of each line, and whether they are digits alone; 0 where not."""
    import numpy as np

    part = table[:, first - 1 : last].astype(np.int64) - ord("0")
    good = ((part >= 0) & (part <= 9)).all(axis=1)
    powers = 10 ** np.arange(last - first, -1, -1, dtype=np.int64)
    return np.where(good, part @ powers, 0), good


def batch(lines: Any, spans: Any, problems: Any, texts: Sequence[Any]) -> Any:
    """A record batch of a conversion, from numpy arrays and Arrow arrays of text."""
    import numpy as np
    import pyarrow as pa

    names = ["line", "span", "problem", *(f"t{position}" for position in range(len(texts)))]
    spans = np.broadcast_to(np.asarray(spans, np.int32), len(lines))
    return pa.record_batch([pa.array(lines, pa.int64()), pa.array(spans), pa.array(problems, pa.string()), *texts], names=names)
