"""Connections to Redis: TLS, timeouts and credentials, which are read on connecting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recon.config.secrets import ReadSecret, boto3_secret, credentials
from recon.errors import WrongUsage

if TYPE_CHECKING:
    from recon.config.settings import Cache


def connected(settings: Cache, read_secret: ReadSecret = boto3_secret) -> Any:
    """A client, which connects with its first request. Raises WrongUsage where the library or the secret is missing."""
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.maint_notifications import MaintNotificationsConfig
        from redis.retry import Retry
    except ImportError:
        raise WrongUsage("cache: Redis needs the aws extra: pip install 'dagster-recon[aws]'") from None
    given = credentials("cache", settings.user, settings.secret, read_secret)
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
