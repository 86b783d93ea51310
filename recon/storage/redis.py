"""Connections to Redis: TLS, timeouts and credentials. The secret is read on connecting and never written or shown."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from recon.errors import WrongUsage

if TYPE_CHECKING:
    from recon.config.settings import Cache

ARN = "arn:"
_SECRETS_S_MAX = 2

ReadSecret = Callable[[str], str]
"""ARN of a secret → its text in Secrets Manager."""


@dataclass(frozen=True)
class Credentials:
    """``user`` None: Redis's default user. ``repr`` does not show the password."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)


def boto3_secret(arn: str) -> str:
    """A secret's text from Secrets Manager, with the standard credential chain. Raises boto3's errors."""
    try:
        import boto3
        from botocore.config import Config as BotoConfig
    except ImportError:
        raise WrongUsage("cache: a secret in Secrets Manager needs the aws extra: pip install 'dagster-recon[aws]'") from None
    # arn:aws:secretsmanager:<region>:<account>:secret:<name>
    region = arn.split(":")[3] or None
    once = BotoConfig(connect_timeout=_SECRETS_S_MAX, read_timeout=_SECRETS_S_MAX, retries={"total_max_attempts": 2})
    return str(boto3.client("secretsmanager", region_name=region, config=once).get_secret_value(SecretId=arn)["SecretString"])


def credentials(settings: Cache, read_secret: ReadSecret = boto3_secret) -> Credentials:
    """User and password of the settings; no password where they name no secret.

    A secret is the password, or JSON with ``password`` and optionally ``username``. Raises WrongUsage with the secret's name, never its
    value."""
    if settings.secret is None:
        return Credentials(settings.user)
    if settings.secret.startswith(ARN):
        text = read_secret(settings.secret)
    elif (found := os.environ.get(settings.secret)) is not None:
        text = found
    else:
        raise WrongUsage(f"cache.secret: there is no environment variable {settings.secret}; set it to the password")
    if not text.lstrip().startswith("{"):
        return Credentials(settings.user, text)
    try:
        secret = json.loads(text)
        return Credentials(settings.user or secret.get("username"), secret["password"])
    except (ValueError, KeyError):
        raise WrongUsage(f"cache.secret: {settings.secret} is JSON without a password; give it {{username, password}}") from None


def connected(settings: Cache, read_secret: ReadSecret = boto3_secret) -> Any:
    """A client, which connects with its first request. Raises WrongUsage where the library or the secret is missing."""
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.maint_notifications import MaintNotificationsConfig
        from redis.retry import Retry
    except ImportError:
        raise WrongUsage("cache: Redis needs the aws extra: pip install 'dagster-recon[aws]'") from None
    given = credentials(settings, read_secret)
    timeout_s = settings.timeout_ms / 1000
    tls = {"ssl_ca_certs": settings.certificates, "ssl_check_hostname": True} if settings.url.startswith("rediss://") else {}
    return redis.Redis.from_url(
        settings.url,
        username=given.user,
        password=given.password,
        socket_connect_timeout=timeout_s,
        socket_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),  # the caller can read from the store instead
        protocol=2,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        **tls,
    )
