"""The format of a file by its name, and its decompressed bytes in blocks."""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from recon.config.settings import Limits
from recon.errors import WrongInput, WrongUsage

# Larger blocks cost a tenth more: they exceed the processor's caches, and their memory is allocated anew each time.
BLOCK_BYTES = 4 << 20
EXPANDED_BYTES_FREE = 64 << 20
"""A file may expand to this size at any ratio."""

# Replaces bytes that are not UTF-8 in a text block. A row that really contains it is rejected too.
BROKEN = "\x00\ufffe\x00"
BROKEN_UTF8 = "bytes that are not UTF-8"
BOM_INSIDE = "a byte order mark in the middle of the file; remove it where files were put together"

_KINDS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
}
_CODECS = {".gz": "gzip", ".zst": "zstd"}
BOM = b"\xef\xbb\xbf"
_LONE_BYTES = re.compile("[\udc80-\udcff]+")


@dataclass(frozen=True)
class Format:
    """``kind`` is csv, tsv, json or parquet; ``codec`` is gzip, zstd or None."""

    kind: str
    codec: str | None


def format_of(name: str) -> Format:
    """The format of a file, by its name. Raises WrongUsage for a name without a known suffix."""
    stem = name.lower()
    codec = next((codec for suffix, codec in _CODECS.items() if stem.endswith(suffix)), None)
    if codec:
        stem = stem.rpartition(".")[0]
    kind = next((kind for suffix, kind in _KINDS.items() if stem.endswith(suffix)), None)
    if kind is None or (codec and kind == "parquet"):
        raise WrongUsage(
            f"{name}: the name has no known suffix; expected .csv, .tsv, .jsonl, .ndjson or .json (plain, .gz or .zst) or .parquet"
        )
    return Format(kind, codec)


def blocks(name: str, path: Path, codec: str | None, size: int = BLOCK_BYTES, limits: Limits | None = None) -> Iterator[bytes]:
    """The decompressed bytes of a file in blocks of at most ``size``. Raises WrongInput if the file can't be read
    to its end, or has more bytes than ``limits`` allow.
    """
    given = 0
    try:
        with path.open("rb") as file:
            stream, stored = _decompressed(file, codec), os.fstat(file.fileno()).st_size
            while block := stream.read(size):
                given += len(block)
                if limits is not None:
                    refuse_expansion(name, stored, given, limits)
                yield block
    except FileNotFoundError:
        raise WrongInput(f"{name}: the file is gone from {path}; land it again") from None
    except (OSError, EOFError, zlib.error) as error:
        if codec is None:
            raise WrongInput(f"{name}: can't be read: {one_line(error)}") from None
        cut = isinstance(error, EOFError) or "Truncated" in str(error)
        wrong = f"the {codec} data is cut off" if cut else f"damaged {codec} data ({one_line(error)})"
        raise WrongInput(f"{name}: {wrong}; transfer the file again") from None


def refuse_expansion(name: str, stored: int, expanded: int, limits: Limits) -> None:
    """Raises WrongInput for a file of ``stored`` bytes whose ``expanded`` bytes exceed ``limits``."""
    if expanded > limits.bytes:
        raise WrongInput(f"{name}: it expands to more than {limits.bytes:,} bytes; split it, or raise limits.bytes in the configuration")
    if expanded > EXPANDED_BYTES_FREE and expanded > limits.ratio * stored:
        raise WrongInput(
            f"{name}: its {stored:,} bytes expand to more than {limits.ratio:,} times as many; if it is meant, raise limits.ratio in the "
            "configuration"
        )


def _decompressed(file: IO[bytes], codec: str | None) -> Any:
    """A stream of the decompressed bytes. Gzip may have several members and padding, zstd several frames, also skippable ones."""
    if codec == "gzip":
        return gzip.GzipFile(fileobj=file, mode="rb")
    if codec == "zstd":
        import pyarrow as pa

        return pa.CompressedInputStream(pa.PythonFile(file, "r"), codec)
    return file


def text_blocks(name: str, path: Path, codec: str | None, size: int = BLOCK_BYTES, limits: Limits | None = None) -> Iterator[bytes]:
    """The same as valid UTF-8, cut between characters, without a byte order mark; bytes that are not UTF-8 become ``BROKEN``."""
    rest = b""
    first = True
    for block in blocks(name, path, codec, size, limits):
        block = rest + block
        if first:
            block = block.removeprefix(BOM)
            first = False
        length = _whole_characters(block)
        block, rest = block[:length], block[length:]
        yield _as_utf8(block)
    if rest:
        yield _as_utf8(rest)


def _whole_characters(block: bytes) -> int:
    """Length of the block without an incomplete character at its end."""
    for back in range(1, min(4, len(block)) + 1):
        byte = block[-back]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(block) - back if needed > back else len(block)
    return len(block)


def _as_utf8(block: bytes) -> bytes:
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return _LONE_BYTES.sub(BROKEN, block.decode("utf-8", "surrogateescape")).encode("utf-8")
    return block


def head_text(name: str, path: Path, codec: str | None) -> str:
    """The first MiB of a text file."""
    return next(text_blocks(name, path, codec, 1 << 20), b"").decode("utf-8")


def line_too_long(name: str, line: int, limit: int) -> WrongInput:
    return WrongInput(
        f"{name}: line {line} is longer than {limit:,} bytes; end its lines with line feeds, or raise limits.line in the configuration"
    )


def matches(pattern: str, text: bytes) -> bool:
    """Whether a UTF-8 text contains a match of ``pattern``, by RE2, which takes a third of the time of ``re``."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    ends = pa.py_buffer(np.array([0, len(text)], np.int32))
    return bool(pc.match_substring_regex(pa.Array.from_buffers(pa.string(), 1, [None, ends, pa.py_buffer(text)]), pattern)[0].as_py())


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


class BlockStream(io.RawIOBase):
    """Blocks as a file object for a parser."""

    def __init__(self, source: Iterable[bytes]) -> None:
        self._source = iter(source)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> Any:
        """At most ``size`` bytes; none at the end."""
        if not self._left:
            self._left = memoryview(next(self._source, b""))
        cut = len(self._left) if size < 0 else size
        part, self._left = self._left[:cut], self._left[cut:]
        return part
