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
from recon.intake.files.parquet import is_text, open_parquet, refuse_inexact, refuse_nested
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
    _check_magic(name, start, "Parquet" if form.kind == "parquet" else form.codec)
    if form.kind != "parquet":
        _check_lines(name, path, form, spec.limits)
        _check_text(name, path, form)
    require_columns(SourceFile(name, path), spec)
    if form.kind == "parquet":
        refuse_inexact(SourceFile(name, path), spec.texts)


def _check_lines(name: str, path: Path, form: Format, limits: Limits) -> None:
    """Reads a text file to its end. Raises WrongInput for a line longer than ``limits.line``."""
    line, since = 1, 0  # the current line, and its bytes so far
    for block in blocks(name, path, form.codec, min(BLOCK_BYTES, limits.line), limits):
        first = block.find(b"\n")
        if since + (first if first >= 0 else len(block)) > limits.line:
            raise line_too_long(name, line, limits.line)
        line += block.count(b"\n")
        since = since + len(block) if first < 0 else len(block) - block.rfind(b"\n") - 1


def _check_magic(name: str, start: bytes, expected: str | None) -> None:
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
    _check_magic(name, first_block, None)
    text = head_text(name, path, form.codec)
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line), "")
    if "\n" not in text and "\r" in text.rstrip("\r\n"):
        raise WrongInput(f"{name}: lines end with carriage returns only; end them with line feeds")
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


def require_columns(file: SourceFile, spec: EventSpec) -> None:
    """Raises WrongInput if the header, the Parquet schema or all objects of JSON lines lack a column of ``spec``, if a header or schema has
    it twice, or if a Parquet file has more rows than ``spec.limits`` or a column of an unusable type."""
    form = format_of(file.name)
    if form.kind == "json":
        absent, members = ([], []) if file.partial else absent_members(file, spec.names, spec.limits)
        if absent:
            raise WrongInput(f"{file.name}: no line has a member {absent[0]!r}; {_what_is_there(absent[0], members, form)}")
        return
    opened = open_parquet(file) if form.kind == "parquet" else None
    there = opened.schema_arrow.names if opened is not None else header_of(file)
    where = "the schema" if form.kind == "parquet" else "line 1: the header"
    counts = Counter(there)
    for column in spec.names:
        if counts[column] > 1:
            raise WrongInput(f"{file.name}: {where} has column {column!r} twice; give each column its own name")
        if column not in there:
            hint = _header_elsewhere(file, spec.names) if opened is None else None
            raise WrongInput(f"{file.name}: {hint or f'{where} has no column {column!r}; {_what_is_there(column, there, form)}'}")
    if opened is not None:
        _check_size(file, opened, spec)
        for column in spec.names:
            _check_type(f"{file.name}: column {column!r}", opened.schema_arrow.field(column).type, column, spec)


_LINES_ABOVE_MAX = 100
"""A header that is not in line 1 is searched for up to this line."""


def _header_elsewhere(file: SourceFile, columns: Sequence[str]) -> str | None:
    """The advice where the header is not line 1 but a later one, after blank lines or a title."""
    form = format_of(file.name)
    lines = head_text(file.name, file.path, form.codec).split("\n")[:_LINES_ABOVE_MAX]
    readable = enumerate(csv.reader((line.rstrip("\r") for line in lines), delimiter=delimiter_of(form.kind)), 1)
    try:
        number = next((number for number, fields in readable if number > 1 and set(columns) <= set(fields)), None)
    except csv.Error:
        return None
    if number is None:
        return None
    first = lines[0].strip()
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


def _what_is_there(column: str, there: Sequence[str], form: Format) -> str:
    shown = ", ".join(there[:20])[:300] + (" …" if len(there) > 20 else "")
    if len(there) == 1 and form.kind in ("csv", "tsv"):
        other = next((mark for mark in (";", "\t", ",", "|") if mark in there[0]), None)
        if other:
            return f"it is {shown!r}, which is separated by {other!r}; expected {delimiter_of(form.kind)!r}"
    by_folded = {name.strip().casefold(): name for name in there}
    near = difflib.get_close_matches(column.casefold(), by_folded, n=2)
    hint = f"did you mean {' or '.join(repr(by_folded[name]) for name in near)}? " if near else ""
    return f"{hint}it has: {shown}"
