"""Hashes of keys and of event ids: MD5 of the store's salt and the text.

A hash only finds candidates; the texts are then compared.

Two texts with the same MD5 can be constructed, but not without the salt: 16 random bytes that only ``store.json`` holds. Stores of format
3 have no salt. See docs/decisions/003-runs.md.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from recon.errors import Damaged
from recon.storage import documents, layout
from recon.storage.port import ObjectStore

if TYPE_CHECKING:
    import duckdb

SALT = "salt"
"""The member of ``store.json``."""
UNSALTED_FORMAT = 3
_SALT_BYTES = 16
_SALT = re.compile(r"[A-Za-z0-9_-]{22}")
_LOW_64_BITS = (1 << 64) - 1
_MD5 = "md5_number({text})::UHUGEINT"
"""SQL of ``_number``."""
_known: WeakKeyDictionary[ObjectStore, str] = WeakKeyDictionary()


def new_salt() -> str:
    """A salt for a new store, as text for ``store.json``."""
    return secrets.token_urlsafe(_SALT_BYTES)


def salt_of(store: ObjectStore) -> str:
    """The salt of a store, read once; "" in a store of format 3. Raises NotFound where there is no store, and Damaged."""
    found = _known.get(store)
    if found is None:
        found = _known[store] = salt_in(documents.read(store, layout.STORE, dict[str, Any], documents.RESTORE))
    return found


def remember(store: ObjectStore, identity: Mapping[str, Any]) -> None:
    """Remembers the salt in ``identity``, the content of ``store.json``, for ``salt_of``. Raises Damaged."""
    _known[store] = salt_in(identity)


def salt_in(identity: Mapping[str, Any]) -> str:
    """The salt in the content of ``store.json``. Raises Damaged where a store of its format must have one and it has none."""
    if identity.get("format") == UNSALTED_FORMAT:
        return ""
    salt = identity.get(SALT)
    if not isinstance(salt, str) or not _SALT.fullmatch(salt):
        raise Damaged(f"{layout.STORE}: damaged ({SALT!r} is not 22 characters of base64); {documents.RESTORE}")
    return salt


def hash_of(key: str, salt: str) -> tuple[int, int]:
    """(hi, lo) of a key: the halves of the MD5 of salt and key, in UTF-8, read as a little-endian number."""
    number = _number((salt + key).encode())
    return number >> 64, number & _LOW_64_BITS


def _number(content: bytes) -> int:
    return int.from_bytes(hashlib.md5(content, usedforsecurity=False).digest(), "little")


def define(connection: duckdb.DuckDBPyConnection, salt: str) -> None:
    """Makes the SQL functions ``key_hash(text)``, an UHUGEINT that holds hi and lo, and ``id_hash(text)``, its low 64 bits as UBIGINT.

    As functions, they keep the salt out of other queries and of the errors that quote those."""
    salted = f"'{salt}' || value" if salt else "value"
    number = _MD5.format(text=f"({salted})")
    connection.execute(f"CREATE OR REPLACE TEMP MACRO key_hash(value) AS {number}")
    connection.execute(f"CREATE OR REPLACE TEMP MACRO id_hash(value) AS ({number} & {_LOW_64_BITS}::UHUGEINT)::UBIGINT")


def halves(number: str) -> tuple[str, str]:
    """SQL of hi and lo, the upper and the lower half of a ``key_hash``."""
    return f"({number} >> 64)::UBIGINT", f"({number} & {_LOW_64_BITS}::UHUGEINT)::UBIGINT"
