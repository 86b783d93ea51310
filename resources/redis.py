"""The cache of a reconciliation's records as a Dagster resource; dagster-aws reads its password from Secrets Manager."""

from __future__ import annotations

import warnings
from pathlib import Path

import dagster as dg
from pydantic import Field

from recon.config import load_place
from recon.config.secrets import ReadSecret
from recon.errors import WrongUsage
from recon.storage.cache import RecordCache, cache_of
from recon.storage.open import open_for


def dagster_secret(arn: str) -> str:
    """A secret's text, read by dagster-aws with the standard credential chain. Raises boto3's errors."""
    try:
        from dagster_aws.secretsmanager import SecretsManagerResource
    except ImportError:
        raise WrongUsage("cache: a secret in Secrets Manager needs the aws extra: pip install 'dagster-recon[aws]'") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        secrets = SecretsManagerResource(region_name=arn.split(":")[3] or None, max_attempts=2)
    return str(secrets.get_client().get_secret_value(SecretId=arn)["SecretString"])


class ReconciliationCache(dg.ConfigurableResource[RecordCache]):
    """The cache of a ``recon.yaml``, for assets of your own that look records up. ::

    import dagster as dg
    from recon_dagster import ReconciliationCache

    @dg.asset
    def has_a_cache(cache: ReconciliationCache) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"cache": cache.open() is not None})

    defs = dg.Definitions(assets=[has_a_cache], resources={"cache": ReconciliationCache(config_file="/srv/recon.yaml")})
    """

    config_file: str = Field(description="The recon.yaml, by its absolute path.")

    def open(self, read_secret: ReadSecret = dagster_secret) -> RecordCache | None:
        """The cache; None if the file has none or the store is a folder. Raises WrongUsage if there is no store yet."""
        return cache_of(open_for(load_place(Path(self.config_file)), read_secret=read_secret))
