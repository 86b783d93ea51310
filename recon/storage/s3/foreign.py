"""Objects that other programs put into S3, read by their exact keys.

obstore knows no key with an empty or a dotted part, such as ``a//b.csv``: one such key stops its listing, and it drops a slash at either
end. So these requests are boto3's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from recon.config.settings import S3Settings
from recon.errors import Damaged
from recon.metering.meter import Meter
from recon.storage.disk_errors import copy_to_file
from recon.storage.port import NotFound
from recon.storage.s3.requests import Refused, Requests
from recon.storage.s3.session import Location, Session, location_of

PIECE_BYTES = 16 << 20
PAGE_KEYS = 1000


@dataclass(frozen=True)
class Listed:
    """An object of a listing. ``path``: its key below the location, exactly. ``version``: as ``ForeignObjects.version``."""

    path: str
    size: int
    version: str


class ForeignObjects:
    """The objects below ``s3://bucket/prefix``. Sends no request when it is made. Raises WrongUsage and TryAgain as S3Store does."""

    def __init__(self, location: str, settings: S3Settings | None = None, meter: Meter | None = None) -> None:
        self.location: Location = location_of(location)
        self._requests = Requests(self.location, settings or S3Settings(), meter)

    def listed(self, prefix: str = "") -> Iterator[Listed]:
        """All objects below a folder, in the service's order; with "" all below the location. What consoles make to show a folder, an
        empty object whose key ends in a slash, is left out."""
        below = self.location.below + (f"{prefix.removesuffix('/')}/" if prefix else "")
        given: dict[str, Any] = {"Bucket": self.location.bucket, "Prefix": below, "MaxKeys": PAGE_KEYS}
        while True:
            page = self._requests.send("ListObjectsV2", below, lambda session: session.client.list_objects_v2(**given))
            for one in page.get("Contents", []):
                if not (one["Key"].endswith("/") and one["Size"] == 0):
                    path = one["Key"].removeprefix(self.location.below)
                    yield Listed(path, int(one["Size"]), _version(one["Size"], one["LastModified"], one.get("ETag")))
            if not page.get("IsTruncated"):
                return
            given["ContinuationToken"] = page["NextContinuationToken"]

    def size(self, path: str) -> int:
        """Bytes. Raises NotFound."""
        return int(self._head(path)["ContentLength"])

    def modified(self, path: str) -> datetime:
        """When the object was written. Raises NotFound."""
        found: datetime = self._head(path)["LastModified"]
        return found

    def version(self, path: str) -> str:
        """A text that is another one after the object was replaced. Raises NotFound."""
        head = self._head(path)
        return _version(head["ContentLength"], head["LastModified"], head.get("ETag"))

    def copy_out(self, path: str, local: Path) -> int:
        """Copies the object into a new local file; returns its size. Raises NotFound, Damaged where it became shorter meanwhile, and
        TryAgain where the file can't be written."""
        size = self.size(path)
        pieces = (self._piece(path, start, min(size, start + PIECE_BYTES)) for start in range(0, size, PIECE_BYTES))
        return copy_to_file(pieces, local)

    def _piece(self, path: str, start: int, end: int) -> bytes:
        given = {**self._place(path), "Range": f"bytes={start}-{end - 1}"}

        def get(session: Session) -> bytes:
            body: bytes = session.client.get_object(**given)["Body"].read()
            return body

        try:
            found = self._requests.send("GetObject", given["Key"], get, received=len)
        except Refused as refused:
            if refused.failure.not_found:
                raise self._missing(path) from None
            found = b""
        if len(found) != end - start:
            raise Damaged(f"{self.location.url(given['Key'])}: it became shorter while it was read; run the same again")
        return found

    def _head(self, path: str) -> dict[str, Any]:
        place = self._place(path)

        def head(session: Session) -> dict[str, Any]:
            answer: dict[str, Any] = session.client.head_object(**place)
            return answer

        try:
            return self._requests.send("HeadObject", place["Key"], head)
        except Refused:
            raise self._missing(path) from None

    def _place(self, path: str) -> dict[str, str]:
        return {"Bucket": self.location.bucket, "Key": self.location.below + path}

    def _missing(self, path: str) -> NotFound:
        return NotFound(f"{path}: does not exist in {self.location}")


def _version(size: int, modified: datetime, tag: str | None) -> str:
    return f"{size} {modified.isoformat()} {tag or ''}".rstrip()
