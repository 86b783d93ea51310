"""Reads CSV, TSV and other delimited text as Arrow batches of text columns, with the line on which each record starts."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from recon.config.settings import Limits
from recon.errors import WrongInput
from recon.intake.files.formats import BLOCK_BYTES, BROKEN, BROKEN_UTF8, BlockStream, head_text, one_line, text_blocks
from recon.intake.files.quoting import Dialect, Records
from recon.intake.files.spec import SourceFile

HEADER_AGAIN = "the header again"


def delimiter_of(kind: str) -> str:
    """The character between two fields of a ``csv`` or ``tsv`` file."""
    return "\t" if kind == "tsv" else ","


def header_of(file: SourceFile) -> list[str]:
    """The column names in a CSV or TSV file's first record; none in an empty file."""
    form = file.format
    return header_in(file.name, head_text(file.name, file.path, form.codec), Dialect(delimiter_of(form.kind)))


def header_in(name: str, head: str, dialect: Dialect) -> list[str]:
    """The column names in the first record of delimited text, after ``dialect.skip`` lines."""
    for _ in range(dialect.skip):
        head = head.partition("\n")[2]
    text = _first_record(head, dialect.quotes)
    try:
        return next(dialect.fields(io.StringIO(text, newline="")), [])
    except csv.Error as error:
        raise WrongInput(f"{name}: line {dialect.skip + 1}: the header can't be read ({error}); write plain names") from None


def _first_record(text: str, quotes: bool) -> str:
    """Delimited text up to the first line end outside quotes."""
    quoted = False
    for position, character in enumerate(text):
        if character == '"' and quotes:
            quoted = not quoted
        elif character in "\r\n" and not quoted:
            return text[:position]
    return text


def record_batches(file: SourceFile, names: Sequence[str], limits: Limits) -> Iterator[Any]:
    """Batches of line BIGINT, span INTEGER (physical lines), problem VARCHAR, then the columns ``names`` as t0, t1, …

    ``names`` are in the header. Blank lines are left out. A line with faulty quotes is one record with a problem. Raises WrongInput
    for a line longer than ``limits.line``.
    """
    form = file.format
    header = header_of(file)
    source = Records(file.name, text_blocks(file.name, file.path, form.codec, limits=limits), Dialect(delimiter_of(form.kind)), limits.line)
    yield from batches_of(source, header, [header.index(name) for name in names], limits)


