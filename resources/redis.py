"""The cache in front of a reconciliation's store as Dagster resources: its password through dagster-aws, where Secrets Manager keeps it."""

from __future__ import annotations

import warnings
from pathlib import Path

import dagster as dg

from recon.config import load_place
from recon.errors import WrongUsage
from recon.storage.cache import RecordCache, cache_of
from recon.storage.open import open_for
from recon.storage.redis import ReadSecret


def dagster_secret(arn: str) -> str:
    """A secret's text by dagster-aws' resource, by the standard chain of credentials. Raises what boto3 raises."""
    try:
        from dagster_aws.secretsmanager import SecretsManagerResource
    except ImportError:
        raise WrongUsage("cache: a secret in Secrets Manager needs the aws extra: pip install 'dagster-recon[aws]'") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        secrets = SecretsManagerResource(region_name=arn.split(":")[3] or None, max_attempts=2)
    return str(secrets.get_client().get_secret_value(SecretId=arn)["SecretString"])


class ReconciliationCache(dg.ConfigurableResource[RecordCache]):
    """The cache that a ``recon.yaml`` names, for assets that look records up themselves. ``config_file``: the file's absolute path."""

    config_file: str

    def open(self, read_secret: ReadSecret = dagster_secret) -> RecordCache | None:
        """None where the file names no cache, or the store is a folder. Raises WrongUsage where there is no store yet."""
        return cache_of(open_for(load_place(Path(self.config_file)), read_secret=read_secret))
