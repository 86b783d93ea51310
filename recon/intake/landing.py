"""What is looked at when a file is landed: whether it is what its name says, whole, and has the columns.

Belongs here: faults of whole files that can be found before any row is. Does not belong here: faults of single rows.
"""

from __future__ import annotations

import difflib
from collections import Counter, deque
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from recon.errors import WrongInput
from recon.intake.columnar import is_text, open_parquet, refuse_inexact, refuse_nested
from recon.intake.delimited import delimiter_of, header_of
from recon.intake.formats import BROKEN, Format, blocks, format_of, head_text
from recon.intake.jsonlines import absent_members
from recon.intake.model import SourceFile

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
"""Behind a byte from 0x50 to 0x5f: a frame of zstd that holds no data."""


def inspect(name: str, path: Path, columns: Sequence[str], ordered: Collection[str] = (), texts: Collection[str] = ()) -> None:
    """Raises WrongUsage for a name that tells no format, WrongInput for a file that is not that format, not whole, or
    lacks a column. ``ordered``, ``texts``: see EventSpec.

    A compressed file is decompressed to its end.
    """
    form = format_of(name)
    try:
        with path.open("rb") as stream:
            start = stream.read(8)
    except OSError as error:
        raise WrongInput(f"{name}: can't be read from {path}: {error.strerror}") from None
    if not start:
        raise WrongInput(f"{name}: the file is empty (0 bytes); expected at least a header, or land no file")
    _check_magic(name, start, "Parquet" if form.kind == "parquet" else form.codec)
    if form.codec:
        deque(blocks(name, path, form.codec), maxlen=0)
    if form.kind != "parquet":
        _check_text(name, path, form)
    require_columns(SourceFile(name, path), columns, ordered)
    if form.kind == "parquet":
        refuse_inexact(SourceFile(name, path), texts)


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
    """What the first lines show, after decompression."""
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
        raise WrongInput(f"{name}: line 1 begins an object that goes on below; expected JSON lines: one whole object a line")
    elif first and not first.startswith("{"):
        raise WrongInput(f"{name}: line 1 is no JSON object; expected JSON lines, or the file is CSV and needs the name .csv")


def require_columns(file: SourceFile, columns: Sequence[str], ordered: Collection[str] = ()) -> None:
    """Raises WrongInput if the header, the Parquet schema or every object of JSON lines lacks one of ``columns``, if the first two have a
    name twice, or if a Parquet column is none that can be read as it is to be: nested, or ``ordered`` and of a type that as text has
    another order."""
    form = format_of(file.name)
    if form.kind == "json":
        absent, members = ([], []) if file.partial else absent_members(file, columns)
        if absent:
            raise WrongInput(f"{file.name}: no line has a member {absent[0]!r}; {_what_is_there(absent[0], members, form)}")
        return
    schema = open_parquet(file).schema_arrow if form.kind == "parquet" else None
    there = schema.names if schema is not None else header_of(file)
    where = "the schema" if form.kind == "parquet" else "line 1: the header"
    twice = [column for column, count in Counter(there).items() if count > 1]
    if twice:
        raise WrongInput(f"{file.name}: {where} has column {twice[0]!r} twice; give each column its own name")
    for column in columns:
        if column not in there:
            raise WrongInput(f"{file.name}: {where} has no column {column!r}; {_what_is_there(column, there, form)}")
    if schema is not None:
        for column in columns:
            _check_type(f"{file.name}: column {column!r}", schema.field(column).type, column, column in ordered)


def _check_type(place: str, kind: Any, column: str, ordered: bool) -> None:
    """What a Parquet schema tells of a column before any row is read."""
    refuse_nested(kind, place)
    if ordered and not is_text(kind):
        raise WrongInput(
            f"{place} is {kind} and would be compared as text, in which 9 is more than 10; "
            f"declare it under events.types in recon.yaml, such as {column}: integer, or {column}: text if that is meant"
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
