"""Places of files that a request names."""

from __future__ import annotations

from recon.errors import WrongUsage

S3 = "s3://"


def bucket_and_key(path: str) -> tuple[str, str]:
    """Of an object. Raises WrongUsage for a place that names none."""
    bucket, _, key = path.removeprefix(S3).partition("/")
    if not bucket or not key or key.endswith("/"):
        raise WrongUsage(f"{path} names no object; write s3://bucket/folder/name.csv")
    return bucket, key
