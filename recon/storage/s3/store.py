"""The object store in S3: each object one key below the prefix, created by a conditional put.

Design: docs/decisions/011-s3-store.md.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from recon.config.settings import S3Settings
from recon.errors import ConnectionLost, Damaged, WrongUsage
from recon.metering.meter import Meter
from recon.storage.disk_errors import copy_to_file, local_pieces
from recon.storage.port import AlreadyExists, NotFound, ReadCost, check_path
from recon.storage.s3 import multipart
from recon.storage.s3.requests import Refused, Requests
from recon.storage.s3.session import KEY_LENGTH_MAX_BYTES, Location, Session, location_of

if TYPE_CHECKING:
    from obstore import ObjectMeta

SHA256, PUT = "recon-sha256", "recon-put"
"""Metadata of an object: the digest of its bytes (unless it has many parts), and the put that created it."""
PIECE_BYTES = 16 << 20
"""Longer reads are split into pieces of this length, read in parallel."""
COST = ReadCost(gap_max_bytes=1 << 20, request_max_bytes=1 << 23, requests_at_once=32)
PAGE_KEYS = 1000
GARBLED_MAX = 3

T = TypeVar("T")


def open_s3(location: str, settings: S3Settings | None = None, meter: Meter | None = None) -> S3Store:
    """The store at ``s3://bucket/prefix``. Sends no request. Raises WrongUsage and TryAgain for the location and the credentials."""
    return S3Store(location_of(location), settings or S3Settings(), meter)


