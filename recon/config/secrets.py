"""Users and passwords of services: read from an environment variable or Secrets Manager, never written or shown."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from recon.errors import WrongUsage

ARN = "arn:"
_SECRETS_S_MAX = 2

ReadSecret = Callable[[str], str]
"""ARN of a secret → its text in Secrets Manager."""


@dataclass(frozen=True)
class Credentials:
    """``user`` None: the service's default user. ``repr`` does not show the password."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)


def boto3_secret(arn: str) -> str:
    """A secret's text from Secrets Manager, with the standard credential chain. Raises boto3's errors."""
    try:
        import boto3
        from botocore.config import Config as BotoConfig
    except ImportError:
        raise WrongUsage("a secret in Secrets Manager needs the aws extra: pip install 'dagster-recon[aws]'") from None
    # arn:aws:secretsmanager:<region>:<account>:secret:<name>
    region = arn.split(":")[3] or None
    once = BotoConfig(connect_timeout=_SECRETS_S_MAX, read_timeout=_SECRETS_S_MAX, retries={"total_max_attempts": 2})
    return str(boto3.client("secretsmanager", region_name=region, config=once).get_secret_value(SecretId=arn)["SecretString"])


def credentials(section: str, user: str | None, secret: str | None, read_secret: ReadSecret = boto3_secret) -> Credentials:
    """User and password for a section of the configuration; no password where it names no ``secret``.

    A secret is the password, or JSON with ``password`` and optionally ``username``. Raises WrongUsage with the secret's name, never its
    value."""
    if secret is None:
        return Credentials(user)
    if secret.startswith(ARN):
        text = read_secret(secret)
    elif (found := os.environ.get(secret)) is not None:
        text = found
    else:
        raise WrongUsage(f"{section}.secret: there is no environment variable {secret}; set it to the password")
    if not text.lstrip().startswith("{"):
        return Credentials(user, text)
    try:
        parsed = json.loads(text)
        return Credentials(user or parsed.get("username"), parsed["password"])
    except (ValueError, KeyError):
        raise WrongUsage(f"{section}.secret: {secret} is JSON without a password; give it {{username, password}}") from None
