"""Checks a file when it is landed: its format, that it is complete, and its columns."""

from __future__ import annotations

import csv
import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recon.config.settings import Limits
from recon.errors import WrongInput
from recon.intake.files.delimited import delimiter_of, header_of
from recon.intake.files.formats import BLOCK_BYTES, BROKEN, Format, blocks, format_of, head_text, line_too_long, refuse_expansion
from recon.intake.files.jsonlines import absent_members
from recon.intake.files.parquet import is_text, open_parquet, refuse_inexact, refuse_nested, refuse_repeated_lines
from recon.intake.files.quoting import Dialect
from recon.intake.files.spec import EventSpec, SourceFile

_MAGIC = {
    b"PAR1": "Parquet",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"%PDF": "PDF",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
_SKIPPABLE = b"\x2a\x4d\x18"
"""After a byte from 0x50 to 0x5f: a skippable frame of zstd."""


def inspect(name: str, path: Path, spec: EventSpec) -> None:
    """Raises WrongUsage for a name without a known suffix, and WrongInput for a file that has another format, is incomplete, exceeds
    ``spec.limits``, lacks a column, or has a column that can't be read exactly. A text file is decompressed and read to its end."""
    form = format_of(name)
    try:
        with path.open("rb") as stream:
            start = stream.read(8)
    except OSError as error:
        raise WrongInput(f"{name}: can't be read from {path}: {error.strerror}") from None
    if not start:
        raise WrongInput(f"{name}: the file is empty (0 bytes); expected at least a header, or land no file")
    check_magic(name, start, "Parquet" if form.kind == "parquet" else form.codec)
    if form.kind != "parquet":
        _check_lines(name, path, form, spec.limits)
        _check_text(name, path, form)
    require_columns(SourceFile(name, path), spec)
    if form.kind == "parquet":
        refuse_inexact(SourceFile(name, path), spec.texts)
        refuse_repeated_lines(SourceFile(name, path))


def _check_lines(name: str, path: Path, form: Format, limits: Limits) -> None:
    """Reads a text file to its end. Raises WrongInput for a line longer than ``limits.line``."""
    line, since = 1, 0  # the current line, and its bytes so far
    for block in blocks(name, path, form.codec, min(BLOCK_BYTES, limits.line), limits):
        first = block.find(b"\n")
        if since + (first if first >= 0 else len(block)) > limits.line:
            raise line_too_long(name, line, limits.line)
        line += block.count(b"\n")
        since = since + len(block) if first < 0 else len(block) - block.rfind(b"\n") - 1


def check_magic(name: str, start: bytes, expected: str | None) -> None:
    """Raises WrongInput if a file that begins with ``start`` is not of the format ``expected``; None: text, or any other."""
    found = next((what for magic, what in _MAGIC.items() if start.startswith(magic)), None)
    if start[1:4] == _SKIPPABLE and start[0] >> 4 == 5:
        found = "zstd"
    if found == expected:
        return
    promised = expected or "plain text"
    if found == "UTF-16 text":
        raise WrongInput(f"{name}: the file is UTF-16 text; save it as UTF-8")
    raise WrongInput(f"{name}: the content is {found or f'not {promised}'}, the name says {promised}; rename the file or write it anew")


def _check_text(name: str, path: Path, form: Format) -> None:
    """Checks the first lines, after decompression."""
    first_block = next(blocks(name, path, form.codec, 8), b"")
    check_magic(name, first_block, None)
    text = head_text(name, path, form.codec)
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line), "")
    refuse_carriage_returns(name, text)
    if form.kind != "json":
        if first.startswith('{"'):
            raise WrongInput(f"{name}: line 1 is a JSON object, the name says {form.kind.upper()}; name the file .jsonl")
        if "\0" in first.replace(BROKEN, ""):
            raise WrongInput(f"{name}: line 1: the header holds NUL characters, as UTF-16 text does; save the file as UTF-8")
        if BROKEN in first:
            raise WrongInput(f"{name}: line 1: the header is not UTF-8; save the file as UTF-8")
    elif first.startswith("["):
        raise WrongInput(f"{name}: line 1 begins a JSON array; expected JSON lines: one object a line, no brackets around")
    elif first == "{":
        raise WrongInput(f"{name}: line 1 begins an object that continues on the next line; expected JSON lines: one object on each line")
    elif first and not first.startswith("{"):
        raise WrongInput(f"{name}: line 1 is no JSON object; expected JSON lines, or the file is CSV and needs the name .csv")


def refuse_carriage_returns(name: str, head: str) -> None:
    """Raises WrongInput for text whose lines end with carriage returns only."""
    if "\n" not in head and "\r" in head.rstrip("\r\n"):
        raise WrongInput(f"{name}: lines end with carriage returns only; end them with line feeds")


