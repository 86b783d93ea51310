"""The location of an S3 store, and its clients: bucket, prefix, region, endpoint, credentials."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from recon.config.settings import S3Settings
from recon.errors import ReconError, TryAgain, WrongUsage

if TYPE_CHECKING:
    import boto3
    from obstore.store import S3Credential
    from obstore.store import S3Store as Bucket

KEY_LENGTH_MAX_BYTES = 1024
PREFIX_LENGTH_MAX_BYTES = 500
CONNECT_S_MAX = 5
READ_S_MAX = 30
REQUEST_S_MAX = 600
# boto3 renews credentials at least 10 minutes before they expire, and obstore asks again 5 minutes before the expiry that it gets from
# here: so its credentials are valid for at least 5 minutes.
_CREDENTIALS_VALID = timedelta(minutes=10)
PROFILE = "AWS_PROFILE"
"""Environment: the profile whose credentials and region are used."""
_REGION = "us-east-1"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_DIRECTORY_BUCKET = "--x-s3"
_NEEDED = "S3 stores need the aws extra: pip install 'dagster-recon[aws]'"


@dataclass(frozen=True)
class Location:
    """``s3://bucket/prefix``. ``prefix`` has no slash at either end, and is "" for a whole bucket."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def below(self) -> str:
        return f"{self.prefix}/" if self.prefix else ""

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"


def location_of(text: str) -> Location:
    """Raises WrongUsage for a text that is no bucket and prefix, or a prefix that could be left."""
    from recon.storage.port import check_path

    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    if not _BUCKET.match(bucket) or ".." in bucket or re.fullmatch(r"[0-9.]+", bucket):
        raise WrongUsage(f"store: {text!r}: {bucket!r} is no bucket's name; write s3://bucket/prefix, without user, port or query")
    if bucket.endswith(_DIRECTORY_BUCKET):
        raise WrongUsage(f"store: {text!r}: directory buckets list in no order; name a general purpose bucket")
    prefix = prefix.removesuffix("/")
    if prefix:
        try:
            check_path(prefix)
        except WrongUsage as error:
            raise WrongUsage(f"store: {text!r}: {error}") from None
        if len(prefix.encode()) > PREFIX_LENGTH_MAX_BYTES:
            raise WrongUsage(f"store: its prefix has {len(prefix.encode())} bytes, at most {PREFIX_LENGTH_MAX_BYTES} are allowed")
    return Location(bucket, prefix)


class Session:
    """The clients of one store, configured by the environment when they are made."""

    def __init__(self, location: Location, settings: S3Settings) -> None:
        """Raises WrongUsage where the aws extra, credentials or the profile are missing, TryAgain where credentials can't be renewed."""
        try:
            import boto3
            import botocore.exceptions
            from obstore.store import S3Store as Bucket
        except ImportError:
            raise WrongUsage(f"store {location}: {_NEEDED}") from None
        try:
            session = boto3.Session()
            self.region = session.region_name or _REGION
            self.client = _client(session, self.region, settings)
            self.credentials = _Credentials(session, location)
            self.credentials()
        except botocore.exceptions.ProfileNotFound as error:
            raise WrongUsage(f"store {location}: {error}; set AWS_PROFILE to one that ~/.aws/config has") from None
        except botocore.exceptions.BotoCoreError as error:
            raise WrongUsage(f"store {location}: the AWS configuration can't be used ({type(error).__name__}: {error})") from None
        self.bucket: Bucket = Bucket(
            location.bucket,
            config=_encryption(settings),
            region=self.region,
            credential_provider=self.credentials,
            checksum_algorithm="SHA256",
            disable_bulk_delete=True,
            retry_config={"max_retries": 0},
            client_options=_options(self.client.meta.endpoint_url),
            **_addressed(self.client.meta.endpoint_url, location.bucket),
        )


class _Credentials:
    """Credentials for obstore by boto3's chain: variables, profile, SSO, web identity, container and instance roles."""

    def __init__(self, session: boto3.Session, location: Location) -> None:
        self._location = location
        self.failed: ReconError | None = None
        self._credentials = session.get_credentials()
        if self._credentials is None:
            raise WrongUsage(
                f"store {location}: no AWS credentials are found; set AWS_PROFILE or AWS_ACCESS_KEY_ID, sign in with 'aws sso login', "
                "or run where there is a role"
            )

    def __call__(self) -> S3Credential:
        from botocore.exceptions import BotoCoreError, ClientError

        self.failed = None
        try:
            frozen = self._credentials.get_frozen_credentials()
        except (BotoCoreError, ClientError) as error:
            self.failed = TryAgain(
                f"store {self._location}: AWS credentials can't be renewed ({type(error).__name__}); sign in again, such as with "
                "'aws sso login', then run the same again"
            )
            raise self.failed from None
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_VALID,
        }


def _client(session: boto3.Session, region: str, settings: S3Settings) -> Any:
    """boto3's client without its own retries, which recon.storage.s3.requests makes."""
    from botocore.config import Config

    return session.client(
        "s3",
        region_name=region,
        config=Config(
            retries={"total_max_attempts": 1},
            connect_timeout=CONNECT_S_MAX,
            read_timeout=READ_S_MAX,
            max_pool_connections=settings.requests_at_once,
        ),
    )


def _encryption(settings: S3Settings) -> Any:
    if settings.kms_key is None:
        return {}
    return {"server_side_encryption": "aws:kms", "sse_kms_key_id": settings.kms_key, "sse_bucket_key_enabled": True}


def _addressed(endpoint: str, bucket: str) -> Any:
    """Virtual-hosted addresses for AWS; by path for others, and for buckets with dots, which no certificate covers."""
    url = urlsplit(endpoint)
    if (url.hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn")) and "." not in bucket:
        return {"endpoint": f"{url.scheme}://{bucket}.{url.netloc}", "virtual_hosted_style_request": True}
    return {"endpoint": endpoint, "virtual_hosted_style_request": False}


def _options(endpoint: str) -> Any:
    options: dict[str, Any] = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": f"{CONNECT_S_MAX}s",
        "read_timeout": f"{READ_S_MAX}s",
        "timeout": f"{REQUEST_S_MAX}s",
    }
    if certificates := os.environ.get("AWS_CA_BUNDLE"):
        options["root_certificate"] = Path(certificates).read_bytes()
    return options
