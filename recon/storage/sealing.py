"""Seals: objects of JSON that hold the SHA-256 of their own text, and links from one object to the one before it.

The protocol and what was rejected: docs/decisions/018-chain.md.
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
    """What links name: the SHA-256 of an object's bytes, in hex."""
    return hashlib.sha256(raw).hexdigest()


def sealed(body: Mapping[str, Any], indent: int | None = None) -> bytes:
    """``body`` as JSON, with a last member ``seal``: the SHA-256 of all the bytes before it."""
    compact = None if indent else (",", ":")
    text = json.dumps({**body, SEAL: ""}, indent=indent, separators=compact).encode()
    before, name, after = text.rpartition(b'"seal"')
    return before + name + after.replace(b'""', b'"' + digest_of(before).encode() + b'"')


def unsealed(raw: bytes, needed: bool = False) -> dict[str, Any]:
    """The body of a sealed object; one that has no seal is returned as it is, unless a seal is ``needed``.

    Raises ValueError where it is no JSON object, or the seal is not that of the bytes."""
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
    """Whether the bytes end with the seal of all that is before it."""
    end = _END.search(raw)
    return end is not None and digest_of(raw[: end.start()]) == end[1].decode()
