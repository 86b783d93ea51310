"""A client for other programs: reads the record of a key by one look-up in DynamoDB and one ranged read. It needs only boto3.

A part-file's head, which names what its records contain, takes one more ranged read; it is remembered.

    from recon.serving.client import Artifacts

    orders = Artifacts("s3://ledger/orders")
    found = orders.get("A112")
    found.record["status"] if found else None

`recon show --index dynamodb` uses the runs, too.

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

from recon.model.form import Form, JsonLines, head_bytes, read_head, refuse_json_lines
from recon.model.record import full
from recon.serving.items import Pointer, commit_of, from_item, item_key
from recon.storage import layout

RESOLVED_S = 60.0
"""Seconds until a client asks the store again which table is current."""
RECORD_BYTES_MAX = 1 << 30
"""The limit of recon.state.runs.entries, which this module does not import: it needs numpy."""
FORMS_MAX = 256
"""Part-files whose heads are remembered."""
_HEAD_BYTES = 4096
"""A head of up to this size is read by one request."""
_TRIES = 2


class Unserved(Exception):
    """The table cannot answer now, though the store may have the record: no table is complete yet, or an item points to bytes that are
    gone, are not the key's record, or were written by an earlier version of Recon. Try again a little later, or ask `recon show`."""


@dataclass(frozen=True)
class FoundRecord:
    """A record (recon.model.record.full), without measures and derived values that are null, and the newest commit that its pointer is
    based on."""

    record: dict[str, Any]
    commit: int


class Artifacts:
    """The artifacts of one store, ``s3://bucket/prefix`` or a folder. Safe for many threads.

    ``dynamodb``, ``s3``: boto3's low-level clients; by default made from the environment."""

    def __init__(self, store: str, dynamodb: Any = None, s3: Any = None) -> None:
        self._store: _StoreReader = _Bucket(store, s3) if store.startswith("s3://") else _Folder(Path(store))
        self._dynamodb = dynamodb or _client("dynamodb")
        self._lock = threading.Lock()
        self._table, self._until = "", 0.0
        self._forms: dict[str, Form] = {}

    def get(self, key: str) -> FoundRecord | None:
        """The record of a key; None if the table has none (yet), or the record has no contributions. Length, check and key are verified.

        Raises Unserved, and boto3's errors."""
        why = ""
        for _ in range(_TRIES):  # the record may be moved, and its old place swept, between the look-up and the read
            table = self._current()
            try:
                pointer = self._pointer(table, key)
            except self._dynamodb.exceptions.ResourceNotFoundException:
                why = f"table {table} is gone"
                self._until = 0.0
                continue
            if pointer is None or pointer.is_tombstone:
                return None
            record, why = self._record(pointer)
            if record is not None:
                return FoundRecord(record, commit_of(pointer.sequence))
            self._until = 0.0  # a newer table may be current, and the places of this one may be swept
        raise Unserved(f"{why}; try again a little later, or ask 'recon show'")

    def _pointer(self, table: str, key: str) -> Pointer | None:
        found = self._dynamodb.get_item(TableName=table, Key={"key": {"S": item_key(key)}}, ConsistentRead=True).get("Item")
        try:
            pointer = None if found is None else from_item(key, found)
        except (ValueError, TypeError, KeyError) as error:
            raise Unserved(f"table {table}: the item was not written by Recon ({error!r})") from None
        if pointer and not pointer.is_tombstone and not _points_to_a_record(pointer):
            raise Unserved(f"table {table}: the item points to no record")
        return pointer

    def _record(self, pointer: Pointer) -> tuple[dict[str, Any] | None, str]:
        """The record, or why the bytes at the pointer's place are not the record of its key."""
        try:
            refuse_json_lines(pointer.file)
            raw = self._store.read_range(pointer.file, pointer.offset, pointer.length)
            form = self._form(pointer.file)
        except JsonLines as error:
            raise Unserved(str(error)) from None
        except (ValueError, TypeError, KeyError) as error:
            return None, f"{pointer.file}: its head is not what was written ({error})"
        if raw is None or form is None:
            return None, f"{pointer.file} is gone"
        if len(raw) != pointer.length or zlib.crc32(raw) != pointer.check:
            return None, f"{pointer.file} at {pointer.offset} is not what was written"
        try:
            record = full(form, raw)
        except ValueError:
            return None, f"{pointer.file} at {pointer.offset} is not a record"
        return (record, "") if record["key"] == pointer.key else (None, "the item points to the record of another key")

    def _form(self, part_file: str) -> Form | None:
        """The form of a part-file's records; None if the part-file is gone. Raises what ``read_head`` raises."""
        if (known := self._forms.get(part_file)) is not None:
            return known
        head = self._store.read_range(part_file, 0, _HEAD_BYTES)
        if head is None:
            return None
        if (rest := head_bytes(head) - len(head)) > 0:
            head += self._store.read_range(part_file, len(head), rest) or b""
        form = read_head(head)
        with self._lock:
            self._forms[part_file] = form
            while len(self._forms) > FORMS_MAX:
                del self._forms[next(iter(self._forms))]
        return form

    def _current(self) -> str:
        """The name of the current table."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._table, self._until = self._newest(), time.monotonic() + RESOLVED_S
            return self._table

    def _newest(self) -> str:
        paths = set(self._store.list(layout.SERVING_TABLES))
        numbers = {path.removeprefix(layout.SERVING_TABLES).partition("/")[0] for path in paths}
        for number in sorted((int(number) for number in numbers if number.isdigit()), reverse=True):
            outcome, begun = layout.serving_table_outcome(number), layout.serving_table_begun(number)
            if {outcome, begun} <= paths and self._field(outcome, "outcome") == "stands":
                if layout.serving_table_retired(number) in paths:
                    break
                if table := self._field(begun, "table"):  # else it was removed after the listing
                    return table
        raise Unserved("no table is full yet; next: recon index update")

    def _field(self, path: str, name: str) -> str:
        """A field of a JSON object of the store; "" if the object is gone."""
        body = self._store.read(path)
        try:
            return "" if body is None else str(json.loads(body)[name])
        except (ValueError, TypeError, KeyError) as error:
            raise Unserved(f"{path}: it is not what was written ({error!r}); next: recon index rebuild") from None


def _points_to_a_record(pointer: Pointer) -> bool:
    inside = pointer.file.startswith(layout.STATE) and not {"", ".", ".."} & set(pointer.file.split("/"))
    return inside and 0 < pointer.length <= RECORD_BYTES_MAX and pointer.offset >= 0


class _StoreReader(Protocol):
    """The client's access to a store; None for an object that does not exist."""

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

    def _get(self, path: str, **options: str) -> bytes | None:
        try:
            response = self._client.get_object(Bucket=self._bucket, Key=self._prefix + path, **options)
        except self._client.exceptions.NoSuchKey:
            return None
        except self._client.exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("InvalidRange", "416"):
                return b""
            raise
        body: bytes = response["Body"].read()
        return body

    def list(self, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
        return [found["Key"].removeprefix(self._prefix) for page in pages for found in page.get("Contents", ())]


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
