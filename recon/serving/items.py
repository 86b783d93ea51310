"""Items of the index table: their attributes, the form of long keys, and the order of what is said about a key.

    key      S  the artifact's key, see ``item_key``; the table's partition key
    file     S  path of the part-file in the store; absent in a tombstone, as are offset, length and check
    offset   N  bytes
    length   N  bytes, line feed included
    check    N  CRC-32 of the record's bytes
    seq      N  see ``sequence``

S is a DynamoDB string, N a number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEY_BYTES_MAX = 2048
"""What DynamoDB takes as a partition key."""
MARK = "~recon:"
"""What items begin with whose name is not the artifact's key itself."""
OWNER = f"{MARK}owner"
"""The item that says which filling a table belongs to."""
_BEGINNING = 100
_COMMITS = 10**12


@dataclass(frozen=True)
class Pointer:
    """What is said of a key: where its record lies, or with an empty ``file`` that it has none any more. ``sequence``: against others."""

    key: str
    sequence: int
    file: str = ""
    offset: int = 0
    length: int = 0
    check: int = 0

    @property
    def is_tombstone(self) -> bool:
        return not self.file


def sequence(position: int, commit: int = 0) -> int:
    """The order of what commits say of a key: by the ``position`` of their run, then by ``commit``.

    A merge stands at its own commit and says 0. A compaction stands at the newest commit that it took in, and says its own commit."""
    return position * _COMMITS + commit


def commit_of(sequence: int) -> int:
    """The newest commit that a sequence rests on."""
    return max(divmod(sequence, _COMMITS))


def item_key(key: str) -> str:
    """The item's name: the key itself; for one that DynamoDB cannot take, or that begins as our own marks do, its SHA-256 and beginning."""
    size = len(key.encode())
    if 1 <= size <= KEY_BYTES_MAX and not key.startswith(MARK):
        return key
    return f"{MARK}sha256:{hashlib.sha256(key.encode()).hexdigest()}:{key[:_BEGINNING]}"


def to_item(pointer: Pointer) -> dict[str, dict[str, str]]:
    """As DynamoDB's low-level calls take it."""
    item = {"key": {"S": item_key(pointer.key)}, "seq": {"N": str(pointer.sequence)}}
    if not pointer.is_tombstone:
        item |= {"file": {"S": pointer.file}}
        item |= {name: {"N": str(getattr(pointer, name))} for name in ("offset", "length", "check")}
    return item


def from_item(key: str, item: Mapping[str, Mapping[str, Any]]) -> Pointer:
    """The pointer of ``key`` that an item holds. Raises ValueError, TypeError or KeyError where it is none of ours."""
    seq = int(item["seq"]["N"])
    if "file" not in item:
        return Pointer(key, seq)
    return Pointer(key, seq, str(item["file"]["S"]), *(int(item[name]["N"]) for name in ("offset", "length", "check")))