def batches_of(source: Records, columns: list[str], picked: Sequence[int], limits: Limits) -> Iterator[Any]:
    """The same for any dialect: the texts of ``columns`` at the positions ``picked``. ``columns``: the header, or the declared names."""
    import pyarrow as pa
    import pyarrow.csv as pc

    dialect = source.dialect
    records = _Records(source, columns, picked)
    blocks = iter(source)
    if (first := next(blocks, None)) is None:
        return  # blank lines only, and no header

    def on_invalid(row: Any) -> str:
        records.invalid.append((row.number, row.actual_columns, row.text))
        return "skip"

    # Columns are named by position, as a header may hold any text. All are read, since any may contain line feeds.
    positions = [str(position) for position in range(len(columns))]
    try:
        reader = pc.open_csv(
            BlockStream(itertools.chain([first], blocks)),
            read_options=pc.ReadOptions(use_threads=False, block_size=2 * limits.line + BLOCK_BYTES, column_names=positions),
            parse_options=pc.ParseOptions(
                delimiter=dialect.delimiter,
                quote_char='"' if dialect.quotes else False,
                newlines_in_values=dialect.quotes,
                ignore_empty_lines=False,
                invalid_row_handler=on_invalid,
            ),
            convert_options=pc.ConvertOptions(
                column_types=dict.fromkeys(positions, pa.string()),
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        )
        for batch in reader:
            yield from records.place(batch)
    except pa.ArrowInvalid as error:
        raise WrongInput(f"{source.name}: line {records.next_line}: can't be read as CSV: {one_line(error)}") from None
    yield from records.place(pa.RecordBatch.from_pylist([], schema=reader.schema))
    records.tie()


class _Records:
    """Assigns lines to the records from Arrow, which returns valid ones in batches and invalid ones apart.

    Arrow numbers every record, so the two can be put in order again; a record takes one line and one for each line
    feed in it.
    """

    def __init__(self, source: Records, columns: list[str], picked: Sequence[int]) -> None:
        self.invalid: list[tuple[int, int, str]] = []  # (record number, fields, text), by number
        self.next_line = 1  # as the source counts lines
        self._columns = columns
        self._picked = picked
        self._source = source
        self._header_line = source.dialect.skip + 1 if source.dialect.header else None
        self._next_record = 1

    def place(self, batch: Any) -> Iterator[Any]:
        """Two batches: the valid records of ``batch``, and the invalid ones before, among and directly after them."""
        import numpy as np

        numbers = np.array([number for number, _, _ in self.invalid], np.int64)
        before = numbers - self._next_record - np.arange(len(numbers))  # valid records before each invalid one
        taken = int(np.searchsorted(before, batch.num_rows, side="right"))
        invalid, self.invalid = self.invalid[:taken], self.invalid[taken:]

        invalid_spans = np.array([text.count("\n") + 1 for _, _, text in invalid], np.int64)
        spans = np.insert(_line_feeds(batch) + 1, before[:taken], invalid_spans)
        if not len(spans):
            return
        starts = self._source.lines_of(self.next_line + np.cumsum(spans) - spans)
        if self._header_line in self._source.faults:
            raise self._no_header()
        is_invalid = np.zeros(len(spans), bool)
        is_invalid[before[:taken] + np.arange(taken)] = True
        self._next_record += len(spans)
        self.next_line += int(spans.sum())
        if batch.num_rows:
            yield self._valid(batch, starts[~is_invalid], spans[~is_invalid])
        if invalid:
            yield self._invalid(invalid, starts[is_invalid], spans[is_invalid])

    def _valid(self, batch: Any, starts: Any, spans: Any) -> Any:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        count = batch.num_rows
        problem = np.full(count, None, object)
        if self._source.broken:
            for column in batch.columns:
                problem[pc.match_substring(column, BROKEN).to_numpy(zero_copy_only=False)] = BROKEN_UTF8
        like_header = pc.equal(batch.column(0), self._columns[0]).to_numpy(zero_copy_only=False)
        drop = np.zeros(count, bool)
        for row in np.flatnonzero(like_header).tolist():
            if [column[row].as_py() for column in batch.columns] == self._columns:
                problem[row] = HEADER_AGAIN
                drop[row] = starts[row] == self._header_line
        if starts[0] == self._header_line and not drop[0]:
            raise self._no_header()
        if len(self._columns) == 1:  # a placeholder has as many fields
            for row, line in enumerate(starts.tolist()):
                problem[row] = self._source.faults.get(line, problem[row])
        texts = [batch.column(position) for position in self._picked]
        return _batch(starts, spans, pa.array(problem, pa.string()), texts).filter(pa.array(~drop))

    def _invalid(self, invalid: list[tuple[int, int, str]], starts: Any, spans: Any) -> Any:
        import pyarrow as pa

        width, faults = len(self._columns), self._source.faults
        expected = f"the header has {width}" if self._header_line else f"{width} are declared"
        keep = [fields != 1 or bool(text.strip(" \t")) for _, fields, text in invalid]
        problem = [
            faults.get(line) or (BROKEN_UTF8 if BROKEN in text else f"{fields} field{'s' * (fields != 1)}, {expected}")
            for line, (_, fields, text) in zip(starts.tolist(), invalid, strict=True)
        ]
        texts = [pa.nulls(len(invalid), pa.string())] * len(self._picked)
        return _batch(starts, spans, pa.array(problem, pa.string()), texts).filter(pa.array(keep))

    def _no_header(self) -> WrongInput:
        return WrongInput(f"{self._source.name}: line {self._header_line}: the header's quotes can't be read; write plain names")

    def tie(self) -> None:
        """Raises WrongInput if the lines of the records are not the lines of the file."""
        if self.next_line - 1 != self._source.line_feeds:
            raise WrongInput(
                f"{self._source.name}: its records take {self.next_line - 1} of {self._source.line_feeds} lines, so none can be named; "
                "report this with the file"
            )


def _line_feeds(batch: Any) -> Any:
    """The number of line feeds in each record; fast where there are none."""
    import numpy as np
    import pyarrow.compute as pc

    feeds = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        content = column.buffers()[2]
        if content is not None and np.count_nonzero(np.frombuffer(content, np.uint8) == 10):
            feeds += pc.count_substring(column, "\n").to_numpy(zero_copy_only=False)
    return feeds


def _batch(starts: Any, spans: Any, problem: Any, texts: Sequence[Any]) -> Any:
    import numpy as np
    import pyarrow as pa

    names = ["line", "span", "problem", *(f"t{position}" for position in range(len(texts)))]
    return pa.record_batch([pa.array(starts), pa.array(spans.astype(np.int32)), problem, *texts], names=names)
