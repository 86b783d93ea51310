"""dBase and FoxPro tables: a row is a record, numbers are their text in the file. dbfread reads the header and the field types."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

from recon.config.settings import Limits
from recon.errors import WrongInput
from recon.intake.converters.cells import number_cell
from recon.intake.converters.layouts import DBase
from recon.intake.converters.port import DELETED, Control, Received
from recon.intake.converters.text import not_empty
from recon.intake.files.formats import one_line
from recon.intake.files.inspect import require_names
from recon.intake.files.raw import raw_table, shown

_BATCH_ROWS = 8_192
_HEADER_MAX = 1 << 16
_FIELD_BYTES = 32
_MEMOS = "MGPB"
_HIDDEN = "0"
"""The type of FoxPro's flags of nulls, which are no column."""


class DBaseRows:
    """A line is a record's number. A record that is marked as deleted is a row with the problem ``DELETED``."""

    def __init__(self, received: Received, layout: DBase, declared: Sequence[str] | None, limits: Limits) -> None:
        self.name, self._path = received.shown, received.path
        self.controls: list[Control] = []
        not_empty(received)
        self._table = self._opened(layout.encoding)
        header, width = self._table.header, 1 + sum(each.length for each in self._table.fields)
        if header.recordlen != width or not self._table.fields:
            raise self._wrong(f"its records have {header.recordlen} bytes, its fields {width}")
        if header.encryption_flag:
            raise WrongInput(f"{self.name}: the table is encrypted; send it without a password")
        self._columns = [each for each in self._table.fields if each.type != _HIDDEN]
        self.names: Sequence[str] = tuple(each.name for each in self._columns)
        require_names(self.name, "the header", self.names, declared or ())
        memo = next((each for each in self._columns if each.name in (declared or ()) and self._is_memo(each)), None)
        if memo is not None:
            raise WrongInput(f"{self.name}: column {memo.name!r} is a memo, whose texts are in another file; write it as a character field")

    def _wrong(self, reason: str) -> WrongInput:
        return WrongInput(f"{self.name}: no whole dBase file ({reason}); transfer it again")

    def _opened(self, encoding: str | None) -> Any:
        import dbfread

        with self._path.open("rb") as file:
            start = file.read(_HEADER_MAX + 1)
        if b"\r" not in start[_FIELD_BYTES:_HEADER_MAX:_FIELD_BYTES]:
            raise self._wrong("its list of fields does not end")
        options: dict[str, Any] = {"ignorecase": False, "ignore_missing_memofile": True, "parserclass": _texts()}
        try:
            return dbfread.DBF(str(self._path), encoding=encoding, **options)
        except Exception as error:  # a damaged header raises errors of any kind in dbfread
            raise self._wrong(one_line(error)) from None

    def _is_memo(self, each: Any) -> bool:
        return each.type in _MEMOS and not (each.type == "B" and each.length == 8)

    @cached_property
    def _parse(self) -> Callable[[Any, bytes], str | None]:
        parse: Callable[[Any, bytes], str | None] = _texts()(self._table).parse
        return parse

    def _records(self) -> Iterator[tuple[int, bytes]]:
        """Number and bytes of each record, its mark first."""
        size, number = self._table.header.recordlen, 0
        with self._path.open("rb") as file:
            file.seek(self._table.header.headerlen)
            while block := file.read(size * _BATCH_ROWS):
                for place in range(0, len(block), size):
                    record = block[place : place + size]
                    if record[:1] == b"\x1a" or (len(record) < size and not record.strip(b"\0\x1a")):
                        return
                    number += 1
                    yield number, record

    def batches(self) -> Iterator[Any]:
        import pyarrow as pa

        labels = ["line", "span", "problem", *(f"t{position}" for position in range(len(self.names)))]
        kinds = [pa.int64(), pa.int32(), *[pa.string()] * (1 + len(self.names))]

        def made(rows: list[tuple[Any, ...]]) -> Any:
            columns = zip(*rows, strict=True)
            return pa.record_batch([pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)], names=labels)

        rows: list[tuple[Any, ...]] = []
        number = 0
        for number, record in self._records():
            problem, values = self._values(record)
            rows.append((number, 1, problem, *values))
            if len(rows) == _BATCH_ROWS:
                yield made(rows)
                rows = []
        self._tie(number)
        if rows:
            yield made(rows)

    def _tie(self, found: int) -> None:
        """Raises WrongInput if the file has not the records that its header says."""
        declared = self._table.header.numrecords
        self.controls[:] = [Control("header", "records", f"{declared:,}", f"{found:,}")]
        if declared != found:
            raise self._wrong(f"its header has {declared:,} records, the file {found:,}")

    def _values(self, record: bytes) -> tuple[str | None, list[str | None]]:
        values: list[str | None] = []
        problem = DELETED if record[:1] == b"*" else None if record[:1] == b" " else f"a record with the mark {record[:1]!r}"
        if len(record) < self._table.header.recordlen:
            return "a record that is cut off", [None] * len(self.names)
        place = 1
        for each in self._table.fields:
            part = record[place : place + each.length]
            place += each.length
            if each.type == _HIDDEN:
                continue
            try:
                values.append(None if self._is_memo(each) else self._parse(each, part))
            except (ValueError, struct.error, OverflowError) as error:
                values.append(None)
                hint = f"; declare the encoding, it is not {self._table.encoding}" if isinstance(error, UnicodeDecodeError) else ""
                problem = problem or f"{each.name}: {one_line(error)}{hint}"
        return problem, values

    def raw(self, lines: Any, spans: Any) -> Iterator[Any]:
        import numpy as np

        wanted = iter(lines.tolist())
        line = next(wanted, None)
        found: list[tuple[int, str]] = []
        for number, record in self._records():
            if line is None:
                break
            if number == line:
                found.append((number, self._as_json(record)))
                line = next(wanted, None)
        if found:
            yield raw_table(np.array([number for number, _ in found], np.int64), [text for _, text in found])

    def _as_json(self, record: bytes) -> str:
        """The record's fields as they are in the file; bytes that its encoding does not have are replaced."""
        place, parts = 1, []
        for each in self._table.fields:
            parts.append(record[place : place + each.length].decode(self._table.encoding, "replace"))
            place += each.length
        return shown(json.dumps(parts, ensure_ascii=False).encode("utf-8", "replace"))

    def place(self, line: int) -> str:
        return f"record {line}"


