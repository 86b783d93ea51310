"""Items of the index table: their attributes, the form of long keys, and the order of the pointers of one key.

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
"""Bytes of a partition key in DynamoDB at most."""
MARK = "~recon:"
"""Prefix of item keys that are not the artifact's key itself."""
OWNER = f"{MARK}owner"
"""The item that names the build that owns the table."""
_BEGINNING = 100
_COMMITS = 10**12


@dataclass(frozen=True)
class Pointer:
    """Where the record of a key is; an empty ``file``: the key has no record any more. The pointer with the highest ``sequence`` counts."""

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
    """Orders the pointers of a key: by the ``position`` of their run, then by ``commit``.

    The position of a merge is its own commit, and its ``commit`` is 0. The position of a compaction is the newest commit that it
    contains, and its ``commit`` is its own."""
    return position * _COMMITS + commit


def commit_of(sequence: int) -> int:
    """The newest commit that a sequence is based on."""
    return max(divmod(sequence, _COMMITS))


def item_key(key: str) -> str:
    """The item's key: the artifact's key, or its SHA-256 and beginning if DynamoDB cannot take it or it begins with Recon's prefix."""
    size = len(key.encode())
    if 1 <= size <= KEY_BYTES_MAX and not key.startswith(MARK):
        return key
    return f"{MARK}sha256:{hashlib.sha256(key.encode()).hexdigest()}:{key[:_BEGINNING]}"


def to_item(pointer: Pointer) -> dict[str, dict[str, str]]:
    """The item for DynamoDB's low-level API."""
    item = {"key": {"S": item_key(pointer.key)}, "seq": {"N": str(pointer.sequence)}}
    if not pointer.is_tombstone:
        item |= {"file": {"S": pointer.file}}
        item |= {name: {"N": str(getattr(pointer, name))} for name in ("offset", "length", "check")}
    return item


def from_item(key: str, item: Mapping[str, Mapping[str, Any]]) -> Pointer:
    """The pointer of ``key`` in an item. Raises ValueError, TypeError or KeyError if Recon did not write the item."""
    seq = int(item["seq"]["N"])
    if "file" not in item:
        return Pointer(key, seq)
    return Pointer(key, seq, str(item["file"]["S"]), *(int(item[name]["N"]) for name in ("offset", "length", "check")))
