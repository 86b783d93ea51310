"""Turns a NACHA (ACH) file into events: `python ach_events.py data/FILE.ach.gz events/FILE.parquet`.

Layout after the Nacha Operating Rules, 94 characters a record, positions counted from 1:

    5 batch header 88-94 batch number
    6 entry 2-3 transaction code, 4-11 receiving bank's routing number less its check digit, 30-39 cents,
                     80-94 trace number
    7 addenda 84-87 sequence, 88-94 the entry's sequence
    8 batch control 5-10 entries and addenda, 11-20 entry hash, 21-32 debit cents, 33-44 credit cents,
                     88-94 batch number
    9 file control 2-7 batches, 14-21 entries and addenda; further lines of nines fill the last block of ten

The entry hash is the sum of the entries' routing numbers, of which the right-most ten digits are kept.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

LENGTH = 94
FOLLOWERS = {"1": "5", "5": "68", "6": "678", "7": "678", "8": "59", "9": "9"}
CREDIT_CODES = (21, 22, 23, 24, 31, 32, 33, 34, 41, 42, 43, 44, 51, 52, 53, 54)
DEBIT_CODES = (26, 27, 28, 29, 36, 37, 38, 39, 46, 47, 48, 49, 55, 56)
KINDS = {"6": "ENTRY", "7": "ADDENDA", "8": "CONTROL"}

SCHEMA = pa.schema(
    {
        "file": pa.string(),
        "line": pa.int64(),  # of the record in the NACHA file, from 1
        "batch": pa.string(),  # the header's number, seven digits
        "event_id": pa.string(),  # an entry's trace number; else the kind and what numbers it
        "kind": pa.string(),  # ENTRY, ADDENDA, CONTROL
        "code": pa.string(),  # an entry's transaction code
        "records": pa.int64(),  # 1; a control record's declared entries and addenda
        "routing": pa.int64(),  # an entry's routing number; a control record's declared entry hash
        "debit": pa.decimal128(18, 2),  # null where the code says credit, both null where it says neither
        "credit": pa.decimal128(18, 2),
        "declared_batch": pa.string(),  # a control record's batch number
    }
)

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Records:
    """The lines of one file: ``text`` is (lines, 94) bytes; ``batch`` numbers the batch each line lies in, from 0."""

    name: str
    text: Bytes
    batch: Integers

    def where(self, kind: str) -> Integers:
        """Positions of the records of one type, in order. File fillers, lines of nines, are not file controls."""
        found: Integers = np.flatnonzero(self.text[:, 0] == ord(kind))
        return found[:1] if kind == "9" else found

    def column(self, rows: Integers, first: int, last: int) -> pa.Array:
        """Characters ``first`` to ``last`` of the rows, as text."""
        cut = np.ascontiguousarray(self.text[rows, first - 1 : last])
        return pa.array(cut.view(f"S{last - first + 1}").ravel().astype(str))

    def number(self, rows: Integers, first: int, last: int, what: str) -> Integers:
        """The same as integers. ValueError names the first line that has something other than digits."""
        digits = self.text[rows, first - 1 : last].astype(np.int64) - ord("0")
        bad = np.flatnonzero(((digits < 0) | (digits > 9)).any(axis=1))
        if len(bad):
            found = bytes(self.text[rows[bad[0]], first - 1 : last]).decode("latin-1")
            raise ValueError(f"{self.name}, line {rows[bad[0]] + 1}: {what}, {found!r}, has characters other than digits")
        return digits @ 10 ** np.arange(last - first, -1, -1)


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error):
        raise ValueError(f"{path.name}: not a whole gzip file; fetch it again") from None


def read_records(path: Path) -> Records:
    """A plain or .gz NACHA file → its records. ValueError names file and line where the form is wrong."""
    lines = _content(path).splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise ValueError(f"{path.name}: the file is empty; expected records of {LENGTH} characters")
    for number, line in enumerate(lines, 1):
        if len(line) != LENGTH:
            raise ValueError(f"{path.name}, line {number}: {len(line)} characters, expected {LENGTH}; is it cut off?")
        if not line.isascii():
            raise ValueError(f"{path.name}, line {number}: characters other than ASCII; a NACHA file has none")
    text = np.frombuffer(b"".join(lines), dtype=np.uint8).reshape(-1, LENGTH)
    batch = np.cumsum(text[:, 0] == ord("5")) - 1
    records = Records(path.name, text, batch)
    _check_order(records)
    _check_headers(records)
    _check_counts(records)
    return records


def _check_order(records: Records) -> None:
    kinds = records.text[:, 0]
    allowed = np.zeros((256, 256), dtype=bool)
    for before, after in FOLLOWERS.items():
        allowed[ord(before), [ord(kind) for kind in after]] = True
    wrong = np.flatnonzero(~allowed[kinds[:-1], kinds[1:]])
    if kinds[0] != ord("1"):
        raise ValueError(f"{records.name}, line 1: record type {chr(kinds[0])!r}, expected '1', the file header")
    if len(wrong):
        before, after = (chr(kind) for kind in kinds[wrong[0] : wrong[0] + 2])
        expected = " or ".join(FOLLOWERS[before])
        at = f"{records.name}, line {wrong[0] + 2}"
        raise ValueError(f"{at}: record type {after!r} after {before!r}, expected {expected}")
    if kinds[-1] != ord("9"):
        raise ValueError(f"{records.name}, line {len(kinds)}: the file ends without its file control, record type '9'")


def _check_headers(records: Records) -> None:
    rows = records.where("5")
    numbers = records.number(rows, 88, 94, "the batch number")
    _, firsts = np.unique(numbers, return_index=True)
    again = np.setdiff1d(np.arange(len(rows)), firsts)
    if len(again):
        at = f"{records.name}, line {rows[again[0]] + 1}"
        raise ValueError(f"{at}: batch number {numbers[again[0]]:07d} is in an earlier header of this file too")


def _check_counts(records: Records) -> None:
    control = records.where("9")
    held = len(records.where("6")) + len(records.where("7"))
    for first, last, what, found in (
        (2, 7, "batches", len(records.where("5"))),
        (14, 21, "entries and addenda", held),
    ):
        declared = int(records.number(control, first, last, f"the number of {what}")[0])
        if declared != found:
            at = f"{records.name}, line {control[0] + 1}"
            raise ValueError(f"{at}: the file control declares {declared} {what}, the file has {found}: download it again")


def _money(cents: Integers, given: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    whole = pa.array(cents, mask=None if given is None else ~given).cast(pa.decimal128(19, 0))
    return pc.multiply(whole, pa.scalar(Decimal("0.01"))).cast(pa.decimal128(18, 2))


def _events(records: Records, kind: str, columns: dict[str, pa.Array]) -> pa.Table:
    rows = records.where(kind)
    numbers = records.column(records.where("5"), 88, 94)
    known = {
        "file": pa.repeat(records.name, len(rows)),
        "line": pa.array(rows + 1),
        "batch": numbers.take(pa.array(records.batch[rows])),
        "kind": pa.repeat(KINDS[kind], len(rows)),
        "records": pa.array(np.ones(len(rows), dtype=np.int64)),
        **columns,
    }
    return pa.table([known.get(field.name, pa.nulls(len(rows), field.type)) for field in SCHEMA], schema=SCHEMA)


def _entries(records: Records) -> pa.Table:
    rows = records.where("6")
    code = records.number(rows, 2, 3, "the transaction code")
    cents = records.number(rows, 30, 39, "the amount")
    return _events(
        records,
        "6",
        {
            "event_id": records.column(rows, 80, 94),
            "code": records.column(rows, 2, 3),
            "routing": pa.array(records.number(rows, 4, 11, "the routing number")),
            # An unknown code is neither: its amount is in no total, so that its batch breaks and the others stand.
            "debit": _money(cents, np.isin(code, DEBIT_CODES)),
            "credit": _money(cents, np.isin(code, CREDIT_CODES)),
        },
    )


def _addenda(records: Records) -> pa.Table:
    rows = records.where("7")
    # The line makes it an identity of its own even where sequences are wrong: a count that is off must not be hidden.
    return _events(records, "7", {"event_id": pc.binary_join_element_wise("addenda", pa.array(rows + 1).cast(pa.string()), "-")})


def _controls(records: Records) -> pa.Table:
    rows = records.where("8")
    return _events(
        records,
        "8",
        {
            "event_id": pa.repeat("control", len(rows)),
            "records": pa.array(records.number(rows, 5, 10, "the entry and addenda count")),
            "routing": pa.array(records.number(rows, 11, 20, "the entry hash")),
            "debit": _money(records.number(rows, 21, 32, "the total debit")),
            "credit": _money(records.number(rows, 33, 44, "the total credit")),
            "declared_batch": records.column(rows, 88, 94),
        },
    )


def read_events(path: Path) -> pa.Table:
    """A NACHA file → one event per entry, addenda and batch control record (SCHEMA), in the order of the file."""
    records = read_records(path)
    return pa.concat_tables([_entries(records), _addenda(records), _controls(records)]).sort_by("line")


def write_events(source: Path, target: Path) -> int:
    """Writes the events of a NACHA file as Parquet; returns their number."""
    events = read_events(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(events, target)
    return len(events)


def change_digit(source: Path, target: Path, line: int, position: int) -> str:
    """Copies a NACHA file, the digit at ``line`` and ``position`` (from 1) changed to the next one; returns that."""
    lines = _content(source).split(b"\n")
    record = lines[line - 1]
    digit = record[position - 1 : position].decode("ascii")
    if not digit.isdigit():
        raise ValueError(f"{source.name}, line {line}, position {position}: {digit!r} is not a digit; choose another")
    changed = str((int(digit) + 1) % 10)
    lines[line - 1] = record[: position - 1] + changed.encode() + record[position:]
    target.write_bytes(gzip.compress(b"\n".join(lines)) if target.suffix == ".gz" else b"\n".join(lines))
    return changed


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python ach_events.py FILE.ach[.gz] EVENTS.parquet")
    try:
        print(f"{write_events(Path(sys.argv[1]), Path(sys.argv[2])):,} events")
    except (ValueError, OSError) as reason:
        sys.exit(str(reason))
