"""Seals: JSON objects that end with the SHA-256 of their own text, and links from each object to the previous one.

Protocol and rejected alternatives: docs/decisions/018-chain.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

SEAL = "seal"

_END = re.compile(rb'"seal": ?"([0-9a-f]{64})"\n?\}\Z')


def digest_of(raw: bytes) -> str:
    """The SHA-256 of an object's bytes, in hex, as links name it."""
    return hashlib.sha256(raw).hexdigest()


def sealed(body: Mapping[str, Any], indent: int | None = None) -> bytes:
    """``body`` as JSON with a last member ``seal``, the SHA-256 of all bytes before it."""
    compact = None if indent else (",", ":")
    text = json.dumps({**body, SEAL: ""}, indent=indent, separators=compact).encode()
    before, name, after = text.rpartition(b'"seal"')
    return before + name + after.replace(b'""', b'"' + digest_of(before).encode() + b'"')


def unsealed(raw: bytes, needed: bool = False) -> dict[str, Any]:
    """The body of a sealed object, without its seal. An object without a seal is accepted unless a seal is ``needed``.

    Raises ValueError for bytes that are no JSON object, or whose seal does not fit."""
    body = json.loads(raw)
    if not isinstance(body, dict):
        raise ValueError("it holds no object")
    if SEAL not in body and not needed:
        return body
    if not seal_fits(raw):
        raise ValueError("its seal does not fit: it is not what was written")
    body.pop(SEAL)
    return body


def seal_fits(raw: bytes) -> bool:
    """Whether the bytes end with the seal of all bytes before it."""
    end = _END.search(raw)
    return end is not None and digest_of(raw[: end.start()]) == end[1].decode()
