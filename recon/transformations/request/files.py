"""Places of files that a request names, and the buckets of those in S3."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recon.config.settings import S3Settings
from recon.errors import WrongUsage
from recon.storage.open import open_foreign, open_store
from recon.storage.port import ObjectStore

if TYPE_CHECKING:
    from recon.storage.s3 import ForeignObjects

S3 = "s3://"


def bucket_and_key(path: str) -> tuple[str, str]:
    """Of an object. Raises WrongUsage for a place that names none."""
    bucket, _, key = path.removeprefix(S3).partition("/")
    if not bucket or not key or key.endswith("/"):
        raise WrongUsage(f"{path} names no object; write s3://bucket/folder/name.csv")
    return bucket, key


@dataclass(frozen=True)
class Objects:
    """Objects in S3, read and written as the store of the site: ``settings`` are its section ``s3``."""

    settings: S3Settings | None = None

    def bucket(self, name: str) -> ObjectStore:
        """Raises WrongUsage where credentials are missing."""
        return open_store(f"{S3}{name}", Path(), self.settings)

    def at(self, path: str) -> tuple[ObjectStore, str]:
        """The bucket of an object, and the object's key. Raises WrongUsage."""
        bucket, key = bucket_and_key(path)
        return self.bucket(bucket), key

    def of_others(self, path: str) -> tuple[ForeignObjects, str]:
        """The bucket of an object that another program may have put, whatever its key is, and the key. Raises WrongUsage."""
        bucket, key = bucket_and_key(path)
        return open_foreign(f"{S3}{bucket}", self.settings), key


AS_USUAL = Objects()
"""By the default settings."""
