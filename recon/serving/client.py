"""A client for other programs: a key → its record, by one look-up in DynamoDB and one ranged read. It needs boto3 and nothing else.

    from recon.serving.client import Artifacts

    orders = Artifacts("s3://ledger/orders")
    found = orders.get("A112")
    found.record["status"] if found else None

`recon show --index dynamodb` looks into the runs besides.

It needs ``s3:GetObject`` and ``s3:ListBucket`` on the store, ``dynamodb:GetItem`` on its tables; credentials, region and endpoints come
from the standard environment.
"""

from __future__ import annotations

import json
import os
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from recon.model.record import full
from recon.serving.items import Pointer, commit_of, from_item, item_key
from recon.storage import layout

RESOLVED_S = 60.0
"""How long a client keeps to a table before it asks the store again which one stands."""
RECORD_BYTES_MAX = 1 << 30
"""As long as the index takes them (recon.state.runs.entries, which needs more than this module may)."""
_TRIES = 2


class Unserved(Exception):
    """The table cannot answer now, though the store may hold the record: none is full yet, or it leads to what is gone or is not the
    key's record. Try again a little later, or ask `recon show`."""


@dataclass(frozen=True)
class FoundRecord:
    """A record (recon.model.record.full), in which a measure or derived value without a value is left out, and the newest commit that its
    pointer rests on."""

    record: dict[str, Any]
    commit: int


class Artifacts:
    """The artifacts of one store, ``s3://bucket/prefix`` or a folder. May be used from many threads.

    ``dynamodb``, ``s3``: boto3's low-level clients, made by the environment where they are not given."""

    def __init__(self, store: str, dynamodb: Any = None, s3: Any = None) -> None:
        self._store: _StoreReader = _Bucket(store, s3) if store.startswith("s3://") else _Folder(Path(store))
        self._dynamodb = dynamodb or _client("dynamodb")
        self._lock = threading.Lock()
        self._table, self._until = "", 0.0

    def get(self, key: str) -> FoundRecord | None:
        """The record of a key; None where the table has none (yet), or nothing is left in it. Its length, check and key are compared.

        Raises Unserved, and boto3's errors."""
        why = ""
        for _ in range(_TRIES):  # a pointer may be moved, and what it led to swept, between the look-up and the read
            table = self._standing()
            try:
                pointer = self._pointer(table, key)
            except self._dynamodb.exceptions.ResourceNotFoundException:
                why = f"table {table} is gone"
                self._until = 0.0
                continue
            if pointer is None or pointer.is_tombstone:
                return None
            raw = self._store.read_range(pointer.file, pointer.offset, pointer.length)
            record, why = _checked(pointer, raw)
            if record is not None:
                return FoundRecord(record, commit_of(pointer.sequence))
            self._until = 0.0  # a newer table may stand, and nothing keep what this one leads to
        raise Unserved(f"{why}; try again a little later, or ask 'recon show'")

    def _pointer(self, table: str, key: str) -> Pointer | None:
        found = self._dynamodb.get_item(TableName=table, Key={"key": {"S": item_key(key)}}, ConsistentRead=True).get("Item")
        try:
            pointer = None if found is None else from_item(key, found)
        except (ValueError, TypeError, KeyError) as error:
            raise Unserved(f"table {table}: the item is none of Recon's ({error!r})") from None
        if pointer and not pointer.is_tombstone and not _leads_to_a_record(pointer):
            raise Unserved(f"table {table}: the item leads to no record")
        return pointer

    def _standing(self) -> str:
        """The table that stands."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._table, self._until = self._newest(), time.monotonic() + RESOLVED_S
            return self._table

    def _newest(self) -> str:
        paths = set(self._store.list(layout.SERVING_TABLES))
        numbers = {path.removeprefix(layout.SERVING_TABLES).partition("/")[0] for path in paths}
        for number in sorted((int(number) for number in numbers if number.isdigit()), reverse=True):
            outcome, begun = layout.serving_table_outcome(number), layout.serving_table_begun(number)
            if {outcome, begun} <= paths and self._told(outcome, "outcome") == "stands":
                if layout.serving_table_retired(number) in paths:
                    break
                if table := self._told(begun, "table"):  # else it was removed since it was listed
                    return table
        raise Unserved("no table is full yet; next: recon index update")

    def _told(self, path: str, name: str) -> str:
        """What an object of the store says under a name; "" where it is gone."""
        body = self._store.read(path)
        try:
            return "" if body is None else str(json.loads(body)[name])
        except (ValueError, TypeError, KeyError) as error:
            raise Unserved(f"{path}: it is not what was written ({error!r}); next: recon index rebuild") from None


def _leads_to_a_record(pointer: Pointer) -> bool:
    inside = pointer.file.startswith(layout.STATE) and not {"", ".", ".."} & set(pointer.file.split("/"))
    return inside and 0 < pointer.length <= RECORD_BYTES_MAX and pointer.offset >= 0


def _checked(pointer: Pointer, raw: bytes | None) -> tuple[dict[str, Any] | None, str]:
    """The record, or why these bytes are not that of the pointer's key."""
    if raw is None:
        return None, f"{pointer.file} is gone"
    if len(raw) != pointer.length or zlib.crc32(raw) != pointer.check:
        return None, f"{pointer.file} at {pointer.offset} is not what was written"
    try:
        record = full(raw)
        key = record["key"]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, f"{pointer.file} at {pointer.offset} is no record"
    return (record, "") if key == pointer.key else (None, "the item leads to the record of another key")


class _StoreReader(Protocol):
    """What the client reads of a store; None for what is gone."""

    def read(self, path: str) -> bytes | None: ...

    def read_range(self, path: str, offset: int, length: int) -> bytes | None: ...

    def list(self, prefix: str) -> list[str]: ...


class _Bucket:
    def __init__(self, location: str, client: Any) -> None:
        self._bucket, _, prefix = location.removeprefix("s3://").partition("/")
        self._prefix = prefix.rstrip("/") + "/" if prefix.rstrip("/") else ""
        self._client = client or _client("s3")

    def read(self, path: str) -> bytes | None:
        return self._get(path)

    def read_range(self, path: str, offset: int, length: int) -> bytes | None:
        return self._get(path, Range=f"bytes={offset}-{offset + length - 1}")

    def _get(self, path: str, **more: str) -> bytes | None:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + path, **more)
        except self._client.exceptions.NoSuchKey:
            return None
        except self._client.exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("InvalidRange", "416"):
                return b""
            raise
        body: bytes = answer["Body"].read()
        return body

    def list(self, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
        return [one["Key"].removeprefix(self._prefix) for page in pages for one in page.get("Contents", ())]


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str) -> bytes | None:
        try:
            return (self._root / path).read_bytes()
        except FileNotFoundError:
            return None

    def read_range(self, path: str, offset: int, length: int) -> bytes | None:
        try:
            with (self._root / path).open("rb") as file:
                file.seek(offset)
                return file.read(length)
        except FileNotFoundError:
            return None

    def list(self, prefix: str) -> list[str]:
        return [found.relative_to(self._root).as_posix() for found in (self._root / prefix).rglob("*") if found.is_file()]


def _client(service: str) -> Any:
    import boto3

    return boto3.session.Session().client(service, region_name=os.environ.get("AWS_REGION") or None)
