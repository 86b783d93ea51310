"""Connecting to Redis: TLS, timeouts, and who asks. The secret is read when it is needed, and is in no file, log, error or metadata."""

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
"""ARN of a secret → its text, as Secrets Manager keeps it."""


@dataclass(frozen=True)
class Credentials:
    """``user`` None: the default one. The password is not shown by ``repr``."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)


def boto3_secret(arn: str) -> str:
    """A secret's text from Secrets Manager, by the standard chain of credentials. Raises what boto3 raises."""
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
    """User and password as the settings name them; none of either if they name no secret.

    A secret is the password, or JSON with ``password`` and maybe ``username``. Raises WrongUsage naming the secret, never telling it."""
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
        told = json.loads(text)
        return Credentials(settings.user or told.get("username"), told["password"])
    except (ValueError, KeyError):
        raise WrongUsage(f"cache.secret: {settings.secret} is JSON without a password; give it {{username, password}}") from None


def connected(settings: Cache, read_secret: ReadSecret = boto3_secret) -> Any:
    """A client; it connects with the first request. Raises WrongUsage where the library or the secret is missing."""
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
        retry=Retry(NoBackoff(), 0),  # whoever asks has the store to go to
        protocol=2,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        **tls,
    )