def _texts() -> Any:
    """dbfread's parser of fields, but for exact texts in place of floats."""
    from dbfread import FieldParser

    class Texts(FieldParser):  # type: ignore[misc]
        def parseN(self, field: Any, data: bytes) -> str | None:  # noqa: N802 - dbfread finds these methods by their names
            text = data.strip(b" \0").strip(b"*").decode("ascii").strip()
            return text or None

        parseF = parseN  # noqa: N815

        def parseD(self, field: Any, data: bytes) -> str | None:  # noqa: N802
            found = super().parseD(field, data)
            return None if found is None else found.isoformat()

        def parseL(self, field: Any, data: bytes) -> str | None:  # noqa: N802
            found = super().parseL(field, data)
            return None if found is None else str(found).lower()

        def parseI(self, field: Any, data: bytes) -> str | None:  # noqa: N802
            return str(super().parseI(field, data))

        def parseO(self, field: Any, data: bytes) -> str | None:  # noqa: N802
            return _exact(super().parseO(field, data))

        def parseB(self, field: Any, data: bytes) -> str | None:  # noqa: N802
            return _exact(struct.unpack("<d", data)[0])

        def parseT(self, field: Any, data: bytes) -> str | None:  # noqa: N802
            found = super().parseT(field, data)
            return None if found is None else found.isoformat()

        def parseY(self, field: Any, data: bytes) -> str | None:  # noqa: N802
            return f"{super().parseY(field, data):.4f}"

        parse2B = parseI  # noqa: N815
        parse40 = parseT

    return Texts


def _exact(value: float) -> str | None:
    cell = number_cell(0, repr(value))
    if cell.problem is not None:
        raise ValueError(cell.problem)
    return cell.text