def require_columns(file: SourceFile, spec: EventSpec) -> None:
    """Raises WrongInput if the header, the Parquet schema or all objects of JSON lines lack a column of ``spec``, if a header or schema has
    it twice, or if a Parquet file has more rows than ``spec.limits`` or a column of an unusable type."""
    form = file.format
    if form.kind == "json":
        absent, members = ([], []) if file.partial else absent_members(file, spec.names, spec.limits)
        if absent:
            raise WrongInput(f"{file.name}: no line has a member {absent[0]!r}; {what_is_there(absent[0], members)}")
        return
    opened = open_parquet(file) if form.kind == "parquet" else None
    if opened is None:
        there = header_of(file)
        if not set(spec.names) <= set(there) and (hint := _header_below(file, spec.names)):
            raise WrongInput(f"{file.name}: {hint}")
        require_names(file.name, "line 1: the header", there, spec.names, delimiter_of(form.kind))
        return
    require_names(file.name, "the schema", opened.schema_arrow.names, spec.names)
    _check_size(file, opened, spec)
    for column in spec.names:
        _check_type(f"{file.name}: column {column!r}", opened.schema_arrow.field(column).type, column, spec)


def require_names(file: str, where: str, there: Sequence[str], needed: Sequence[str], delimiter: str | None = None) -> None:
    """Raises WrongInput for the first ``needed`` name that is not ``there``, or there twice. ``where``: what has the names, in ``file``.
    ``delimiter``: between the names, where they are text."""
    counts = Counter(there)
    for column in needed:
        if counts[column] > 1:
            raise WrongInput(f"{file}: {where} has column {column!r} twice; give each column its own name")
        if column not in counts:
            raise WrongInput(f"{file}: {where} has no column {column!r}; {what_is_there(column, there, delimiter)}")


_LINES_ABOVE_MAX = 100
"""A header that is not in the first line is searched for up to this line."""


def header_elsewhere(head: str, columns: Sequence[str], dialect: Dialect) -> int | None:
    """The first line after the one where the header is expected that has all the columns, as where a title or blank lines are above it."""
    lines = head.split("\n")[:_LINES_ABOVE_MAX]
    readable = dialect.fields(line.rstrip("\r") for line in lines)
    try:
        return next(
            (number for number, fields in enumerate(readable, 1) if number > dialect.skip + 1 and set(columns) <= set(fields)), None
        )
    except csv.Error:
        return None


def _header_below(file: SourceFile, columns: Sequence[str]) -> str | None:
    """The advice where the header is not line 1 but a later one."""
    form = file.format
    head = head_text(file.name, file.path, form.codec)
    number = header_elsewhere(head, columns, Dialect(delimiter_of(form.kind)))
    if number is None:
        return None
    first = head.split("\n")[0].strip()
    above = "line 1 is blank" if not first else f"line 1 is {first[:40]!r}"
    which = "that line" if number == 2 else f"lines 1 to {number - 1}"
    return f"{above} and the header is line {number}; remove {which}, so that the header is the first line"


def _check_size(file: SourceFile, opened: Any, spec: EventSpec) -> None:
    """Raises WrongInput for a Parquet file with more rows or values than ``spec.limits``, since repeated values take almost no bytes."""
    rows, groups = opened.metadata.num_rows, range(opened.metadata.num_row_groups)
    if rows > spec.limits.rows:
        raise WrongInput(
            f"{file.name}: it has {rows:,} rows, at most {spec.limits.rows:,}; split it, or raise limits.rows in the configuration"
        )
    stated = sum(opened.metadata.row_group(group).total_byte_size for group in groups)
    refuse_expansion(file.name, file.path.stat().st_size, max(stated, rows * len(spec.names) * _VALUE_BYTES), spec.limits)


_VALUE_BYTES = 8
"""The minimum size of a Parquet value in memory."""


def _check_type(place: str, kind: Any, column: str, spec: EventSpec) -> None:
    """Checks the type of a Parquet column in the schema."""
    import pyarrow as pa

    refuse_nested(kind, place)
    if column in spec.ordered and not is_text(kind):
        raise WrongInput(
            f"{place} is {kind} and would be compared as text, in which 9 is more than 10; "
            f"declare it under events.types in recon.yaml, such as {column}: integer, or {column}: text if that is meant"
        )
    if column in spec.times and pa.types.is_timestamp(kind) and kind.tz is None and spec.zone is None:
        raise WrongInput(
            f"{place} is {kind}, which has no time zone; set events.zone in recon.yaml, such as zone: UTC, or write the column with one"
        )


def what_is_there(column: str, there: Sequence[str], delimiter: str | None = None) -> str:
    """What a file has in place of a column that it lacks."""
    shown = ", ".join(there[:20])[:300] + (" …" if len(there) > 20 else "")
    if len(there) == 1 and delimiter is not None:
        other = next((mark for mark in (";", "\t", ",", "|") if mark in there[0]), None)
        if other:
            return f"it is {shown!r}, which is separated by {other!r}; expected {delimiter!r}"
    by_folded = {name.strip().casefold(): name for name in there}
    near = difflib.get_close_matches(column.casefold(), by_folded, n=2)
    hint = f"did you mean {' or '.join(repr(by_folded[name]) for name in near)}? " if near else ""
    return f"{hint}it has: {shown}"
