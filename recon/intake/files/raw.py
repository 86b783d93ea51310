"""The raw text of rejected rows, read again from their files, so that the first pass need not carry it for accepted rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from recon.intake.files.formats import blocks
from recon.intake.files.parquet import LINE, has_lines, open_parquet, rows_of, texts_of_all
from recon.intake.files.spec import RAW_BYTES_MAX, SourceFile


def raw_rows(file: SourceFile, lines: Any, spans: Any) -> Iterator[Any]:
    """Arrow tables of line BIGINT, raw VARCHAR for the rows at ``lines`` (ascending), each of ``spans`` physical lines.

    A row of Parquet becomes JSON. Each raw text is cut at 64 KiB; bytes that are not UTF-8 become U+FFFD.
    """
    if file.format.kind == "parquet":
        yield from _parquet_rows(file, lines)
    else:
        yield from text_rows(blocks(file.name, file.path, file.format.codec), lines, spans)


def text_rows(source: Iterator[bytes], lines: Any, spans: Any) -> Iterator[Any]:
    """The same of a text file, from its decompressed bytes."""
    import numpy as np

    done = 0
    first_line = 1  # the line at which `block` starts
    rest = b""
    for block in _with_end(source):
        block = rest + block
        feeds = np.flatnonzero(np.frombuffer(block, np.uint8) == 10)
        starts = np.concatenate([[0], feeds + 1])
        complete = int(np.searchsorted(lines + spans, first_line + len(feeds), side="right"))
        found = []
        for start, stop in zip(lines[done:complete] - first_line, (lines + spans)[done:complete] - first_line, strict=True):
            found.append(shown(block[starts[start] : starts[stop]]))
        if found:
            yield raw_table(lines[done:complete], found)
        done = complete
        if done == len(lines):
            return
        # Keep the text from the next wanted row on, since a row may span several blocks.
        keep = min(int(lines[done]) - first_line, len(feeds))
        rest = block[starts[keep] :]
        first_line += keep


def _with_end(source: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks, and a line feed in case the file does not end with one."""
    yield from source
    yield b"\n"


def shown(raw: bytes) -> str:
    text = raw.rstrip(b"\r\n")[:RAW_BYTES_MAX].decode("utf-8", "replace").replace("\x00", "\ufffd")
    return text.encode("utf-8")[:RAW_BYTES_MAX].decode("utf-8", "ignore")


def _parquet_rows(file: SourceFile, lines: Any) -> Iterator[Any]:
    import numpy as np

    opened = open_parquet(file)
    first_row, own = rows_of(file, opened)[0] + 1, has_lines(opened)
    for batch in texts_of_all(file):
        numbers = np.arange(first_row, first_row + batch.num_rows)
        if own:
            numbers = np.array([int(line) for line in batch.column(LINE).to_pylist()], np.int64)
            batch = batch.drop_columns([LINE])
        found = np.flatnonzero(np.isin(numbers, lines))
        if len(found):
            rows = batch.take(found).to_pylist()
            yield raw_table(numbers[found], [shown(json.dumps(row, ensure_ascii=False).encode()) for row in rows])
        first_row += batch.num_rows


def raw_table(lines: Any, texts: list[str]) -> Any:
    import pyarrow as pa

    return pa.table({"line": pa.array(lines, pa.int64()), "raw": pa.array(texts, pa.string())})
