"""A parcel: consecutive records of one file that travel as one message.

A message's body is two lines of JSON in ASCII, so that SQS takes any text and handlers read the first line alone:

    {"file": "orders/bank/<digest>", "first": 2, "last": 501, "count": 500, "round": 0}
    {"names": ["id", "city"], "lines": [2, 3, …], "columns": [["17", …], ["Köln", null, …]]}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from recon.errors import Damaged, WrongInput

RECORDS_MAX = 500
BYTES_MAX = 240 * 1024
"""Of a message. An item of DynamoDB has at most 400 KB, and a Lambda function is given ten messages in at most 6 MB."""
ALONE_MAX = 20
"""Records that one split sets apart: a transaction of DynamoDB has at most 100 writes."""
Text = str | None
Record = dict[str, Text]


@dataclass(frozen=True)
class Parcel:
    """Records of ``file`` from line ``first`` to line ``last``. ``round``: how often they were redriven. ``records``: the body's second
    line; "" where only the place matters. ``refused``: why they cannot be processed, for a record that is too large to travel."""

    file: str
    first: int
    last: int
    count: int
    round: int
    records: str = ""
    refused: str = ""

    @property
    def source(self) -> str:
        """The source's name."""
        return self.file.split("/")[1]

    @property
    def shown(self) -> str:
        """The place, for logs and messages. Contains no text of a record."""
        lines = f"line {self.first}" if self.count == 1 else f"lines {self.first} to {self.last}"
        return f"{self.file[:-52]}, {lines}"

    def body(self) -> str:
        """The message."""
        head: dict[str, object] = {name: getattr(self, name) for name in ("file", "first", "last", "count", "round")}
        if self.refused:
            head["refused"] = self.refused
        return json.dumps(head) + "\n" + self.records


@dataclass(frozen=True)
class Records:
    """The records of a parcel, by column: texts in the order of ``lines``."""

    names: tuple[str, ...]
    lines: tuple[int, ...]
    columns: tuple[Sequence[Text], ...]

    def rows(self) -> list[Record]:
        """The records one by one."""
        return [dict(zip(self.names, row, strict=True)) for row in zip(*self.columns, strict=True)]

    def __getitem__(self, part: slice) -> Records:
        return Records(self.names, self.lines[part], tuple(column[part] for column in self.columns))

    def encoded(self) -> str:
        """The second line of a body."""
        return json.dumps({"names": self.names, "lines": self.lines, "columns": self.columns}, separators=(",", ":"))


def file_of(reconciliation: str, source: str, digest: str) -> str:
    """The name under which a file's records are stored. ``digest``: SHA-256 of the received bytes, in hex."""
    return f"{reconciliation}/{source}/{digest}"


def parcel_of(body: str) -> Parcel:
    """The parcel in a message. Raises Damaged for a body that is none."""
    head, _, records = body.partition("\n")
    try:
        return Parcel(**json.loads(head), records=records)
    except (ValueError, TypeError):
        raise Damaged("the message is no parcel of records; look at it in the queue's dead letters") from None


def records_of(parcel: Parcel) -> Records:
    """Decodes a parcel's records. Raises Damaged if they are not what the parcel says."""
    try:
        found = json.loads(parcel.records)
        records = Records(tuple(found["names"]), tuple(found["lines"]), tuple(found["columns"]))
    except (ValueError, KeyError, TypeError):
        raise Damaged(f"{parcel.shown}: the message's records cannot be read; look at it in the queue's dead letters") from None
    if {len(records.lines), *map(len, records.columns)} != {parcel.count} or len(records.names) != len(records.columns):
        raise Damaged(f"{parcel.shown}: the message has other records than it says; look at it in the queue's dead letters")
    return records


def names_of(parcel: Parcel) -> list[str]:
    """The columns of a parcel's records, without decoding these."""
    names: list[str]
    names, _ = json.JSONDecoder().raw_decode(parcel.records, parcel.records.index("["))
    return names


def parcels_of(file: str, records: Records) -> Iterator[Parcel]:
    """Records as parcels that fit a message: halves of halves. Depends on the records alone, so that a cleaner that starts again
    makes the same parcels. A record that fits no message becomes a parcel that is refused, with nulls."""
    count = len(records.lines)
    parcel = Parcel(file, records.lines[0], records.lines[-1], count, 0, records.encoded())
    if len(parcel.records) + len(file) + 200 <= BYTES_MAX and count <= RECORDS_MAX:
        yield parcel
    elif count == 1:
        size = f"{len(parcel.records)} bytes as JSON, at most {BYTES_MAX} fit a message; 'recon dlq edit' can shorten it"
        empty = replace(records, columns=tuple([None] for _ in records.names))
        yield replace(parcel, records=empty.encoded(), refused=f"the record is too large: {size}")
    else:
        for part in (slice(0, count // 2), slice(count // 2, None)):
            yield from parcels_of(file, records[part])


def split(parcel: Parcel, at: Sequence[int] = ()) -> list[Parcel]:
    """A parcel's parts: the records at the positions ``at`` alone and the stretches between them; halves if none or too many are named."""
    records = records_of(parcel)
    alone = 0 < len(at) <= ALONE_MAX
    borders = sorted({0, parcel.count, *at, *(one + 1 for one in at)}) if alone else [0, parcel.count // 2, parcel.count]
    parts = (records[first:end] for first, end in pairwise(borders))
    return [Parcel(parcel.file, one.lines[0], one.lines[-1], len(one.lines), parcel.round, one.encoded()) for one in parts]


def result_of(parcel: Parcel, lines: Sequence[int], rows: Sequence[Mapping[str, Text]]) -> Parcel:
    """The parcel with results in place of its records. Raises WrongInput for a result that is no text or too large."""
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    for line, row in zip(lines, rows, strict=True):
        for name, text in row.items():
            if not isinstance(name, str) or not (text is None or isinstance(text, str)):
                raise WrongInput(f"line {line}: the result's {name!r} is {type(text).__name__}; give texts, or None for no value")
    records = Records(names, tuple(lines), tuple([row.get(name) for row in rows] for name in names)).encoded()
    if len(records) > BYTES_MAX:
        raise WrongInput(f"{parcel.shown}: the result has {len(records)} bytes as JSON; at most {BYTES_MAX} fit a message")
    return replace(parcel, records=records)
