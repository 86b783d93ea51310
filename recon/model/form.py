"""The form of records: the head of a part-file, which names and types what its records contain.

The form is specified in docs/format.md, with an example in hex; why it is so: docs/decisions/022-records-as-words.md.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Literal

from recon.errors import WrongUsage

MAGIC = b"RECONREC"
VERSION = 1
HEAD = struct.Struct("<8sIIII")
"""Magic, version, bytes of the JSON (a multiple of 8), their CRC-32, 0."""
WORD = 8
"""Bytes of a word. Records and their parts begin at multiples of it."""

WIDE, SUPPRESSED, TEXT, WITHDRAWN, BLOCK, NO_IDS = 1, 2, 4, 8, 16, 32
"""Flags of a record. WIDE: slots have two words. SUPPRESSED: contributions have a word for ``d``. TEXT, WITHDRAWN and BLOCK: the record has
this part. NO_IDS: some contribution has no list of ids."""
IDS_ABSENT = 0xFFFFFFFF
"""The number of ids of a contribution without a list of ids."""
NEAR_BITS = 32
"""Measures whose bits of validity lie beside a contribution's number of ids; the bits of others follow in words of their own."""

_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")

_JSON_LINES = ".jsonl"
"""The suffix of part-files in stores of formats 3 and 4."""

Kind = Literal["sum", "count", "min", "max", "first", "last"]


@dataclass(frozen=True)
class Slot:
    """A measure or a derived value. ``kind``: of the measure, "" for a derived value. ``type``: such as ``decimal(38,2)`` or ``text``."""

    name: str
    type: str
    kind: str = ""

    @property
    def is_timed(self) -> bool:
        """Whether a contribution holds the time by which the value was chosen, in a slot before it."""
        return self.kind in ("first", "last")

    @property
    def scale(self) -> int | None:
        """Digits after the point of a decimal; None for other types."""
        found = _DECIMAL.fullmatch(self.type)
        return int(found[2]) if found else None


@dataclass(frozen=True)
class Form:
    """What the records of a part-file contain. ``statuses``: by code, from 1 on; None where the status is a text, since user logic may set
    any. ``currency``: whether contributions have a set of currencies. ``grid``: of the windows; start, seconds and zone. ``rules``: the
    version."""

    key: tuple[str, ...]
    grid: tuple[str, int, str]
    measures: tuple[Slot, ...]
    derived: tuple[Slot, ...]
    statuses: tuple[str, ...] | None
    currency: bool
    rules: str

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots of a record's header, in order."""
        status = (Slot("status", "text"),) if self.statuses is None else ()
        return (*status, *self.measures, *self.derived)

    @property
    def valid_words(self) -> int:
        """Words of the bits of validity in a header."""
        return max(1, -(-len(self.slots) // 64))

    @property
    def block_valid_words(self) -> int:
        """The same in a block."""
        return max(1, -(-len(self.measures) // 64))

    @property
    def far_words(self) -> int:
        """Words of the bits of validity in a contribution that do not lie beside its number of ids."""
        return -(-max(0, len(self.measures) - NEAR_BITS) // 64)

    @property
    def contribution_slots(self) -> int:
        """Slots of a contribution: its currencies, then each measure's time, if it has one, and value."""
        return int(self.currency) + sum(1 + item.is_timed for item in self.measures)

    def head(self) -> bytes:
        """The head of a part-file of such records. ``read_head`` reads it."""
        body = json.dumps(
            {
                "rules": self.rules,
                "key": self.key,
                "grid": {"start": self.grid[0], "every_s": self.grid[1], "zone": self.grid[2]},
                "currency": self.currency,
                "statuses": self.statuses,
                "measures": [{"name": item.name, "kind": item.kind, "type": item.type} for item in self.measures],
                "derived": [{"name": item.name, "type": item.type} for item in self.derived],
            },
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode()
        body += b" " * (-len(body) % WORD)
        return HEAD.pack(MAGIC, VERSION, len(body), zlib.crc32(body), 0) + body


def head_bytes(start: bytes) -> int:
    """The length of the head of a part-file that begins with ``start``, of at least 24 bytes. Raises ValueError for another file."""
    if len(start) < HEAD.size or not start.startswith(MAGIC):
        raise ValueError(f"it begins with {start[: len(MAGIC)]!r} instead of {MAGIC!r}")
    _, version, length, _, _ = HEAD.unpack_from(start)
    if version != VERSION:
        raise ValueError(f"its records are of version {version}, and this Recon reads version {VERSION}")
    return HEAD.size + int(length)


def read_head(head: bytes) -> Form:
    """The form in a part-file's head. Raises ValueError, KeyError or TypeError where it is not what was written."""
    end = head_bytes(head)
    body = head[HEAD.size : end]
    if len(body) != end - HEAD.size or HEAD.unpack_from(head)[3:] != (zlib.crc32(body), 0):
        raise ValueError("its head is cut or changed")
    read: dict[str, Any] = json.loads(body)
    grid, statuses = read["grid"], read["statuses"]
    return Form(
        key=tuple(read["key"]),
        grid=(str(grid["start"]), int(grid["every_s"]), str(grid["zone"])),
        measures=tuple(Slot(item["name"], item["type"], item["kind"]) for item in read["measures"]),
        derived=tuple(Slot(item["name"], item["type"]) for item in read["derived"]),
        statuses=None if statuses is None else tuple(statuses),
        currency=bool(read["currency"]),
        rules=str(read["rules"]),
    )


class JsonLines(WrongUsage):
    """A part-file was written by a version of Recon whose records are JSON lines."""


def refuse_json_lines(part_file: str) -> None:
    """Raises JsonLines for a part-file of this name."""
    if part_file.endswith(_JSON_LINES):
        raise JsonLines(
            f"{part_file}: its records are JSON lines of an earlier version of Recon; "
            "run 'recon rebuild', which makes them again from the landed events"
        )