class S3Store:
    """A store below a prefix of a bucket. Nothing outside the prefix is listed, read or written."""

    def __init__(self, location: Location, settings: S3Settings, meter: Meter | None = None) -> None:
        self.location = location
        self.cost = ReadCost(COST.gap_max_bytes, COST.request_max_bytes, settings.requests_at_once)
        self._requests = Requests(location, settings, meter)

    @property
    def meter(self) -> Meter:
        """Counts every request; may be set at any time."""
        return self._requests.meter

    @meter.setter
    def meter(self, meter: Meter) -> None:
        self._requests.meter = meter

    def put_new(self, path: str, chunks: Iterable[bytes | memoryview]) -> int:
        """See ObjectStore. At most one part of ``chunks`` is read when the object exists already."""
        key, mark = self._key(path), secrets.token_hex(16)
        parts = multipart.cut(chunks)
        first = next(parts, b"")
        second = next(parts, None)
        try:
            if second is None:
                size = self._put(key, first, mark)
            elif self._mark_of(key) is not None:
                raise self._exists_already(path)
            else:
                size = multipart.put(self._requests, key, chain((first, second), parts), {PUT: mark})
        except Refused as refused:
            # Replies may be lost: the mark of the object shows which put created it.
            if self._mark_of(key) != mark:
                if refused.failure.exists:
                    raise self._exists_already(path) from None
                raise ConnectionLost(f"{self.location.url(key)}: its upload is gone; run the same again") from None
            size = len(first) if second is None else self.size(path)
        return size

    def _exists_already(self, path: str) -> AlreadyExists:
        return AlreadyExists(f"{path}: exists already in {self.location} and is never overwritten")

    def _put(self, key: str, body: bytes, mark: str) -> int:
        attributes = {SHA256: hashlib.sha256(body).hexdigest(), PUT: mark}

        def put(session: Session) -> None:
            session.bucket.put(key, body, mode="create", attributes=attributes, use_multipart=False)

        self._requests.send("PutObject", key, put, sent=len(body))
        return len(body)

    def _mark_of(self, key: str) -> str | None:
        """The put that created the object: "" if unknown, None if there is no object."""
        try:
            found = self._requests.send("HeadObject", key, lambda session: session.bucket.get(key, options={"head": True}))
        except Refused:
            return None
        return str(found.attributes.get(PUT, ""))

    def signed(self, path: str, seconds: int) -> str:
        """A link by which anyone reads the object for so many seconds; S3 checks it. Sends no request to S3."""
        import obstore

        return str(obstore.sign(self._requests.session().bucket, "GET", self._key(path), timedelta(seconds=seconds)))

    def get(self, path: str) -> bytes:
        key = self._key(path)

        def get(session: Session) -> tuple[bytes | None, int, str]:
            answer = session.bucket.get(key)
            size = int(answer.meta["size"])
            if size > PIECE_BYTES:
                return None, size, ""
            return answer.bytes().to_bytes(), size, str(answer.attributes.get(SHA256, ""))

        for _ in range(GARBLED_MAX):
            body, size, digest = self._reading(path, lambda: self._requests.send("GetObject", key, get, received=_length))
            if body is None:
                return b"".join(self._pieces(path, 0, size))
            if not digest or hashlib.sha256(body).hexdigest() == digest:
                return body
        raise Damaged(
            f"{path}: its bytes are not what was written; restore an older version of {self.location.url(key)}, then run 'recon verify'"
        )

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0:
            raise WrongUsage(f"{path}: a range of {length} bytes from {offset} is no range; both count from 0")
        # A length from a damaged index must not become an allocation.
        if (not length or length > PIECE_BYTES) and offset + length > (there := self.size(path)):
            raise _cut_short(path, offset, length, there)
        if length > PIECE_BYTES:
            return b"".join(self._pieces(path, offset, offset + length))
        return self._range(path, offset, length) if length else b""

    def _range(self, path: str, offset: int, length: int) -> bytes:
        key = self._key(path)

        def get(session: Session) -> bytes:
            return session.bucket.get_range(key, start=offset, length=length).to_bytes()

        try:
            found = self._reading(path, lambda: self._requests.send("GetObject", key, get, received=len))
        except Refused:
            raise _cut_short(path, offset, length, self.size(path)) from None
        if len(found) != length:
            raise _cut_short(path, offset, length, offset + len(found))
        return found

    def _pieces(self, path: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes from ``start`` to ``end``, in order; several pieces are read in parallel, and memory holds no more than these."""
        with ThreadPoolExecutor(multipart.AT_ONCE) as readers:
            waves = range(start, end, PIECE_BYTES * multipart.AT_ONCE)
            for wave in waves:
                places = range(wave, min(end, wave + PIECE_BYTES * multipart.AT_ONCE), PIECE_BYTES)
                yield from readers.map(lambda place: self._range(path, place, min(PIECE_BYTES, end - place)), places)

    def size(self, path: str) -> int:
        return int(self._head(path)["size"])

    def modified(self, path: str) -> datetime:
        return self._head(path)["last_modified"]

    def version(self, path: str) -> str:
        found = self._head(path)
        return f"{found['size']} {found['last_modified'].isoformat()} {found['e_tag'] or ''}".rstrip()

    def _head(self, path: str) -> ObjectMeta:
        key = self._key(path)
        return self._reading(path, lambda: self._requests.send("HeadObject", key, lambda session: session.bucket.head(key)))

    def _reading(self, path: str, read: Callable[[], T]) -> T:
        """The result of ``read``. Raises NotFound, and Refused where the object is shorter."""
        try:
            return read()
        except Refused as refused:
            if refused.failure.not_found:
                raise NotFound(f"{path}: does not exist in {self.location}") from None
            raise

    def exists(self, path: str) -> bool:
        try:
            self.size(path)
        except NotFound:
            return False
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """See ObjectStore. Keys whose names ``put_new`` would refuse were not put here and are left out."""
        for path, _ in self.sizes(prefix):
            yield path

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        folder = prefix.removesuffix("/")
        if folder:
            check_path(folder)
        # Sorted here, as not all services with this protocol sort by the whole key.
        yield from sorted(self._listed(folder))

    def _listed(self, folder: str) -> Iterator[tuple[str, int]]:
        below = self.location.below
        for key, size in self._keys((below + folder).removesuffix("/") or None):
            path = key.removeprefix(below)
            with suppress(WrongUsage):
                if key.startswith(below) and path != folder:
                    yield check_path(path), size

    def _keys(self, prefix: str | None) -> Iterator[tuple[str, int]]:
        """Page by page; a page that fails is requested again, after the last key that was received."""
        from obstore.exceptions import InvalidPathError

        pages: Iterator[Any] | None = None
        last: str | None = None

        def page(session: Session) -> list[tuple[str, int]] | None:
            nonlocal pages
            if pages is None:
                pages = iter(session.bucket.list(prefix, offset=last, chunk_size=PAGE_KEYS))
            try:
                found = next(pages, None)
            except InvalidPathError:  # a key that is not ours, such as a//b, which obstore does not know; boto3 lists it
                return _page_of_any_keys(session, self.location.bucket, prefix, last)
            except Exception:
                pages = None
                raise
            return None if found is None else [(str(entry["path"]), int(entry["size"])) for entry in found]

        while True:
            keys = self._requests.send("ListObjectsV2", prefix or "", page)
            if keys:
                yield from keys
                last = keys[-1][0]
            if keys is None or len(keys) < PAGE_KEYS:
                return

    def empty(self) -> bool:
        return next(self._keys(self.location.prefix or None), None) is None

    def delete(self, path: str) -> None:
        key = self._key(path)
        with suppress(Refused):
            self._requests.send("DeleteObject", key, lambda session: session.bucket.delete(key))

    def copy_in(self, path: str, local: Path) -> int:
        with local_pieces(local) as pieces:
            return self.put_new(path, pieces)

    def copy_out(self, path: str, local: Path) -> int:
        size = self.size(path)
        return copy_to_file(self._pieces(path, 0, size) if size > PIECE_BYTES else (self.get(path),), local)

    def local(self, path: str) -> Path | None:
        return None

    def _key(self, path: str) -> str:
        key = self.location.below + check_path(path)
        if len(key.encode()) > KEY_LENGTH_MAX_BYTES:
            raise WrongUsage(f"store path {path[:77]!r}: with the prefix it is longer than the {KEY_LENGTH_MAX_BYTES} bytes of a key")
        return key


def _page_of_any_keys(session: Session, bucket: str, prefix: str | None, last: str | None) -> list[tuple[str, int]]:
    """Keys and sizes after the key ``last``: a whole page, or the rest."""
    given = {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else "", **({"StartAfter": last} if last else {})}
    found = session.client.list_objects_v2(**given, MaxKeys=PAGE_KEYS).get("Contents", [])
    return [(one["Key"], int(one["Size"])) for one in found]


def _length(answer: tuple[bytes | None, int, str]) -> int:
    return len(answer[0] or b"")


def _cut_short(path: str, offset: int, length: int, there: int) -> Damaged:
    return Damaged(
        f"{path}: cut short: {length} bytes expected from offset {offset}, {max(0, there - offset)} are there; "
        "restore the file from a backup, then run 'recon verify'"
    )
